/* SPDX-License-Identifier: MIT */
/*
 * memory: how much memory does a program hold against what it has live, over time, and when does it
 * give back what it has freed?
 *
 * Threads fill slots with blocks of 16 B to 64 KiB (each octave equally often), every page of them
 * written, until `live` bytes live in all; replace blocks at random; free nine tenths of them; free
 * the rest; and stay. A housekeeper's tick comes every 100 ms from then on: each thread allocates and
 * frees 100 small blocks, since many allocators give memory back only when they are called.
 *
 * At each step, and so many seconds after the last free as `after` says, one line of the series:
 * seconds, bytes live, resident KiB and KiB on huge pages by the page tables, and KiB that the
 * cgroup is charged with beyond what it was charged at the start. Where the process is in no cgroup
 * of its own it is the machine's MemFree that is compared, and `group` in the report says so. The
 * cgroup's figure holds whatever else runs in it: run it alone.
 */
#include "bench.h" /* first: it asks libc for everything */

#include "charge.h"

static uint64_t threads = 2, live = 128u << 20, replaced = 1, wait_s = 10;

static const struct bench_arg args[] = {
	{ "threads", &threads, 1, 1024, "threads" },
	{ "live", &live, 1u << 20, 1ull << 40, "bytes asked for that live at the height" },
	{ "replaced", &replaced, 0, 1000, "times that the number of blocks is replaced" },
	{ "wait", &wait_s, 0, 100000, "seconds after the last free: 0.1, 1.5, 10 and 120 up to it" },
};

#define SMALLEST 16u
#define LARGEST 65536u
#define TICK_MS 100u
#define TICK_BLOCKS 100

enum step { FILL, REPLACE, SHRINK, DROP, TICK, STOP };

struct worker {
	pthread_t thread;
	struct bench_rng rng;
	struct bench_set set;
	uint64_t room;
} __attribute__((aligned(2 * BENCH_LINE)));

static struct worker *workers;
static enum step step; /* written by the main thread between `done` and `begin` */
static pthread_barrier_t begin, done;

/* ---- the threads' steps ----------------------------------------------------------------------- */

static void fill(struct worker *w)
{
	while (w->set.bytes < live / threads && w->set.count < w->room)
		bench_set_add(&w->set, bench_size_log(&w->rng, SMALLEST, LARGEST));
}

static void tick(struct worker *w)
{
	void *block[TICK_BLOCKS];
	uint32_t size[TICK_BLOCKS];

	for (int i = 0; i < TICK_BLOCKS; i++) {
		size[i] = bench_size(&w->rng, 16, 256);
		block[i] = bench_alloc(size[i], size[i]);
	}
	for (int i = 0; i < TICK_BLOCKS; i++)
		bench_free(block[i], size[i]);
}

static void take_step(struct worker *w)
{
	uint64_t n;

	switch (step) {
	case FILL:
		fill(w);
		break;
	case REPLACE:
		for (n = replaced * w->set.count; n > 0; n--) {
			bench_set_free(&w->set, bench_below(&w->rng, w->set.count));
			fill(w);
		}
		break;
	case SHRINK:
		for (n = w->set.count / 10 * 9; n > 0; n--)
			bench_set_free(&w->set, bench_below(&w->rng, w->set.count));
		break;
	case DROP:
		while (w->set.count > 0)
			bench_set_free(&w->set, w->set.count - 1);
		break;
	case TICK:
		tick(w);
		break;
	case STOP:
		break;
	}
}

static void *run(void *arg)
{
	struct worker *w = arg;

	for (;;) {
		pthread_barrier_wait(&begin);
		if (step == STOP)
			return NULL;
		take_step(w);
		pthread_barrier_wait(&done);
	}
}

static void all_take(enum step what)
{
	step = what;
	pthread_barrier_wait(&begin);
	if (what != STOP)
		pthread_barrier_wait(&done);
}

/* ---- the series ------------------------------------------------------------------------------- */

