/* SPDX-License-Identifier: MIT */
/*
 * idle: how much memory does a thread cost that has a few blocks and sleeps?
 *
 * Each thread allocates some blocks of 40 sizes, from 16 B to 13.5 KiB in steps of a quarter
 * octave (85 KiB for one of each), writes every page of them and sleeps. Memory is measured while
 * all of them sleep, from the page tables, less what the process had before the first thread.
 * A thread's stack is in the figure: it is the same under every allocator.
 */
#include "bench.h"

#define SIZES 40

static uint64_t threads = 1000, blocks = 1, settle_ms = 200;

static const struct bench_arg args[] = {
	{ "threads", &threads, 1, 30000, "threads asleep at the same time" },
	{ "blocks", &blocks, 1, 1000, "blocks of each size a thread has" },
	{ "settle", &settle_ms, 0, 600000, "milliseconds from the last block to the measurement" },
};

static pthread_barrier_t allocated, measured;
static void **table; /* thread t's blocks: t * blocks * SIZES and on */

static uint32_t size_of(uint64_t i)
{
	/* 2^(q/4) times 16, rounded: no libm */
	static const uint32_t quarter[] = { 16, 19, 23, 27 };

	return quarter[i % 4] << (i / 4);
}

static void *run(void *arg)
{
	void **mine = arg;

	for (uint64_t b = 0; b < blocks; b++)
		for (uint64_t i = 0; i < SIZES; i++)
			mine[b * SIZES + i] = bench_alloc(size_of(i), (uint32_t)i);
	pthread_barrier_wait(&allocated);
	pthread_barrier_wait(&measured);
	for (uint64_t b = 0; b < blocks; b++)
		for (uint64_t i = 0; i < SIZES; i++)
			bench_free(mine[b * SIZES + i], (uint32_t)i);
	return NULL;
}

int main(int argc, char **argv)
{
	struct bench_memory before, asleep;
	struct bench_section section;
	struct timespec settle;
	pthread_t *thread;
	uint64_t asked = 0;
	double each;

	bench_touch = BENCH_PAGES;
	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	for (uint64_t i = 0; i < SIZES; i++)
		asked += blocks * size_of(i);
	table = bench_table(threads * blocks * SIZES, sizeof(*table));
	thread = bench_table(threads, sizeof(*thread));
	pthread_barrier_init(&allocated, NULL, (unsigned)threads + 1);
	pthread_barrier_init(&measured, NULL, (unsigned)threads + 1);
	before = bench_memory();

	section = bench_begin();
	for (uint64_t t = 0; t < threads; t++)
		thread[t] = bench_thread(run, &table[t * blocks * SIZES]);
	pthread_barrier_wait(&allocated);
	section = bench_end(section);

	settle = (struct timespec){ (time_t)(settle_ms / 1000),
				    (long)(settle_ms % 1000) * 1000000 };
	nanosleep(&settle, NULL);
	asleep = bench_memory();
	pthread_barrier_wait(&measured);
	for (uint64_t t = 0; t < threads; t++)
		bench_join(thread[t]);

	each = ((double)asleep.rss_kib - (double)before.rss_kib) / (double)threads;
	bench_report("idle", threads * blocks * SIZES, section,
		     (const struct bench_figure[]){
			     { "rss_kib_per_thread", each },
			     { "asked_kib_per_thread", (double)asked / 1024 },
			     { "rss_kib", (double)asleep.rss_kib },
			     { "huge_kib", (double)asleep.huge_kib },
		     },
		     4);
	return 0;
}
