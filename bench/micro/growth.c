/* SPDX-License-Identifier: MIT */
/*
 * growth: what does a heap cost that only grows, up to 1 GiB?
 *
 * --vector 0  Blocks: small ones (16 B to 1 KiB) and mid ones (1 KiB to 52 KiB), half of the bytes
 *             each, every page of every block written. The blocks are linked through themselves,
 *             so the harness has no table. They are read back and freed in order afterwards,
 *             outside the measured section (its time is free_s).
 * --vector N  N vectors that grow in turn by half with realloc, every new page written. One has the
 *             whole address space to itself; many lie in each other's way.
 *
 * Mostly a question of page faults: `pages` writes one byte a page beside a block's ends.
 * --touch all writes everything and so measures the memory's speed as well.
 */
#include "bench.h"

static uint64_t bytes = 1u << 30, vector;

static const struct bench_arg args[] = {
	{ "bytes", &bytes, 1u << 16, UINT64_MAX / 4, "bytes asked for in all" },
	{ "vector", &vector, 0, 1u << 20, "that many vectors by realloc instead of many blocks" },
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

/* All vectors have the same size; they are grown one after another, again and again. */
static unsigned char **grow(uint64_t *count)
{
	unsigned char **at = bench_table(vector, sizeof(*at));
	uint64_t step = bench_touch == BENCH_ALL ? 1 : BENCH_PAGE;
	uint64_t size = 0, last = bytes / vector;

	while (size < last) {
		uint64_t to = size ? size + size / 2 : BENCH_PAGE;

		if (to > last)
			to = last;
		for (uint64_t v = 0; v < vector; v++) {
			at[v] = bench_hide(realloc(at[v], to));
			if (!at[v])
				bench_die("realloc(%llu): %s", (unsigned long long)to,
					  strerror(errno));
			for (uint64_t i = (size + step - 1) / step * step; i < to; i += step)
				at[v][i] = (unsigned char)(i / BENCH_PAGE + v);
			bench_hide(at[v]);
			++*count;
		}
		size = to;
	}
	return at;
}

static void check_and_free(unsigned char **at)
{
	for (uint64_t v = 0; v < vector; v++) {
		for (uint64_t i = 0; i < bytes / vector; i += BENCH_PAGE)
			if (at[v][i] != (unsigned char)(i / BENCH_PAGE + v))
				bench_die("vector %llu, byte %llu: overwritten",
					  (unsigned long long)v, (unsigned long long)i);
		free(at[v]);
	}
}

int main(int argc, char **argv)
{
	struct bench_section section, freeing;
	struct bench_memory memory;
	struct link *list = NULL;
	unsigned char **at = NULL;
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

	freeing = bench_begin();
	free_list(list);
	if (at)
		check_and_free(at);
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
