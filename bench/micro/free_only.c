/* SPDX-License-Identifier: MIT */
/*
 * free_only: what does a block cost that is freed by a thread that never allocates?
 *
 * The main thread allocates a batch of blocks and lets the threads free it, each its share, which
 * are every n-th block: neighbours are freed by different threads. Then the next batch. The threads
 * live from the first batch to the last and never call malloc.
 */
#include "bench.h"

static uint64_t threads = 2, min = 16, max = 1040, batch = 20000, ops = 10000000;

static const struct bench_arg args[] = {
	{ "threads", &threads, 1, 1024, "threads that free" },
	{ "min", &min, BENCH_MIN_BLOCK, UINT32_MAX, "smallest block, bytes" },
	{ "max", &max, BENCH_MIN_BLOCK, UINT32_MAX, "largest block, bytes" },
	{ "batch", &batch, 1, 1u << 24, "blocks of a batch" },
	{ "ops", &ops, 1, UINT64_MAX, "blocks in all; one is a malloc and a free" },
};

static void **table;	/* written by the main thread between `freed` and `filled` */
static uint64_t filled_blocks; /* of the table; 0 ends the threads. Guarded like the table */
static pthread_barrier_t filled, freed;

static void *run(void *arg)
{
	uint64_t mine = (uint64_t)(uintptr_t)arg;

	for (;;) {
		pthread_barrier_wait(&filled);
		if (filled_blocks == 0)
			return NULL;
		for (uint64_t i = mine; i < filled_blocks; i += threads)
			bench_free(table[i], (uint32_t)i);
		pthread_barrier_wait(&freed);
	}
}

int main(int argc, char **argv)
{
	struct bench_section section;
	struct bench_rng rng;
	pthread_t *thread;

	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	if (max < min)
		bench_die("--max is below --min");
	table = bench_table(batch, sizeof(*table));
	thread = bench_table(threads, sizeof(*thread));
	pthread_barrier_init(&filled, NULL, (unsigned)threads + 1);
	pthread_barrier_init(&freed, NULL, (unsigned)threads + 1);
	rng = bench_seed(bench_seed_arg, 0);
	for (uint64_t t = 0; t < threads; t++)
		thread[t] = bench_thread(run, (void *)(uintptr_t)t);

	section = bench_begin();
	for (uint64_t left = ops; left > 0; left -= filled_blocks) {
		filled_blocks = left < batch ? left : batch;
		for (uint64_t i = 0; i < filled_blocks; i++)
			table[i] = bench_alloc(bench_size(&rng, min, max), (uint32_t)i);
		pthread_barrier_wait(&filled);
		pthread_barrier_wait(&freed);
	}
	section = bench_end(section);

	filled_blocks = 0;
	pthread_barrier_wait(&filled);
	for (uint64_t t = 0; t < threads; t++)
		bench_join(thread[t]);
	bench_report("free_only", ops, section, NULL, 0);
	return 0;
}
