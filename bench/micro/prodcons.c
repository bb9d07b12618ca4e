/* SPDX-License-Identifier: MIT */
/*
 * prodcons: what does a block cost that one thread allocates and another frees?
 *
 * Producers allocate and write messages, consumers read and free them. Each pair of a producer and
 * a consumer has its own ring (one writer, one reader, no lock), so the rings cost little beside
 * the allocator. A producer deals its messages out to the consumers in turn. Who finds a ring full
 * or empty spins briefly and then yields: on a machine with fewer cores than threads the other
 * side must run.
 *
 * --burst N: a producer waits until its rings are empty and then writes N messages; a consumer
 * waits until all N are there. So N blocks live, then none, and the threads work by turns.
 */
#include "bench.h" /* first: it asks libc for everything */

#include <stdatomic.h>

#define SPINS 64

static uint64_t producers = 1, consumers = 1, min = 16, max = 1040, ring_slots = 1024;
static uint64_t burst, ops = 10000000;

static const struct bench_arg args[] = {
	{ "producers", &producers, 1, 1024, "threads that allocate" },
	{ "consumers", &consumers, 1, 1024, "threads that free" },
	{ "min", &min, BENCH_MIN_BLOCK, UINT32_MAX, "smallest message, bytes" },
	{ "max", &max, BENCH_MIN_BLOCK, UINT32_MAX, "largest message, bytes" },
	{ "ring", &ring_slots, 1, 1u << 24, "messages a ring holds" },
	{ "burst", &burst, 0, 1u << 24, "messages in a burst; 0: no bursts" },
	{ "ops", &ops, 1, UINT64_MAX, "messages in all; one is a malloc and a free" },
};

struct ring {
	_Atomic uint64_t written __attribute__((aligned(2 * BENCH_LINE))); /* producer only */
	_Atomic uint64_t done __attribute__((aligned(2 * BENCH_LINE)));	   /* consumer only */
	void **slot __attribute__((aligned(2 * BENCH_LINE)));		   /* immutable */
	uint64_t total;							   /* immutable */
};

static struct ring *rings; /* ring of producer p and consumer c: p * consumers + c */
static pthread_barrier_t ready;

static void backoff(unsigned *spins)
{
	if (++*spins % SPINS)
		bench_pause();
	else
		sched_yield();
}

static void *produce(void *arg)
{
	struct ring *mine = arg;
	struct bench_rng rng =
		bench_seed(bench_seed_arg, (uint64_t)(mine - rings) / consumers);
	bool more = true;

	pthread_barrier_wait(&ready);
	for (uint64_t i = 0; more; i++) {
		more = false;
		for (uint64_t c = 0; c < consumers; c++) {
			struct ring *r = &mine[c];
			uint64_t room = burst && i % burst == 0 ? 1 : ring_slots;
			unsigned spins = 0;

			if (i >= r->total)
				continue;
			more = true;
			/* acquire SLOT: the consumer has read the slot before it is written again */
			while (i - atomic_load_explicit(&r->done, memory_order_acquire) >= room)
				backoff(&spins);
			r->slot[i % ring_slots] =
				bench_alloc(bench_size(&rng, min, max), (uint32_t)i);
			/* release MESSAGE: the block's words and the slot before the count */
			atomic_store_explicit(&r->written, i + 1, memory_order_release);
		}
	}
	return NULL;
}

static void *consume(void *arg)
{
	struct ring *mine = arg; /* of producer 0; the others' lie `consumers` apart */
	unsigned spins = 0;
	bool more = true;

	pthread_barrier_wait(&ready);
	while (more) {
		bool idle = true;

		more = false;
		for (uint64_t p = 0; p < producers; p++) {
			struct ring *r = &mine[p * consumers];
			/* relaxed: only this thread writes it */
			uint64_t i = atomic_load_explicit(&r->done, memory_order_relaxed);
			/* acquire MESSAGE */
			uint64_t end = atomic_load_explicit(&r->written, memory_order_acquire);

			if (i < r->total)
				more = true;
			if (burst && end < r->total)
				end -= end % burst;
			for (; i < end; i++) {
				bench_free(r->slot[i % ring_slots], (uint32_t)i);
				/* release SLOT */
				atomic_store_explicit(&r->done, i + 1, memory_order_release);
				idle = false;
			}
		}
		if (idle && more)
			backoff(&spins);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct bench_section section;
	pthread_t *thread;
	uint64_t pairs;

	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	if (max < min)
		bench_die("--max is below --min");
	if (burst > ring_slots)
		bench_die("--burst is above --ring");
	pairs = producers * consumers;
	rings = bench_table(pairs, sizeof(*rings));
	thread = bench_table(producers + consumers, sizeof(*thread));
	for (uint64_t i = 0; i < pairs; i++) {
		rings[i].slot = bench_table(ring_slots, sizeof(void *));
		rings[i].total = ops / pairs + (i < ops % pairs);
	}
	pthread_barrier_init(&ready, NULL, (unsigned)(producers + consumers + 1));
	for (uint64_t p = 0; p < producers; p++)
		thread[p] = bench_thread(produce, &rings[p * consumers]);
	for (uint64_t c = 0; c < consumers; c++)
		thread[producers + c] = bench_thread(consume, &rings[c]);

	section = bench_begin();
	pthread_barrier_wait(&ready);
	for (uint64_t i = 0; i < producers + consumers; i++)
		bench_join(thread[i]);
	section = bench_end(section);

	bench_report("prodcons", ops, section, NULL, 0);
	return 0;
}
