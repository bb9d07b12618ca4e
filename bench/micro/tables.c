/* SPDX-License-Identifier: MIT */
/*
 * tables: what does calloc of large tables cost, when a part of each is used?
 *
 * Tables of 64 KiB to 16 MiB, each octave equally often, some of them live at a time. Each is checked
 * to be zero at, and written at, one random place of every 16 KiB, as a sparse hash table is. The
 * memory of freed tables, which is dirty, comes back in later ones.
 */
#include "bench.h"

static uint64_t slots = 8, min = 64 * 1024, max = 16u << 20, step = 16 * 1024, ops = 1000;

static const struct bench_arg args[] = {
	{ "slots", &slots, 1, 1u << 20, "tables that live at a time" },
	{ "min", &min, 4096, 1u << 31, "smallest table, bytes" },
	{ "max", &max, 4096, 1u << 31, "largest table, bytes" },
	{ "step", &step, 16, 1u << 31, "one write in that many bytes" },
	{ "ops", &ops, 1, UINT64_MAX, "tables in all" },
};

struct table {
	uint64_t *word;
	uint32_t size;
};

static void use(struct table *t, struct bench_rng *rng)
{
	for (uint64_t from = 0; from + step <= t->size; from += step) {
		uint64_t *word = &t->word[(from + bench_below(rng, step)) / sizeof(*word)];

		if (*word)
			bench_die("calloc(1, %u) returned %p with %#llx at byte %llu", t->size,
				  (void *)t->word, (unsigned long long)*word,
				  (unsigned long long)(word - t->word) * sizeof(*word));
		*word = (uint64_t)(uintptr_t)word;
	}
}

int main(int argc, char **argv)
{
	struct bench_section section;
	struct bench_rng rng;
	struct table *table;

	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	if (max < min)
		bench_die("--max is below --min");
	table = bench_table(slots, sizeof(*table));
	rng = bench_seed(bench_seed_arg, 0);

	section = bench_begin();
	for (uint64_t i = 0; i < ops; i++) {
		struct table *t = &table[bench_below(&rng, slots)];

		free(t->word);
		t->size = bench_size_log(&rng, min, max);
		t->word = bench_hide(calloc(1, t->size));
		if (!t->word)
			bench_die("calloc(1, %u): %s", t->size, strerror(errno));
		use(t, &rng);
	}
	section = bench_end(section);

	for (uint64_t s = 0; s < slots; s++)
		free(table[s].word);
	bench_report("tables", ops, section, NULL, 0);
	return 0;
}
