/* SPDX-License-Identifier: MIT */
/*
 * server: how does a server's mix of sizes and lifetimes fare, in threads that answer requests?
 *
 * An operation is a request. It allocates some blocks, works on them and frees those that die with
 * it; the others die a number of the thread's own requests later. Sizes and lifetimes (the tables
 * below, repeated in doc/benchmarks.md) are made up after what published traces of servers have in
 * common: most blocks are small and die at once, few are large, and the old ones are those that hold
 * the memory. One in twenty of the blocks that outlive their request is freed by another thread.
 *
 * Deaths are a wheel: slot r has the list of the blocks that die in request r. Lists run through
 * the blocks themselves, so the harness needs no memory of its own for them.
 */
#include "bench.h" /* first: it asks libc for everything */

#include <stdatomic.h>

static uint64_t threads = 2, remote = 5, ops = 500000;

static const struct bench_arg args[] = {
	{ "threads", &threads, 1, 1024, "threads" },
	{ "remote", &remote, 0, 100, "percent of the later deaths that another thread sees to" },
	{ "ops", &ops, 1, UINT64_MAX, "requests in all" },
};

#define BLOCKS_MIN 4u /* blocks of a request */
#define BLOCKS_MAX 28u
#define WHEEL 16384u /* longest lifetime, requests */
#define TAG 0x5e4e4e5u

/* Of 1,000 blocks so many have from min to max bytes, each size equally often. */
static const struct {
	uint32_t of_1000, min, max;
} sizes[] = {
	{ 380, 24, 64 },	 { 250, 65, 128 },     { 160, 129, 256 },     { 90, 257, 512 },
	{ 50, 513, 1024 },	 { 40, 1025, 4096 },   { 20, 4097, 16384 },   { 8, 16385, 65536 },
	{ 2, 65537, 256 * 1024 },
};

/* Of 1,000 blocks so many live from min to max requests, beyond the one that made them. */
static const struct {
	uint32_t of_1000, min, max;
} lifetimes[] = {
	{ 800, 0, 0 },	    /* the request's own */
	{ 150, 1, 100 },    /* a connection's */
	{ 45, 101, 2000 },  /* a session's */
	{ 5, 2001, 16383 }, /* a cache's */
};

struct block {
	uint64_t stamp; /* bench.h's */
	struct block *next;
};

struct worker {
	pthread_t thread;
	struct block **wheel;
	uint64_t ops;
	struct bench_rng rng;
	/* any thread pushes blocks here for this one to free */
	struct block *_Atomic inbox __attribute__((aligned(2 * BENCH_LINE)));
} __attribute__((aligned(2 * BENCH_LINE)));

static struct worker *workers;
static pthread_barrier_t ready;

static uint32_t pick_size(struct bench_rng *rng)
{
	uint32_t at = bench_below(rng, 1000), i = 0;

	while (at >= sizes[i].of_1000)
		at -= sizes[i++].of_1000;
	return bench_size(rng, sizes[i].min, sizes[i].max);
}

static uint32_t pick_lifetime(struct bench_rng *rng)
{
	uint32_t at = bench_below(rng, 1000), i = 0;

	while (at >= lifetimes[i].of_1000)
		at -= lifetimes[i++].of_1000;
	return bench_size(rng, lifetimes[i].min, lifetimes[i].max);
}

static void free_list(struct block *block)
{
	while (block) {
		struct block *next = block->next;

		bench_free(block, TAG);
		block = next;
	}
}

static void send(struct worker *to, struct block *block)
{
	/* relaxed: a stale head costs another turn */
	block->next = atomic_load_explicit(&to->inbox, memory_order_relaxed);
	/* release INBOX: the link before the block is seen */
	while (!atomic_compare_exchange_weak_explicit(&to->inbox, &block->next, block,
						      memory_order_release, memory_order_relaxed))
		;
}

/* The blocks that die in this request, some of them in another thread. */
static void bury(struct worker *w, struct bench_rng *rng, struct block *block)
{
	while (block) {
		struct block *next = block->next;

		if (bench_below(rng, 100) < remote)
			send(&workers[bench_below(rng, threads)], block);
		else
			bench_free(block, TAG);
		block = next;
	}
	/* relaxed: a block that is not seen now is freed in a later request */
	if (atomic_load_explicit(&w->inbox, memory_order_relaxed))
		/* acquire INBOX */
		free_list(atomic_exchange_explicit(&w->inbox, NULL, memory_order_acquire));
}

static void *run(void *arg)
{
	struct worker *w = arg;
	struct bench_rng rng = w->rng;

	pthread_barrier_wait(&ready);
	for (uint64_t r = 0; r < w->ops; r++) {
		uint32_t n = bench_size(&rng, BLOCKS_MIN, BLOCKS_MAX);
		struct block *own = NULL, *dead = w->wheel[r % WHEEL];

		w->wheel[r % WHEEL] = NULL;
		for (uint32_t i = 0; i < n; i++) {
			struct block *block = bench_alloc(pick_size(&rng), TAG);
			uint32_t life = pick_lifetime(&rng);
			struct block **list = life ? &w->wheel[(r + life) % WHEEL] : &own;

			block->next = *list;
			*list = block;
		}
		free_list(own);
		bury(w, &rng, dead);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct bench_section section;
	struct bench_memory memory;

	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	workers = bench_table(threads, sizeof(*workers));
	pthread_barrier_init(&ready, NULL, (unsigned)threads + 1);
	for (uint64_t t = 0; t < threads; t++) {
		workers[t].wheel = bench_table(WHEEL, sizeof(struct block *));
		workers[t].ops = ops / threads + (t < ops % threads);
		workers[t].rng = bench_seed(bench_seed_arg, t);
		workers[t].thread = bench_thread(run, &workers[t]);
	}

	section = bench_begin();
	pthread_barrier_wait(&ready);
	for (uint64_t t = 0; t < threads; t++)
		bench_join(workers[t].thread);
	section = bench_end(section);
	memory = bench_memory();

	for (uint64_t t = 0; t < threads; t++) {
		for (uint32_t i = 0; i < WHEEL; i++)
			free_list(workers[t].wheel[i]);
		free_list(workers[t].inbox);
	}
	bench_report("server", ops, section,
		     (const struct bench_figure[]){ { "rss_kib", (double)memory.rss_kib } }, 1);
	return 0;
}
