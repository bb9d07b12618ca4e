/* SPDX-License-Identifier: MIT */
/*
 * Does a heap that is used for hours stay as it was? 32 threads for SECONDS:
 *
 *	soak SECONDS [REST]
 *
 * Each thread goes through the same round again and again: it fills a table of blocks of all
 * sizes, changes them at random, trades with the others, and frees most. Threads end, and new
 * ones take over their tables. So after a few rounds the program needs no more than it had:
 * what grows from then on is the allocator's. tests/soak looks at that from outside.
 *
 * All bytes of a block up to a page are written and checked before it is freed, moved or
 * traded, of a larger one those at both ends and one in each page. At the end all blocks are
 * freed, and the allocator must count none as live. REST, in ms, is the most that a thread sleeps
 * after a round (800): more leaves the processors to others, and keeps an even pace beside them.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "hakmem/hakmem.h"

#define THREADS 32u
#define SLOTS 300u
#define SHELF 512u
#define STEPS 3000u
#define ROUNDS 8u /* of a thread, then another takes over */
#define PAGE 4096u
#define MIB ((size_t)1 << 20)

/* Before each block's contents. */
struct block {
	uint64_t id;
	uint64_t bytes; /* of contents */
	unsigned char contents[];
};

static struct block *tables[THREADS][SLOTS];
static _Atomic(struct block *) shelf[SHELF];
static _Atomic uint64_t ids, operations;
static _Atomic bool stop;
static unsigned rest_ms = 800;

static uint64_t next_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return *seed >> 24;
}

static unsigned char byte_of(const struct block *b, size_t at)
{
	return (unsigned char)((b->id * 0x9e3779b97f4a7c15u) >> (at % 7 * 8)) ^ (unsigned char)at;
}

static size_t after(const struct block *b, size_t at)
{
	if (at + 1 < PAGE / 2 || at + PAGE / 2 >= b->bytes)
		return at + 1;
	size_t next = at + PAGE - 1, tail = b->bytes - PAGE / 2;
	return b->bytes <= PAGE ? at + 1 : next < tail ? next : tail;
}

static void check(const struct block *b)
{
	for (size_t i = 0; i < b->bytes; i = after(b, i))
		if (b->contents[i] != byte_of(b, i)) {
			fprintf(stderr, "soak: byte %zu of block %p, %zu bytes, was overwritten\n", i,
				(const void *)b, (size_t)b->bytes);
			abort();
		}
}

static struct block *filled(struct block *b, size_t bytes)
{
	if (!b) {
		fprintf(stderr, "soak: no memory for %zu bytes\n", bytes);
		abort();
	}
	b->id = atomic_fetch_add_explicit(&ids, 1, memory_order_relaxed);
	b->bytes = bytes;
	for (size_t i = 0; i < bytes; i = after(b, i))
		b->contents[i] = byte_of(b, i);
	return b;
}

static size_t pick(uint64_t *seed)
{
	uint64_t r = next_random(seed) % 1000, x = next_random(seed);
	return r < 700   ? x % 1024
	       : r < 900 ? x % 16384
	       : r < 980 ? x % 131072
	       : r < 998 ? x % MIB
			 : x % (4 * MIB);
}

static void drop(struct block *b)
{
	if (b)
		check(b);
	free(b);
}

static struct block *make(uint64_t *seed)
{
	size_t bytes = pick(seed), whole = sizeof(struct block) + bytes;
	switch (next_random(seed) % 8) {
	case 0:
		return filled(aligned_alloc(64, whole), bytes);
	case 1:
		return filled(calloc(1, whole), bytes);
	default:
		return filled(malloc(whole), bytes);
	}
}

static void one_step(struct block **slot, uint64_t *seed)
{
	size_t bytes;
	switch (next_random(seed) % 8) {
	case 0:
		bytes = pick(seed);
		if (*slot)
			check(*slot);
		*slot = filled(realloc(*slot, sizeof(struct block) + bytes), bytes);
		break;
	case 1:
	case 2:
		*slot = atomic_exchange(&shelf[next_random(seed) % SHELF], *slot);
		break;
	default:
		drop(*slot);
		*slot = make(seed);
	}
}

static void *rounds(void *arg)
{
	struct block **mine = arg;
	uint64_t seed = ((uintptr_t)arg ^ atomic_load(&ids)) | 1;
	for (unsigned round = 0; round < ROUNDS && !atomic_load(&stop); round++) {
		for (unsigned i = 0; i < STEPS; i++)
			one_step(&mine[next_random(&seed) % SLOTS], &seed);
		atomic_fetch_add(&operations, STEPS);
		for (unsigned i = round % 2; i < SLOTS; i += 2) {
			drop(mine[i]);
			mine[i] = NULL;
		}
		usleep(1000 * (unsigned)(next_random(&seed) % rest_ms));
	}
	return NULL;
}

/* Threads live for ROUNDS rounds; this one is there for the whole time and replaces them. */
static void *lives(void *arg)
{
	while (!atomic_load(&stop)) {
		pthread_t t;
		if (pthread_create(&t, NULL, rounds, arg)) {
			perror("soak: pthread_create");
			abort();
		}
		pthread_join(t, NULL);
	}
	return NULL;
}

/* Bytes that are live when all that is free has come home: parcels of ended threads too. */
static uint64_t live(void)
{
	struct hakmem_stats s = { 0 };
	int (*get)(struct hakmem_stats *, size_t);
	void (*idle)(void);
	size_t (*trim)(void);
	*(void **)&get = dlsym(RTLD_DEFAULT, "hakmem_stats_get");
	*(void **)&idle = dlsym(RTLD_DEFAULT, "hakmem_thread_idle");
	*(void **)&trim = dlsym(RTLD_DEFAULT, "hakmem_trim");
	if (!get || !idle || !trim) {
		fprintf(stderr, "soak: this is not hakmem\n");
		exit(2);
	}
	for (int i = 0; i < 3; i++) {
		idle();
		trim();
	}
	get(&s, sizeof s);
	return s.live;
}

int main(int argc, char **argv)
{
	pthread_t t[THREADS];
	time_t end = time(NULL) + (argc > 1 ? atol(argv[1]) : 0);
	if (argc < 2 || argc > 3)
		return 2;
	if (argc == 3 && !(rest_ms = (unsigned)atoi(argv[2])))
		return 2;
	uint64_t before = live();
	for (unsigned i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, lives, tables[i]))
			abort();
	while (time(NULL) < end)
		usleep(100000);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	for (unsigned i = 0; i < THREADS * SLOTS; i++)
		drop(tables[i / SLOTS][i % SLOTS]);
	for (unsigned i = 0; i < SHELF; i++)
		drop(atomic_load(&shelf[i]));
	/* what the C library keeps of its threads, and of this dlsym */
	uint64_t left = live() - before;
	printf("%llu operations, %llu bytes live at the end\n", (unsigned long long)operations, (unsigned long long)left);
	return left > 256 << 10;
}
