/* SPDX-License-Identifier: MIT */
/*
 * growth: what does a heap cost that only grows, up to 1 GiB?
 *
 * --vector 0  Blocks: small ones (16 B to 1 KiB) and mid ones (1 KiB to 52 KiB), half of the bytes
 *             each, every page of every block written. The blocks are linked through themselves,
 *             so the harness has no table. They are read back and freed in order afterwards,
 *             outside the measured section (its time is free_s).
 * --vector 1  One vector that grows by half with realloc, every new page written.
 *
 * Mostly a question of page faults: `pages` writes one byte a page beside a block's ends.
 * --touch all writes everything and so measures the memory's speed as well.
 */
#include "bench.h"

static uint64_t bytes = 1u << 30, vector;

static const struct bench_arg args[] = {
	{ "bytes", &bytes, 1u << 16, UINT64_MAX / 4, "bytes asked for in all" },
	{ "vector", &vector, 0, 1, "1: one vector by realloc instead of many blocks" },
};

struct kind {
	uint32_t min, max;
	uint64_t bytes; /* asked for so far */
};

/* A block: its stamp (bench.h), then the link. So no block is smaller than 16 bytes. */
struct link {
	uint64_t stamp;
	struct link *next;
};

static struct link *build(uint64_t *count)
{
	struct kind small = { 16, 1024, 0 }, mid = { 1024, 52 * 1024, 0 };
	struct bench_rng rng = bench_seed(bench_seed_arg, 0);
	struct link *first = NULL, **last = &first;

	while (small.bytes + mid.bytes < bytes) {
		struct kind *kind = small.bytes <= mid.bytes ? &small : &mid;
		uint32_t size = bench_size(&rng, kind->min, kind->max);
		struct link *block = bench_alloc(size, (uint32_t)*count);

		kind->bytes += size;
		block->next = NULL;
		*last = block;
		last = &block->next;
		++*count;
	}
	return first;
}

static void free_list(struct link *block)
{
	uint32_t tag = 0;

	while (block) {
		struct link *next = block->next;

		/* bench_read() expects the block as bench_write() left it, without a link. */
		memset(&block->next, (int)tag, sizeof(block->next));
		bench_free(block, tag++);
		block = next;
	}
}

static unsigned char *grow(uint64_t *count)
{
	unsigned char *at = NULL;
	uint64_t size = 0;

	while (size < bytes) {
		uint64_t to = size ? size + size / 2 : BENCH_PAGE;
		uint64_t step = bench_touch == BENCH_ALL ? 1 : BENCH_PAGE;

		if (to > bytes)
			to = bytes;
		at = bench_hide(realloc(at, to));
		if (!at)
			bench_die("realloc(%llu): %s", (unsigned long long)to, strerror(errno));
		for (uint64_t i = (size + step - 1) / step * step; i < to; i += step)
			at[i] = (unsigned char)(i / BENCH_PAGE);
		bench_hide(at);
		size = to;
		++*count;
	}
	return at;
}

int main(int argc, char **argv)
{
	struct bench_section section, freeing;
	struct bench_memory memory;
	struct link *list = NULL;
	unsigned char *at = NULL;
	uint64_t count = 0;

	bench_touch = BENCH_PAGES;
	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));

	section = bench_begin();
	if (vector)
		at = grow(&count);
	else
		list = build(&count);
	section = bench_end(section);
	memory = bench_memory();

	for (uint64_t i = 0; at && i < bytes; i += BENCH_PAGE)
		if (at[i] != (unsigned char)(i / BENCH_PAGE))
			bench_die("byte %llu of the vector: overwritten", (unsigned long long)i);
	freeing = bench_begin();
	free_list(list);
	free(at);
	freeing = bench_end(freeing);

	bench_report("growth", count, section,
		     (const struct bench_figure[]){
			     { "rss_kib", (double)memory.rss_kib },
			     { "huge_kib", (double)memory.huge_kib },
			     { "rss_over_asked", (double)memory.rss_kib * 1024 / (double)bytes },
			     { "free_s", (double)freeing.ns / 1e9 },
		     },
		     4);
	return 0;
}
