/* SPDX-License-Identifier: MIT */
/*
 * phases: does memory freed in one phase of a long-running program serve the next one?
 *
 * The program goes through phases, each with a range of sizes of its own. At the start of a phase
 * a random four fifths of all blocks die, of whatever phase; the others stay where they are, for as
 * long as they are lucky. Then blocks of the phase's sizes are allocated until as many bytes are
 * live as before, and as many blocks again are replaced at random.
 */
#include "bench.h"

static uint64_t live = 16u << 20, phases = 20;

static const struct bench_arg args[] = {
	{ "live", &live, 1u << 20, 1ull << 36, "bytes asked for that live at the end of a phase" },
	{ "phases", &phases, 1, UINT32_MAX, "phases" },
};

#define SMALLEST 16u
#define DYING 80u /* percent */

static const struct {
	uint32_t min, max;
} ranges[] = {
	{ 16, 64 },    { 512, 2048 }, { 48, 256 },	 { 4096, 32768 }, { 24, 1024 },
	{ 256, 512 },  { 16, 4096 },  { 16384, 131072 }, { 64, 128 },	  { 1024, 16384 },
};

static struct bench_set set;
static struct bench_rng rng;

static void add(uint64_t phase)
{
	uint64_t range = phase % (sizeof(ranges) / sizeof(ranges[0]));

	bench_set_add(&set, bench_size(&rng, ranges[range].min, ranges[range].max));
}

static void take_out(void)
{
	bench_set_free(&set, bench_below(&rng, set.count));
}

int main(int argc, char **argv)
{
	struct bench_section section;
	struct bench_memory memory;
	uint64_t allocated = 0;

	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	set.table = bench_table(live / SMALLEST + 1, sizeof(void *));
	rng = bench_seed(bench_seed_arg, 0);

	section = bench_begin();
	for (uint64_t phase = 0; phase < phases; phase++) {
		uint64_t dying = set.count * DYING / 100, fresh = 0;

		while (dying-- > 0)
			take_out();
		for (; set.bytes < live; fresh++)
			add(phase);
		allocated += 2 * fresh;
		while (fresh-- > 0) {
			take_out();
			if (set.bytes < live)
				add(phase);
		}
	}
	section = bench_end(section);
	memory = bench_memory();

	while (set.count > 0)
		bench_set_free(&set, set.count - 1);
	bench_report("phases", allocated, section,
		     (const struct bench_figure[]){
			     { "rss_kib", (double)memory.rss_kib },
			     { "rss_over_live", (double)memory.rss_kib * 1024 / (double)live },
		     },
		     2);
	return 0;
}
