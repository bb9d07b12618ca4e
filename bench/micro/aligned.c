/* SPDX-License-Identifier: MIT */
/*
 * aligned: what does a block of a chosen alignment cost, and what memory?
 *
 * random_mixed with posix_memalign: each block has an alignment from 16 to 4,096 bytes, each power
 * of two equally often, and a random size. Every address is checked.
 *
 * Sizes are odd: Debian's mimalloc 2.0.9 returns misaligned blocks where the size is a multiple of
 * the alignment, and would have no figure at all.
 */
#include "bench.h"

static uint64_t slots = 8192, min = 16, max = 4096, max_alignment = 4096, ops = 5000000;

static const struct bench_arg args[] = {
	{ "slots", &slots, 1, 1u << 28, "slots of the working set" },
	{ "min", &min, BENCH_MIN_BLOCK, UINT32_MAX, "smallest block, bytes" },
	{ "max", &max, BENCH_MIN_BLOCK, UINT32_MAX, "largest block, bytes" },
	{ "alignment", &max_alignment, 16, 1u << 30, "largest alignment" },
	{ "ops", &ops, 1, UINT64_MAX, "operations; one is an allocation or a free" },
};

int main(int argc, char **argv)
{
	struct bench_section section;
	struct bench_rng rng;
	uint64_t powers = 1;
	void **table;

	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	if (max < min)
		bench_die("--max is below --min");
	while (16ull << powers <= max_alignment)
		powers++;
	table = bench_table(slots, sizeof(*table));
	rng = bench_seed(bench_seed_arg, 0);

	section = bench_begin();
	for (uint64_t i = 0; i < ops; i++) {
		uint32_t slot = bench_below(&rng, slots);

		if (table[slot]) {
			bench_free(table[slot], slot);
			table[slot] = NULL;
		} else {
			size_t alignment = (size_t)16 << bench_below(&rng, powers);
			uint32_t size = bench_size(&rng, min, max) | 1;
			void *block = NULL;

			if (posix_memalign(&block, alignment, size))
				bench_die("posix_memalign(%zu, %u) has failed", alignment, size);
			block = bench_hide(block);
			if ((uintptr_t)block % alignment)
				bench_die("posix_memalign(%zu, %u) returned %p", alignment, size,
					  block);
			bench_write(block, size, slot);
			table[slot] = block;
		}
	}
	section = bench_end(section);

	for (uint64_t slot = 0; slot < slots; slot++)
		if (table[slot])
			bench_free(table[slot], (uint32_t)slot);
	bench_report("aligned", ops, section, NULL, 0);
	return 0;
}
