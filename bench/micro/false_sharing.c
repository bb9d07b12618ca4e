/* SPDX-License-Identifier: MIT */
/*
 * false_sharing: do small blocks of different threads share cache lines?
 *
 * After Hoard's cache-thrash and cache-scratch (Berger and others, ASPLOS 2000). Each thread takes a
 * small block, writes every byte of it many times, frees it and takes the next.
 *
 * --passive 0  (cache_thrash) an allocator that hands neighbouring blocks to two threads makes them
 *              share a line from the start.
 * --passive 1  (cache_scratch) the main thread allocates each thread's first block, so these are
 *              neighbours. A thread frees its first block; an allocator that then gives it back to
 *              that thread makes the sharing last.
 *
 * On one core, or with threads that never run at the same time, this shows nothing.
 */
#include "bench.h"

static uint64_t threads = 2, size = 8, writes = 1000, passive, ops = 100000;

static const struct bench_arg args[] = {
	{ "threads", &threads, 1, 1024, "threads" },
	{ "size", &size, 1, BENCH_PAGE, "bytes of a block" },
	{ "writes", &writes, 1, 1u << 30, "times that each byte of a block is written" },
	{ "passive", &passive, 0, 1, "1: first blocks come from the main thread" },
	{ "ops", &ops, 1, UINT64_MAX, "blocks in all" },
};

struct worker {
	pthread_t thread;
	unsigned char *first; /* from the main thread, or NULL */
	uint64_t ops;
} __attribute__((aligned(2 * BENCH_LINE)));

static pthread_barrier_t ready;

static void use(volatile unsigned char *block)
{
	for (uint64_t i = 0; i < size; i++)
		block[i] = 0;
	for (uint64_t n = 0; n < writes; n++)
		for (uint64_t i = 0; i < size; i++)
			block[i] = (unsigned char)(block[i] + 1);
	for (uint64_t i = 0; i < size; i++)
		if (block[i] != (unsigned char)writes)
			bench_die("block %p: overwritten", (void *)block);
}

static unsigned char *take(void)
{
	unsigned char *block = bench_hide(malloc(size));

	if (!block)
		bench_die("malloc(%llu): %s", (unsigned long long)size, strerror(errno));
	return block;
}

static void *run(void *arg)
{
	struct worker *w = arg;

	pthread_barrier_wait(&ready);
	free(w->first);
	for (uint64_t i = 0; i < w->ops; i++) {
		unsigned char *block = take();

		use(block);
		free(block);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct bench_section section;
	struct worker *workers;

	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	workers = bench_table(threads, sizeof(*workers));
	pthread_barrier_init(&ready, NULL, (unsigned)threads + 1);
	for (uint64_t t = 0; t < threads; t++) {
		workers[t].first = passive ? take() : NULL;
		workers[t].ops = ops / threads + (t < ops % threads);
	}
	for (uint64_t t = 0; t < threads; t++)
		workers[t].thread = bench_thread(run, &workers[t]);

	section = bench_begin();
	pthread_barrier_wait(&ready);
	for (uint64_t t = 0; t < threads; t++)
		bench_join(workers[t].thread);
	section = bench_end(section);

	bench_report("false_sharing", ops, section, NULL, 0);
	return 0;
}
