/* SPDX-License-Identifier: MIT */
/*
 * first_touch: how fast do threads fill one large block that the main thread allocated?
 *
 * As OpenMP programs do: one block, and each thread writes its own part of it first, one word a
 * page. On a NUMA machine the part should come to lie on that thread's node. The block is then read
 * and freed, and the next one allocated, so later ones show what a freed block's memory is worth.
 */
#include "bench.h"

static uint64_t threads = 2, bytes = 1u << 30, ops = 2;

static const struct bench_arg args[] = {
	{ "threads", &threads, 1, 1024, "threads" },
	{ "bytes", &bytes, 1u << 20, 1ull << 40, "bytes of the block" },
	{ "ops", &ops, 1, UINT64_MAX, "blocks, one after another" },
};

struct worker {
	pthread_t thread;
	unsigned char *from, *to;
};

static void *run(void *arg)
{
	struct worker *w = arg;

	for (unsigned char *p = w->from; p < w->to; p += BENCH_PAGE)
		*(volatile uint64_t *)p = (uint64_t)(uintptr_t)p;
	for (unsigned char *p = w->from; p < w->to; p += BENCH_PAGE)
		if (*(volatile uint64_t *)p != (uint64_t)(uintptr_t)p)
			bench_die("word at %p: overwritten", (void *)p);
	return NULL;
}

int main(int argc, char **argv)
{
	struct bench_section section;
	struct bench_memory memory;
	struct worker *workers;

	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	workers = bench_table(threads, sizeof(*workers));

	section = bench_begin();
	for (uint64_t i = 0; i < ops; i++) {
		unsigned char *block = bench_hide(malloc(bytes));
		uint64_t pages = bytes / BENCH_PAGE;

		if (!block)
			bench_die("malloc(%llu): %s", (unsigned long long)bytes, strerror(errno));
		for (uint64_t t = 0; t < threads; t++) {
			workers[t].from = block + pages * t / threads * BENCH_PAGE;
			workers[t].to = block + pages * (t + 1) / threads * BENCH_PAGE;
			workers[t].thread = bench_thread(run, &workers[t]);
		}
		for (uint64_t t = 0; t < threads; t++)
			bench_join(workers[t].thread);
		if (i + 1 == ops)
			memory = bench_memory();
		free(block);
	}
	section = bench_end(section);

	bench_report("first_touch", ops, section,
		     (const struct bench_figure[]){
			     { "rss_kib", (double)memory.rss_kib },
			     { "huge_kib", (double)memory.huge_kib },
		     },
		     2);
	return 0;
}
