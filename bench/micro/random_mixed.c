/* SPDX-License-Identifier: MIT */
/*
 * random_mixed: what does one malloc or one free cost in a single thread, when blocks of mixed
 * small sizes die in random order?
 *
 * Each operation picks a random slot. A full slot's block is read and freed; an empty slot gets a
 * block of random size, which is written. About half of the slots are full at any time. The number
 * of slots is the working set: 256 stays in the first-level cache, 8,192 in the second, 200,000
 * in neither.
 */
#include "bench.h"

static uint64_t slots = 8192, min = 16, max = 1040, ops = 20000000;

static const struct bench_arg args[] = {
	{ "slots", &slots, 1, 1u << 28, "slots of the working set" },
	{ "min", &min, BENCH_MIN_BLOCK, UINT32_MAX, "smallest block, bytes" },
	{ "max", &max, BENCH_MIN_BLOCK, UINT32_MAX, "largest block, bytes" },
	{ "ops", &ops, 1, UINT64_MAX, "operations; one is a malloc or a free" },
};

int main(int argc, char **argv)
{
	struct bench_section section;
	struct bench_rng rng;
	uint64_t span;
	void **table;

	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	if (max < min)
		bench_die("--max is below --min");
	table = bench_table(slots, sizeof(*table));
	rng = bench_seed(bench_seed_arg, 0);
	span = max - min + 1;

	section = bench_begin();
	for (uint64_t i = 0; i < ops; i++) {
		uint64_t bits = bench_next(&rng);
		uint32_t slot = bench_scale((uint32_t)(bits >> 32), slots);

		if (table[slot]) {
			bench_free(table[slot], slot);
			table[slot] = NULL;
		} else {
			table[slot] = bench_alloc(
				(uint32_t)min + bench_scale((uint32_t)bits, span), slot);
		}
	}
	section = bench_end(section);

	for (uint64_t slot = 0; slot < slots; slot++)
		if (table[slot])
			bench_free(table[slot], (uint32_t)slot);
	bench_report("random_mixed", ops, section, NULL, 0);
	return 0;
}
