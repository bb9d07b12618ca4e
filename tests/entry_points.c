/* SPDX-License-Identifier: MIT */
/*
 * entry_points: what calls each of malloc's family in a steady state, for tests/entry_points.sh?
 *
 *   entry_points BYTES...   for each size: warm up, count, and have callgrind dump under that size
 *   entry_points            prints the file whose malloc it is bound to
 *
 * Each call to the allocator stands alone in a function do_NAME of its own, so that callgrind's
 * figures for what do_NAME calls are those of one entry point, and no caller's instruction is among
 * them. Some blocks of the size stay live, as in any real program.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <valgrind/callgrind.h>

#define LIVE_MAX 64
#define LIVE_BYTES (256ul << 20)
#define ROUNDS_MAX 1000ul
#define ROUNDS_MIN 20ul
#define ROUNDS_BYTES (8ul << 20) /* calloc may have to clear */
#define ALIGNMENT 64

#define ALONE __attribute__((noinline, noclone))

/* C++'s, by their names in C: new, delete(void *), delete(void *, size_t). NULL without C++. */
__attribute__((weak)) void *_Znwm(size_t size);
__attribute__((weak)) void _ZdlPv(void *p);
__attribute__((weak)) void _ZdlPvm(void *p, size_t size);

ALONE static void *do_malloc(size_t size)
{
	return malloc(size);
}

ALONE static void do_free(void *p)
{
	free(p);
}

ALONE static void *do_calloc(size_t size)
{
	return calloc(1, size);
}

/* To the same size: nothing has to move. */
ALONE static void *do_realloc_same(void *p, size_t size)
{
	return realloc(p, size);
}

/* To twice the size. */
ALONE static void *do_realloc_grow(void *p, size_t size)
{
	return realloc(p, 2 * size);
}

ALONE static void *do_aligned_alloc(size_t size)
{
	return aligned_alloc(ALIGNMENT, size);
}

ALONE static size_t do_malloc_usable_size(void *p)
{
	return malloc_usable_size(p);
}

ALONE static void *do_new(size_t size)
{
	return _Znwm(size);
}

ALONE static void do_delete(void *p)
{
	_ZdlPv(p);
}

ALONE static void do_delete_sized(void *p, size_t size)
{
	_ZdlPvm(p, size);
}

static void *write_to(void *p)
{
	if (!p)
		exit(1);
	*(volatile char *)p = 1;
	return p;
}

static void work(size_t size, size_t rounds)
{
	for (size_t i = 0; i < rounds; i++) {
		void *p = write_to(do_malloc(size));

		if (do_malloc_usable_size(p) < size)
			exit(1);
		do_free(p);
	}
	for (size_t i = 0; i < rounds; i++)
		free(write_to(do_calloc(size)));
	for (size_t i = 0; i < rounds; i++)
		free(write_to(do_realloc_same(write_to(malloc(size)), size)));
	for (size_t i = 0; i < rounds; i++)
		free(write_to(do_realloc_grow(write_to(malloc(size)), size)));
	for (size_t i = 0; i < rounds; i++)
		free(write_to(do_aligned_alloc(size)));
	for (size_t i = 0; _Znwm && i < rounds; i++) {
		do_delete(write_to(do_new(size)));
		do_delete_sized(write_to(do_new(size)), size);
	}
}

static void measure(const char *text)
{
	size_t size = strtoul(text, NULL, 10), live = 0, rounds;
	void *block[LIVE_MAX];

	if (size == 0)
		exit(2);
	rounds = ROUNDS_BYTES / size;
	rounds = rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds < ROUNDS_MIN ? ROUNDS_MIN : rounds;
	do
		block[live] = write_to(malloc(size));
	while (++live < LIVE_MAX && live * size < LIVE_BYTES);
	work(size, rounds);
	CALLGRIND_ZERO_STATS;
	work(size, rounds);
	CALLGRIND_DUMP_STATS_AT(text);
	while (live > 0)
		free(block[--live]);
}

int main(int argc, char **argv)
{
	Dl_info info;
	void *address;

	for (int i = 1; i < argc; i++)
		measure(argv[i]);
	if (argc > 1)
		return 0;
	address = dlsym(RTLD_DEFAULT, "malloc");
	return !address || !dladdr(address, &info) || puts(info.dli_fname) < 0;
}
