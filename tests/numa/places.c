/* SPDX-License-Identifier: MIT */
/*
 * Do hakmem.h's places hold? Under LD_PRELOAD; move_pages(2) is the judge.
 *
 *	places CAPACITY_NODE     the node that HAKMEM_NODE_CAPACITY must name; with 0 there is none
 *
 * Runs on node 0 and asks for blocks elsewhere, touches them here, frees them here and there.
 * Ends with 0, with 1 and a line when something does not hold.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hakmem/hakmem.h"

#define PAGE 4096ul
#define MAX_NODES 64
#define MIB (1ul << 20)
#define MOST 20000

static void *(*malloc_at)(int, size_t);
static void *(*memalign_at)(int, size_t, size_t);
static int (*thread_bind)(int);
static int (*node_of)(const void *);

static const size_t sizes[] = { 100, 2000, 20000, 100000, 700000, 3 * MIB, 80 * MIB };
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))
#define TOTAL (8 * MIB) /* of each size, at least one block */

static unsigned char *block[MOST];
static unsigned blocks;

#define CHECK(condition, ...)                                                                      \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			printf("places: line %d: ", __LINE__);                                     \
			printf(__VA_ARGS__);                                                       \
			putchar('\n');                                                             \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static void touch(unsigned char *p, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += PAGE)
		*(volatile unsigned char *)(p + at) = 1;
	*(volatile unsigned char *)(p + bytes - 1) = 1;
}

static void count_pages(unsigned char *p, size_t bytes, uint64_t pages[MAX_NODES])
{
	for (uintptr_t page = (uintptr_t)p & -PAGE; page < (uintptr_t)p + bytes; page += PAGE) {
		void *ask = (void *)page;
		int where = -1;

		CHECK(!syscall(SYS_move_pages, 0, 1, &ask, NULL, &where, MPOL_MF_MOVE) && where >= 0 && where < MAX_NODES,
		      "move_pages: %d", where);
		pages[where]++;
	}
}

static void allocate(void *(*get)(int, size_t), int place, size_t bytes, uint64_t pages[MAX_NODES])
{
	unsigned want = bytes > TOTAL ? 1 : (unsigned)(TOTAL / bytes);

	memset(pages, 0, MAX_NODES * sizeof(pages[0]));
	for (blocks = 0; blocks < want && blocks < MOST; blocks++) {
		block[blocks] = get(place, bytes);
		CHECK(block[blocks], "no block of %zu bytes at %d: %s", bytes, place, strerror(errno));
		touch(block[blocks], bytes);
		count_pages(block[blocks], bytes, pages);
	}
}

static void drop(void)
{
	while (blocks)
		free(block[--blocks]);
}

static void all_on(int node, const uint64_t pages[MAX_NODES], const char *what, size_t bytes)
{
	for (int n = 0; n < MAX_NODES; n++)
		CHECK(n == node || !pages[n], "%s: %llu pages of blocks of %zu bytes on node %d instead of %d", what,
		      (unsigned long long)pages[n], bytes, n, node);
}

static void *drop_there(void *arg)
{
	(void)arg;
	drop();
	return NULL;
}

static void *plain(int place, size_t bytes)
{
	(void)place;
	return malloc(bytes);
}

static void find(const char *name, void *function)
{
	void *p = dlsym(RTLD_DEFAULT, name);

	CHECK(p, "no %s", name);
	memcpy(function, &p, sizeof(p));
}

int main(int argc, char **argv)
{
	uint64_t pages[MAX_NODES];
	int capacity = argc > 1 ? atoi(argv[1]) : 0;
	unsigned char *p;
	pthread_t t;

	find("hakmem_malloc_at", &malloc_at);
	find("hakmem_memalign_at", &memalign_at);
	find("hakmem_thread_bind", &thread_bind);
	find("hakmem_node_of", &node_of);

	for (unsigned i = 0; i < SIZES; i++) {
		/* twice: what the first left must not come to another place */
		for (int round = 0; round < 2; round++) {
			allocate(malloc_at, 1, sizes[i], pages);
			all_on(1, pages, "node 1", sizes[i]);
			CHECK(node_of(block[0]) == 1, "node_of says %d, not 1", node_of(block[0]));
			pthread_create(&t, NULL, drop_there, NULL);
			pthread_join(t, NULL);
			allocate(malloc_at, HAKMEM_NODE_LOCAL, sizes[i], pages);
			all_on(0, pages, "local", sizes[i]);
			drop();
			allocate(malloc_at, HAKMEM_NODE_CAPACITY, sizes[i], pages);
			all_on(capacity, pages, "capacity", sizes[i]);
			drop();
			allocate(plain, 0, sizes[i], pages);
			all_on(0, pages, "malloc afterwards", sizes[i]);
			drop();
			allocate(malloc_at, HAKMEM_NODE_INTERLEAVED, sizes[i], pages);
			/* by pages, and by huge pages: those of 80 MiB are 40 */
			double share = 100.0 * (double)pages[0] / (double)(pages[0] + pages[1]);
			CHECK(sizes[i] > MIB || (pages[0] && pages[1]), "blocks of %zu bytes are not interleaved", sizes[i]);
			printf("%zu bytes interleaved: %.1f %% of nodes 0 and 1 on 0\n", sizes[i], share);
			CHECK(sizes[i] < MIB || sizes[i] < 8 * MIB || (share > 40 && share < 60), "uneven");
			drop();
		}
	}

	p = memalign_at(1, 1 << 20, 5000);
	CHECK(p && ((uintptr_t)p & (MIB - 1)) == 0, "memalign_at");
	touch(p, 5000);
	CHECK(node_of(p) == 1, "memalign_at: on node %d", node_of(p));
	p = realloc(p, 3000);
	free(p);
	p = malloc_at(1, 900000);
	CHECK(node_of(p) == 1, "before it is touched node_of says %d", node_of(p));
	free(p);

	CHECK(thread_bind(1) == 0, "thread_bind");
	for (unsigned i = 0; i < SIZES; i++) {
		allocate(plain, 0, sizes[i], pages);
		all_on(1, pages, "bound thread", sizes[i]);
		drop();
	}
	CHECK(thread_bind(HAKMEM_NODE_LOCAL) == 0, "thread_bind");
	for (unsigned i = 0; i < SIZES; i++) {
		allocate(plain, 0, sizes[i], pages);
		all_on(0, pages, "thread that is bound no more", sizes[i]);
		drop();
	}

	errno = 0;
	CHECK(!malloc_at(63, 10) && errno == EINVAL, "a node that is not there: errno %d", errno);
	errno = 0;
	CHECK(!malloc_at(-9, 10) && errno == EINVAL, "a kind that is not there: errno %d", errno);
	errno = 0;
	CHECK(!memalign_at(0, 48, 10) && errno == EINVAL, "align 48: errno %d", errno);
	errno = 0;
	CHECK(!malloc_at(1, PTRDIFF_MAX) && errno == ENOMEM, "too much: errno %d", errno);
	errno = 0;
	CHECK(thread_bind(63) == -1 && errno == EINVAL, "thread_bind to nowhere: errno %d", errno);
	errno = 0;
	CHECK(node_of(&errno) == -1 && errno == EINVAL, "no block: errno %d", errno);
	p = malloc(200 * MIB);
	errno = 0;
	CHECK(node_of(p) == -1 && errno == ENODATA, "untouched, unbound: errno %d", errno);
	free(p);
	return 0;
}
