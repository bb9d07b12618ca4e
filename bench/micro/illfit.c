/* SPDX-License-Identifier: MIT */
/*
 * illfit: what do blocks cost whose sizes lie just above an allocator's classes?
 *
 * A working set of blocks of one size, or of two in turn, is built and then replaced at random, as
 * often as there are turns. With --drift the sizes grow by so much after every turn but the first.
 * At the end the process's memory is set against what was asked for.
 */
#include "bench.h"

static uint64_t live = 256u << 20, first = 33296, second, drift, turns = 4;

static const struct bench_arg args[] = {
	{ "live", &live, 1u << 20, 1ull << 36, "bytes asked for that live" },
	{ "first", &first, BENCH_MIN_BLOCK, UINT32_MAX / 2, "bytes of a block" },
	{ "second", &second, 0, UINT32_MAX / 2, "of every other block; 0: the same" },
	{ "drift", &drift, 0, UINT32_MAX / 1024, "bytes that they grow by after a turn" },
	{ "turns", &turns, 1, 512, "how often the working set is replaced" },
};

static struct bench_set set;
static uint64_t made;

static void add(uint64_t turn)
{
	uint64_t size = (second && made % 2 ? second : first) + (turn ? turn - 1 : 0) * drift;

	made++;
	bench_set_add(&set, (uint32_t)size);
}

int main(int argc, char **argv)
{
	struct bench_section section;
	struct bench_memory before, after;
	struct bench_rng rng;

	bench_touch = BENCH_PAGES;
	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	set.table = bench_table(live / (second && second < first ? second : first) + 2, sizeof(void *));
	rng = bench_seed(bench_seed_arg, 0);

	before = bench_memory();
	section = bench_begin();
	while (set.bytes < live)
		add(0);
	for (uint64_t turn = 0; turn < turns; turn++)
		for (uint64_t freed = 0; freed < live; freed += first) {
			bench_set_free(&set, bench_below(&rng, set.count));
			while (set.bytes < live)
				add(turn);
		}
	section = bench_end(section);
	after = bench_memory();

	bench_report("illfit", made, section,
		     (const struct bench_figure[]){
			     { "rss_kib", (double)after.rss_kib },
			     { "used_over_asked", (double)(after.anon_kib - before.anon_kib) * 1024 / (double)set.bytes },
		     },
		     2);
	while (set.count > 0)
		bench_set_free(&set, set.count - 1);
	return 0;
}
