/* SPDX-License-Identifier: MIT */
/*
 * churn: what does a short thread cost, from its start to its end?
 *
 * Some threads are alive at any time. Each allocates 100 blocks, frees a part of them itself, leaves
 * the others to the main thread and ends. The main thread joins it, frees what it left and starts
 * the next one. So heaps are made and given up all the time, and blocks outlive their thread.
 */
#include "bench.h"

static uint64_t alive = 2, min = 16, max = 1040, blocks = 100, left = 50, ops = 20000;

static const struct bench_arg args[] = {
	{ "alive", &alive, 1, 1024, "threads at any time, beside the main thread" },
	{ "min", &min, BENCH_MIN_BLOCK, UINT32_MAX, "smallest block, bytes" },
	{ "max", &max, BENCH_MIN_BLOCK, UINT32_MAX, "largest block, bytes" },
	{ "blocks", &blocks, 1, 1u << 20, "blocks a thread allocates" },
	{ "left", &left, 0, 100, "percent of them left to the main thread" },
	{ "ops", &ops, 1, UINT64_MAX, "threads in all" },
};

struct worker {
	pthread_t thread;
	uint64_t stream; /* of the random numbers: the number of the thread */
	void **block;
	bool running;
} __attribute__((aligned(2 * BENCH_LINE)));

static void *run(void *arg)
{
	struct worker *w = arg;
	struct bench_rng rng = bench_seed(bench_seed_arg, w->stream);

	for (uint32_t i = 0; i < blocks; i++)
		w->block[i] = bench_alloc(bench_size(&rng, min, max), i);
	for (uint32_t i = 0; i < blocks; i++)
		if (bench_below(&rng, 100) >= left) {
			bench_free(w->block[i], i);
			w->block[i] = NULL;
		}
	return NULL;
}

static void finish(struct worker *w)
{
	if (!w->running)
		return;
	bench_join(w->thread);
	w->running = false;
	for (uint32_t i = 0; i < blocks; i++)
		if (w->block[i])
			bench_free(w->block[i], i);
}

int main(int argc, char **argv)
{
	struct bench_section section;
	struct worker *workers;

	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	if (max < min)
		bench_die("--max is below --min");
	workers = bench_table(alive, sizeof(*workers));
	for (uint64_t i = 0; i < alive; i++)
		workers[i].block = bench_table(blocks, sizeof(void *));

	section = bench_begin();
	for (uint64_t n = 0; n < ops; n++) {
		struct worker *w = &workers[n % alive];

		finish(w);
		w->stream = n;
		w->running = true;
		w->thread = bench_thread(run, w);
	}
	for (uint64_t i = 0; i < alive; i++)
		finish(&workers[i]);
	section = bench_end(section);

	bench_report("churn", ops, section, NULL, 0);
	return 0;
}