static struct bench_text series;
static uint64_t start_ns;
static int64_t start_group;

static struct bench_memory sample(const char *what)
{
	struct bench_memory m = bench_memory();
	uint64_t bytes = 0;

	for (uint64_t t = 0; t < threads; t++)
		bytes += workers[t].set.bytes;
	bench_add(&series, "%s[\"%s\",%.3f,%llu,%llu,%llu,%lld]", series.used ? "," : "", what,
		  (double)(bench_clock_ns() - start_ns) / 1e9, (unsigned long long)bytes,
		  (unsigned long long)m.rss_kib, (unsigned long long)m.huge_kib,
		  (long long)(group_kib() - start_group));
	return m;
}

static void wait_ticking(uint64_t until_ns)
{
	while (bench_clock_ns() < until_ns) {
		uint64_t left = until_ns - bench_clock_ns();
		struct timespec pause = { 0, TICK_MS * 1000000 };

		if (left < TICK_MS * 1000000)
			pause.tv_nsec = (long)left;
		nanosleep(&pause, NULL);
		all_take(TICK);
	}
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name, *key;
		uint64_t ms;
	} after[] = {
		{ "0.1 s after", "rss_kib_after_0_1s", 100 },
		{ "1.5 s after", "rss_kib_after_1_5s", 1500 },
		{ "10 s after", "rss_kib_after_10s", 10000 },
		{ "120 s after", "rss_kib_after_120s", 120000 },
	};
	static struct bench_text extra;
	struct bench_figure figures[3 + sizeof(after) / sizeof(after[0])];
	struct bench_memory before, m;
	struct bench_section section;
	uint64_t dropped;
	int n = 0;

	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	bench_touch = BENCH_PAGES;
	workers = bench_table(threads, sizeof(*workers));
	pthread_barrier_init(&begin, NULL, (unsigned)threads + 1);
	pthread_barrier_init(&done, NULL, (unsigned)threads + 1);
	for (uint64_t t = 0; t < threads; t++) {
		workers[t].room = live / threads / 1024 + 1024; /* blocks are 10 KiB in the mean */
		workers[t].set.table = bench_table(workers[t].room, sizeof(void *));
		workers[t].rng = bench_seed(bench_seed_arg, t);
		workers[t].thread = bench_thread(run, &workers[t]);
	}
	find_group();
	start_group = group_kib();
	start_ns = bench_clock_ns();
	before = sample("start");

	section = bench_begin();
	all_take(FILL);
	m = sample("filled");
	figures[n++] = (struct bench_figure){ "rss_over_live_filled",
					      (double)(m.rss_kib - before.rss_kib) * 1024 /
						      (double)live };
	all_take(REPLACE);
	m = sample("replaced");
	figures[n++] = (struct bench_figure){ "rss_over_live",
					      (double)(m.rss_kib - before.rss_kib) * 1024 /
						      (double)live };
	all_take(SHRINK);
	wait_ticking(bench_clock_ns() + 1500000000u);
	m = sample("a tenth left");
	figures[n++] = (struct bench_figure){ "rss_kib_tenth_left", (double)m.rss_kib };
	all_take(DROP);
	section = bench_end(section);
	dropped = bench_clock_ns();
	for (size_t i = 0; i < sizeof(after) / sizeof(after[0]); i++)
		if (after[i].ms <= 2000 || after[i].ms <= wait_s * 1000) {
			wait_ticking(dropped + after[i].ms * 1000000);
			m = sample(after[i].name);
			figures[n++] = (struct bench_figure){ after[i].key, (double)m.rss_kib };
		}
	all_take(STOP);
	for (uint64_t t = 0; t < threads; t++)
		bench_join(workers[t].thread);

	bench_add(&extra, ",\"group\":\"%s\",\"series\":[%s]",
		  group_path[0] ? group_path : "MemFree", series.at);
	bench_extra = extra.at;
	bench_report("memory", live, section, figures, n);
	return 0;
}
