/* SPDX-License-Identifier: MIT */
/*
 * larson: how does a server fare whose threads end and hand their live blocks to the next thread?
 *
 * After Larson and Krishnan, "Memory Allocation for Long-Running Server Applications" (ISMM 1998).
 * Each of the chains owns an array of blocks. A thread replaces blocks at random places of its
 * array, then starts its successor on the same array and ends, so the successor frees blocks of
 * a thread that no longer exists. The first arrays are filled by the main thread.
 *
 * The original runs for some seconds. Here each chain does a fixed number of replacements, so that
 * paired runs do equal work.
 */
#include "bench.h" /* first: it asks libc for everything */

#include <semaphore.h>

static uint64_t threads = 2, min = 8, max = 1000, blocks = 1000, handover = 100000, ops = 20000000;

static const struct bench_arg args[] = {
	{ "threads", &threads, 1, 4096, "chains, and threads at any time" },
	{ "min", &min, BENCH_MIN_BLOCK, UINT32_MAX, "smallest block, bytes" },
	{ "max", &max, BENCH_MIN_BLOCK, UINT32_MAX, "largest block, bytes" },
	{ "blocks", &blocks, 1, 1u << 24, "live blocks a thread" },
	{ "handover", &handover, 1, UINT64_MAX, "replacements before a thread hands over" },
	{ "ops", &ops, 1, UINT64_MAX, "replacements in all; one is a free and a malloc" },
};

struct chain {
	void **block;
	uint64_t left; /* replacements still to be done; one thread at a time works on a chain */
	uint64_t generations;
	struct bench_rng rng;
} __attribute__((aligned(2 * BENCH_LINE))); /* no false sharing by the harness */

static sem_t ended; /* posted once a chain */

static void *run(void *arg);

static void start(struct chain *chain)
{
	int error;

	chain->generations++;
	/* Nobody joins a thread of the chain: the array alone goes on. */
	error = pthread_detach(bench_thread(run, chain));
	if (error)
		bench_die("pthread_detach: %s", strerror(error));
}

static void *run(void *arg)
{
	struct chain *chain = arg;
	uint64_t n = chain->left < handover ? chain->left : handover;
	struct bench_rng rng = chain->rng;

	chain->left -= n;
	while (n-- > 0) {
		uint32_t i = bench_below(&rng, blocks);

		bench_free(chain->block[i], i);
		chain->block[i] = bench_alloc(bench_size(&rng, min, max), i);
	}
	chain->rng = rng;
	if (chain->left > 0)
		start(chain);
	else
		sem_post(&ended);
	return NULL;
}

int main(int argc, char **argv)
{
	struct bench_section section;
	struct bench_figure more[1];
	struct chain *chains;
	uint64_t generations = 0;

	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	if (max < min)
		bench_die("--max is below --min");
	if (ops < threads)
		bench_die("--ops is below --threads");
	chains = bench_table(threads, sizeof(*chains));
	sem_init(&ended, 0, 0);
	for (uint64_t c = 0; c < threads; c++) {
		chains[c].block = bench_table(blocks, sizeof(void *));
		chains[c].left = ops / threads + (c < ops % threads);
		chains[c].rng = bench_seed(bench_seed_arg, c);
		for (uint32_t i = 0; i < blocks; i++)
			chains[c].block[i] =
				bench_alloc(bench_size(&chains[c].rng, min, max), i);
	}

	section = bench_begin();
	for (uint64_t c = 0; c < threads; c++)
		start(&chains[c]);
	for (uint64_t c = 0; c < threads; c++)
		while (sem_wait(&ended))
			;
	section = bench_end(section);

	for (uint64_t c = 0; c < threads; c++) {
		generations += chains[c].generations;
		for (uint32_t i = 0; i < blocks; i++)
			bench_free(chains[c].block[i], i);
	}
	more[0] = (struct bench_figure){ "threads_run", (double)generations };
	bench_report("larson", ops, section, more, 1);
	return 0;
}
