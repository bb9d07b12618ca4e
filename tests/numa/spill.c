/* SPDX-License-Identifier: MIT */
/*
 * Where does memory come from when a thread's node is full, and does it come home again?
 *
 *	spill [--huge] --on NODE NODE,NODE,...
 *
 *   1. A thread on NODE allocates and touches blocks of 16 bytes to 50 KiB, or of 2 to 10 MiB, until the
 *      last node of the list has LAST_MIB of them. No malloc may fail. The nodes must have been used in the
 *      list's order: of two nodes, the pages of the earlier one were touched earlier, in the mean.
 *   2. It frees all and ends. After the decay time another thread's blocks are on NODE, but for a
 *      huge page or two that one block more keeps.
 *   3. Something else takes all of NODE's memory, so that blocks go elsewhere. When it has gone,
 *      the next blocks are on NODE, while those that went elsewhere are still in use.
 *
 * Ends with 0, with 1 when one of these does not hold, with 2 when it could not measure.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>

#include "judge.h"

#define LAST_MIB 16
#define HOME_MIB 32
#define MOST ((size_t)8 << 30)
#define ROUND_MIB 8 /* between two questions */

static unsigned order[JUDGE_NODES], count;
static bool huge;

/* Blocks in a list of their own, in no heap. */
static struct {
	unsigned char *p;
	size_t bytes;
} *blocks;
static size_t block_count;

static size_t random_size(uint64_t *random)
{
	if (huge)
		return (2u << 20) + judge_random(random) % (8u << 20);
	return judge_random(random) % 4 ? 16 + judge_random(random) % 1009 : 2048 + judge_random(random) % 49153;
}

static size_t allocate(uint64_t *random)
{
	size_t n = random_size(random);
	unsigned char *p = malloc(n);

	if (!p)
		judge_end(JUDGE_WRONG, "malloc failed while another node had memory");
	judge_touch(p, n);
	blocks[block_count].p = p;
	blocks[block_count++].bytes = n;
	return n;
}

/* Adds the pages of the blocks from `first` on; their ages are their blocks' numbers. */
static void judge(size_t first, uint64_t pages[JUDGE_NODES], double ages[JUDGE_NODES])
{
	struct judge_look look = { 0 };

	for (size_t i = first; i < block_count; i++) {
		uint64_t own[JUDGE_NODES] = { 0 };

		judge_count(&look, blocks[i].p, blocks[i].bytes, own);
		for (unsigned n = 0; n < JUDGE_NODES; n++) {
			pages[n] += own[n];
			ages[n] += (double)i * (double)own[n];
		}
	}
}

static void tell(const char *what, const uint64_t pages[JUDGE_NODES], const double ages[JUDGE_NODES])
{
	printf("%s:", what);
	for (unsigned n = 0; n < JUDGE_NODES; n++)
		if (pages[n])
			printf("  node %u %llu MiB (mean age %.2f)", n, (unsigned long long)(pages[n] * JUDGE_PAGE >> 20),
			       ages[n] / (double)pages[n] / (double)block_count);
	putchar('\n');
}

static bool ok = true;

/* Allocates so much; the share on NODE must be in [low, high]. */
static void expect(const char *what, size_t bytes, uint64_t *random, double low, double high)
{
	uint64_t pages[JUDGE_NODES] = { 0 };
	double ages[JUDGE_NODES] = { 0 }, share;
	size_t first = block_count;

	for (size_t n = 0; n < bytes;)
		n += allocate(random);
	judge(first, pages, ages);
	tell(what, pages, ages);
	share = judge_share(order[0], pages);
	if (share < low || share > high) {
		printf("spill: %.2f %% on node %u instead of %.1f to %.1f\n", share, order[0], low, high);
		ok = false;
	}
}

/* Of the pages in NODE's pool that hakmem looks at some lie elsewhere. Where it may bind nothing it may
 * not look either. */
static bool told_by_statistics(void)
{
	unsigned long sampled, placed;
	const char *json;
	void *any;

	if (!judge_find("hakmem_stats_write", &any))
		return true;
	json = judge_statistics();
	sampled = judge_figure(judge_pool(json, order[0]), "sampled");
	placed = judge_figure(judge_pool(json, order[0]), "placed");
	printf("statistics: %lu of %lu pages of node %u's pool are there\n", placed, sampled, order[0]);
	return judge_figure(json, "binds") ? placed && placed < sampled : !sampled;
}

static void *fill(void *arg)
{
	uint64_t random = 0x9e3779b97f4a7c15ull, pages[JUDGE_NODES] = { 0 };
	double ages[JUDGE_NODES] = { 0 };
	size_t bytes = 0;

	(void)arg;
	while (pages[order[count - 1]] < (LAST_MIB << 20) / JUDGE_PAGE && bytes < MOST) {
		size_t first = block_count, end = bytes + (ROUND_MIB << 20);

		while (bytes < end)
			bytes += allocate(&random);
		judge(first, pages, ages);
	}
	tell("filled", pages, ages);
	for (unsigned i = 0; i + 1 < count; i++) {
		unsigned a = order[i], b = order[i + 1];

		if (!pages[a] || !pages[b] || ages[a] / (double)pages[a] >= ages[b] / (double)pages[b]) {
			printf("spill: node %u should have come before node %u\n", a, b);
			ok = false;
		}
	}
	if (!huge && !told_by_statistics())
		ok = false;
	for (size_t i = 0; i < block_count; i++)
		free(blocks[i].p);
	block_count = 0;
	return NULL;
}

/* Small pages until one lies elsewhere: then this node is full. */
static unsigned char *take_all(size_t *bytes)
{
	unsigned char *p = judge_memory(MOST);

	if (madvise(p, MOST, MADV_NOHUGEPAGE))
		judge_broken("madvise: %s", strerror(errno));
	*bytes = MOST;
	for (size_t at = 0; at < MOST; at += JUDGE_PAGE) {
		void *ask = p + at;
		int where = -1;

		p[at] = 1;
		judge_ask(&ask, &where, 1);
		if (judge_page(ask, where) != order[0])
			return p;
	}
	judge_broken("the node does not become full");
}

static void *come_home(void *arg)
{
	uint64_t random = 0x2545f4914f6cdd1dull;
	size_t taken;
	unsigned char *others;

	(void)arg;
	expect("after the decay time", (size_t)HOME_MIB << 20, &random, 85, 100);
	others = take_all(&taken);
	expect("while others have the node", (size_t)HOME_MIB << 20, &random, 0, 60);
	munmap(others, taken);
	/* what is left of slabs and huge pages that were begun elsewhere is used up first */
	expect("when they have gone", (size_t)HOME_MIB << 20, &random, 75, 100);
	return NULL;
}

static void in_thread(void *(*run)(void *))
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run, NULL))
		judge_broken("no thread");
	pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--huge") == 0) {
		huge = true;
		argc--, argv++;
	}
	if (argc != 4 || strcmp(argv[1], "--on")) {
		fputs("usage: spill [--huge] --on NODE NODE,NODE,...\n", stderr);
		return JUDGE_BROKEN;
	}
	for (char *s = argv[3]; *s >= '0' && *s <= '9' && count < JUDGE_NODES; s += *s == ',')
		order[count++] = (unsigned)strtoul(s, &s, 10);
	judge_run_on((unsigned)atoi(argv[2]));
	blocks = judge_memory(MOST / 256 * sizeof(*blocks));
	in_thread(fill);
	sleep(6); /* the decay time, and what it takes to give all this back */
	in_thread(come_home);
	return ok ? 0 : JUDGE_WRONG;
}
