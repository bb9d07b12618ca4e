/* SPDX-License-Identifier: MIT */
/*
 * giveback: how much memory does a program hold after it has freed most of what it had, and what does
 * it cost to free and build again?
 *
 * It builds `bytes` of blocks, `keep` percent of which survive, and frees the others: the survivors are
 * those allocated first, as a server's tables are (--random 0), or any (--random 1). Then it sleeps
 * `wait` milliseconds, as an operator would look at it, and its resident set and what its cgroup is
 * charged with are compared with the bytes that survive. With --scans it waits further until khugepaged,
 * which may fill up again what was given back, has been through all memory so often; who may (root)
 * makes it hurry meanwhile.
 *
 * --rounds: the whole is built and freed so often before; that is the section measured.
 */
#include "bench.h" /* first: it asks libc for everything */

#include "charge.h"

#include <sys/file.h>

static uint64_t bytes = 1536u << 20, keep, at_random, wait_ms = 1500, scans, rounds, min = 64, max = 4096;

static const struct bench_arg args[] = {
	{ "bytes", &bytes, 1u << 20, 1ull << 40, "bytes that are built" },
	{ "min", &min, BENCH_MIN_BLOCK, 1u << 30, "smallest block, bytes" },
	{ "max", &max, BENCH_MIN_BLOCK, 1u << 30, "largest block, bytes" },
	{ "keep", &keep, 0, 99, "percent of the bytes that survive" },
	{ "random", &at_random, 0, 1, "0: the first ones survive; 1: any" },
	{ "wait", &wait_ms, 0, 600000, "milliseconds until the look at what is held" },
	{ "scans", &scans, 0, 100, "khugepaged's passes until the second look" },
	{ "rounds", &rounds, 0, 1u << 20, "times that all is built and freed before" },
};

struct state {
	void **table; /* a block's tag is its size */
	uint64_t count, live;
	struct bench_rng rng;
};

static void build(struct state *s, uint64_t until)
{
	while (s->live < until) {
		uint32_t size = bench_size(&s->rng, min, max);

		s->table[s->count++] = bench_alloc(size, size);
		s->live += size;
	}
}

static void drop(struct state *s, uint64_t i)
{
	uint32_t size = *(const uint32_t *)s->table[i]; /* the stamp's low half: the tag, so the size */

	bench_free(s->table[i], size);
	s->live -= size;
	s->table[i] = s->table[--s->count];
}

static void drop_until(struct state *s, uint64_t least)
{
	while (s->live > least)
		drop(s, at_random ? bench_below(&s->rng, s->count) : s->count - 1);
}

/* ---- khugepaged ----------------------------------------------------------------------------- */

#define KHUGEPAGED "/sys/kernel/mm/transparent_hugepage/khugepaged/"

static uint64_t read_setting(const char *name)
{
	char path[128], text[32];

	snprintf(path, sizeof(path), KHUGEPAGED "%s", name);
	return read_text(path, text, sizeof(text)) ? strtoull(text, NULL, 10) : 0;
}

static void write_setting(const char *name, uint64_t value)
{
	char path[128], text[32];
	int fd, length = snprintf(text, sizeof(text), "%llu", (unsigned long long)value);

	snprintf(path, sizeof(path), KHUGEPAGED "%s", name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)!write(fd, text, (size_t)length); /* refused: at its own pace, then */
	close(fd);
}

#define HURRIED_MS 10
#define HURRIED_PAGES 100000

/* It is the machine's: so one process at a time makes it hurry, and what one that was killed has left is
 * put right, to the kernel's defaults. */
static void wait_for_khugepaged(void)
{
	int lock = open(KHUGEPAGED "pages_to_scan", O_RDONLY | O_CLOEXEC);
	uint64_t sleep_ms, pages, end;

	if (lock < 0)
		return;
	flock(lock, LOCK_EX);
	sleep_ms = read_setting("scan_sleep_millisecs");
	pages = read_setting("pages_to_scan");
	/* one pass may be half over */
	end = read_setting("full_scans") + scans + 1;
	write_setting("scan_sleep_millisecs", HURRIED_MS);
	write_setting("pages_to_scan", HURRIED_PAGES);
	while (pages && read_setting("full_scans") < end)
		usleep(10000);
	write_setting("scan_sleep_millisecs", sleep_ms == HURRIED_MS ? 10000 : sleep_ms);
	write_setting("pages_to_scan", pages == HURRIED_PAGES ? 4096 : pages);
	close(lock);
}

int main(int argc, char **argv)
{
	struct state s = { NULL, 0, 0, { 0 } };
	struct bench_section section;
	struct bench_figure figures[8];
	struct bench_memory before, after;
	int64_t charged;
	double live;
	int n = 0;

	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	if (max < min)
		bench_die("--max is below --min");
	enter_group();
	s.table = bench_table(bytes / min + 1, sizeof(void *));
	s.rng = bench_seed(bench_seed_arg, 0);
	before = bench_memory();
	charged = group_kib();

	section = bench_begin();
	for (uint64_t i = 0; i < rounds; i++) {
		build(&s, bytes);
		drop_until(&s, 0);
	}
	section = bench_end(section);

	build(&s, bytes);
	drop_until(&s, bytes / 100 * keep);
	live = (double)s.live / 1024;
	for (int look = 0; look < (scans ? 2 : 1); look++) {
		static const char *const keys[2][4] = {
			{ "rss_kib", "charged_kib", "rss_over_live", "charged_over_live" },
			{ "rss_kib_scanned", "charged_kib_scanned", "rss_over_live_scanned",
			  "charged_over_live_scanned" },
		};
		double rss, charge;

		if (look)
			wait_for_khugepaged();
		else
			usleep((useconds_t)wait_ms * 1000);
		after = bench_memory();
		rss = (double)after.rss_kib - (double)before.rss_kib;
		charge = (double)(group_kib() - charged);
		figures[n++] = (struct bench_figure){ keys[look][0], rss };
		figures[n++] = (struct bench_figure){ keys[look][1], charge };
		if (live >= 1024) {
			figures[n++] = (struct bench_figure){ keys[look][2], rss / live };
			figures[n++] = (struct bench_figure){ keys[look][3], charge / live };
		}
	}
	leave_group();
	bench_report("giveback", rounds ? rounds : 1, section, figures, n);
	return 0;
}
