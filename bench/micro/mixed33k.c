/* SPDX-License-Identifier: MIT */
/*
 * mixed33k: how do threads fare with blocks of 2 to 64 KiB, 33 KiB in the mean, of which some die
 * in another thread? With other sizes and more threads it is also the stress of many threads.
 *
 * Each thread has a working set of slots. An operation takes a slot, its own or, for each tenth,
 * one of any thread, swaps a new written block into it and reads and frees the old one. Slots
 * are swapped atomically, since any thread may come to any slot.
 */
#include "bench.h" /* first: it asks libc for everything */

#include <stdatomic.h>

static uint64_t threads = 2, min = 2048, max = 65536, octaves, slots = 256, remote = 10;
static uint64_t ops = 4000000;

static const struct bench_arg args[] = {
	{ "threads", &threads, 1, 1024, "threads" },
	{ "min", &min, BENCH_MIN_BLOCK, UINT32_MAX, "smallest block, bytes" },
	{ "max", &max, BENCH_MIN_BLOCK, UINT32_MAX, "largest block, bytes" },
	{ "octaves", &octaves, 0, 1, "1: each octave of sizes equally often, not each size" },
	{ "slots", &slots, 1, 1u << 20, "slots of a thread" },
	{ "remote", &remote, 0, 100, "percent of the operations that take any thread's slot" },
	{ "ops", &ops, 1, UINT64_MAX, "operations in all; one is a malloc and a free" },
};

struct worker {
	pthread_t thread;
	uint32_t first; /* its slots begin here */
	uint64_t ops;
	struct bench_rng rng;
} __attribute__((aligned(2 * BENCH_LINE)));

static void *_Atomic *table; /* a slot: NULL or a block whose tag is the slot's number */
static pthread_barrier_t ready;

static void *run(void *arg)
{
	struct worker *w = arg;
	struct bench_rng rng = w->rng;

	pthread_barrier_wait(&ready);
	for (uint64_t i = 0; i < w->ops; i++) {
		uint32_t slot, size;
		void *block;

		if (bench_below(&rng, 100) < remote)
			slot = bench_below(&rng, threads * slots);
		else
			slot = w->first + bench_below(&rng, slots);
		size = octaves ? bench_size_log(&rng, min, max) : bench_size(&rng, min, max);
		block = bench_alloc(size, slot);
		/* acquire and release SWAP: a block's words are written before it stands in the
		 * slot, and seen by whoever takes it out */
		block = atomic_exchange_explicit(&table[slot], block, memory_order_acq_rel);
		if (block)
			bench_free(block, slot);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct bench_section section;
	struct worker *workers;

	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	if (max < min)
		bench_die("--max is below --min");
	table = bench_table(threads * slots, sizeof(*table));
	workers = bench_table(threads, sizeof(*workers));
	pthread_barrier_init(&ready, NULL, (unsigned)threads + 1);
	for (uint64_t t = 0; t < threads; t++) {
		workers[t].first = (uint32_t)(t * slots);
		workers[t].ops = ops / threads + (t < ops % threads);
		workers[t].rng = bench_seed(bench_seed_arg, t);
		workers[t].thread = bench_thread(run, &workers[t]);
	}

	section = bench_begin();
	pthread_barrier_wait(&ready);
	for (uint64_t t = 0; t < threads; t++)
		bench_join(workers[t].thread);
	section = bench_end(section);

	for (uint64_t s = 0; s < threads * slots; s++)
		if (table[s])
			bench_free(table[s], (uint32_t)s);
	bench_report("mixed33k", ops, section, NULL, 0);
	return 0;
}
