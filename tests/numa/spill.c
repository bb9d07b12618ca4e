/* SPDX-License-Identifier: MIT */
/*
 * Where does memory come from when a thread's node is full, and does it come home again?
 *
 *	spill --on NODE NODE,NODE,...
 *
 *   1. A thread on NODE allocates and touches blocks of 16 bytes to 50 KiB until the last node of
 *      the list has LAST_MIB of them. No malloc may fail. The nodes must have been used in the
 *      list's order: of two nodes, the pages of the earlier one were touched earlier, in the mean.
 *   2. It frees all and ends. After the decay time another thread's blocks are on NODE, but for a
 *      huge page or two that one block more keeps.
 *   3. Something else takes all of NODE's memory, so that blocks go elsewhere. When it has gone,
 *      the next blocks are on NODE, while those that went elsewhere are still in use.
 *
 * Ends with 0, with 1 when one of these does not hold, with 2 when it could not measure.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_NODES 64
#define PAGE 4096ul
#define LAST_MIB 16
#define HOME_MIB 32
#define MOST ((size_t)8 << 30)
#define ROUND 1024 /* blocks between two questions */

enum { EXIT_WRONG = 1, EXIT_BROKEN = 2 };

static unsigned order[MAX_NODES], count;

static void fail(int status, const char *what)
{
	fflush(stdout);
	fprintf(stderr, "spill: %s: %s\n", what, strerror(errno));
	exit(status);
}

static uint32_t random_next(uint64_t *state)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(*state >> 33);
}

static void run_on(unsigned node)
{
	cpu_set_t cpus;

	/* the emulated machines have few CPUs: look for one of the node's */
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		unsigned now;

		CPU_ZERO(&cpus);
		CPU_SET(cpu, &cpus);
		if (sched_setaffinity(0, sizeof(cpus), &cpus) == 0 && syscall(SYS_getcpu, NULL, &now, NULL) == 0 &&
		    now == node)
			return;
	}
	fail(EXIT_BROKEN, "no CPU on that node");
}

/* Blocks in a list of their own, in no heap. */
static struct {
	unsigned char *p;
	size_t bytes;
} *blocks;
static size_t block_count;

static size_t allocate(uint64_t *random)
{
	size_t n = random_next(random) % 4 ? 16 + random_next(random) % 1009 : 2048 + random_next(random) % 49153;
	unsigned char *p = malloc(n);

	if (!p)
		fail(EXIT_WRONG, "malloc failed while another node had memory");
	for (size_t at = 0; at < n; at += PAGE)
		*(volatile unsigned char *)(p + at) = 1;
	*(volatile unsigned char *)(p + n - 1) = 1;
	blocks[block_count].p = p;
	blocks[block_count++].bytes = n;
	return n;
}

/* Adds the pages of the blocks from `first` on; their ages are their blocks' numbers. */
static void judge(size_t first, uint64_t pages[MAX_NODES], double ages[MAX_NODES])
{
	for (size_t i = first; i < block_count; i++) {
		uintptr_t page = (uintptr_t)blocks[i].p & -PAGE, end = (uintptr_t)blocks[i].p + blocks[i].bytes;

		for (; page < end; page += PAGE) {
			void *ask = (void *)page;
			int where = -1;

			if (syscall(SYS_move_pages, 0, 1, &ask, NULL, &where, MPOL_MF_MOVE) || where < 0 ||
			    where >= MAX_NODES)
				fail(EXIT_BROKEN, "move_pages");
			pages[where]++;
			ages[where] += (double)i;
		}
	}
}

static void tell(const char *what, const uint64_t pages[MAX_NODES], const double ages[MAX_NODES])
{
	printf("%s:", what);
	for (unsigned n = 0; n < MAX_NODES; n++)
		if (pages[n])
			printf("  node %u %llu MiB (mean age %.2f)", n, (unsigned long long)(pages[n] * PAGE >> 20),
			       ages[n] / (double)pages[n] / (double)block_count);
	putchar('\n');
}

static bool ok = true;

/* Allocates so much; the share on NODE must be in [low, high]. */
static void expect(const char *what, size_t bytes, uint64_t *random, double low, double high)
{
	uint64_t pages[MAX_NODES] = { 0 }, all = 0;
	double ages[MAX_NODES] = { 0 }, share;
	size_t first = block_count;

	for (size_t n = 0; n < bytes;)
		n += allocate(random);
	judge(first, pages, ages);
	tell(what, pages, ages);
	for (unsigned n = 0; n < MAX_NODES; n++)
		all += pages[n];
	share = 100.0 * (double)pages[order[0]] / (double)all;
	if (share < low || share > high) {
		printf("spill: %.2f %% on node %u instead of %.1f to %.1f\n", share, order[0], low, high);
		ok = false;
	}
}

static void *fill(void *arg)
{
	uint64_t random = 0x9e3779b97f4a7c15ull, pages[MAX_NODES] = { 0 };
	double ages[MAX_NODES] = { 0 };
	size_t bytes = 0;

	(void)arg;
	while (pages[order[count - 1]] < (LAST_MIB << 20) / PAGE && bytes < MOST) {
		size_t first = block_count;

		for (unsigned i = 0; i < ROUND; i++)
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
	for (size_t i = 0; i < block_count; i++)
		free(blocks[i].p);
	block_count = 0;
	return NULL;
}

/* Small pages until one lies elsewhere: then this node is full. */
static unsigned char *take_all(size_t *bytes)
{
	unsigned char *p = mmap(NULL, MOST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED || madvise(p, MOST, MADV_NOHUGEPAGE))
		fail(EXIT_BROKEN, "mmap");
	*bytes = MOST;
	for (size_t at = 0; at < MOST; at += PAGE) {
		void *ask = p + at;
		int where = -1;

		p[at] = 1;
		if (syscall(SYS_move_pages, 0, 1, &ask, NULL, &where, MPOL_MF_MOVE) || where < 0)
			fail(EXIT_BROKEN, "move_pages");
		if ((unsigned)where != order[0])
			return p;
	}
	fail(EXIT_BROKEN, "the node does not become full");
	return NULL;
}

static void *come_home(void *arg)
{
	uint64_t random = 0x2545f4914f6cdd1dull;
	size_t taken;
	unsigned char *others;

	(void)arg;
	expect("after the decay time", (size_t)HOME_MIB << 20, &random, 90, 100);
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
		fail(EXIT_BROKEN, "pthread_create");
	pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
	if (argc != 4 || strcmp(argv[1], "--on")) {
		fputs("usage: spill --on NODE NODE,NODE,...\n", stderr);
		return EXIT_BROKEN;
	}
	for (char *s = argv[3]; *s >= '0' && *s <= '9' && count < MAX_NODES; s += *s == ',')
		order[count++] = (unsigned)strtoul(s, &s, 10);
	run_on((unsigned)atoi(argv[2]));
	blocks = mmap(NULL, MOST / 256 * sizeof(*blocks), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (blocks == MAP_FAILED)
		fail(EXIT_BROKEN, "mmap");
	in_thread(fill);
	sleep(6); /* the decay time, and what it takes to give all this back */
	in_thread(come_home);
	return ok ? 0 : EXIT_WRONG;
}
