/* SPDX-License-Identifier: MIT */
/*
 * pair: what runs malloc and free in turn for tests/instructions.sh, and nothing else?
 *
 *   pair SIZE PAIRS   makes PAIRS pairs of malloc(SIZE) and free
 *   pair              prints the file whose malloc it is bound to
 *
 * Under callgrind, PAIRS pairs less 0 pairs leaves the steady state: the start of the process, the
 * allocator's own start and the warm-up are in both. Some blocks of the size stay live, as in any
 * real program: without them some allocators give their only page back at every free.
 *
 * Compiled with -DPAIR_NOOP this is the library to subtract: a malloc and a free that do nothing.
 * Under it only the caller's loop and the way through the PLT remain.
 */
#ifdef PAIR_NOOP

#include <stddef.h>

/* Not malloc's own declaration: that would promise fresh memory, and this is always the same. */
static char block[64 * 1024] __attribute__((aligned(16)));

void *malloc(size_t size);
void free(void *p);

void *malloc(size_t size)
{
	(void)size;
	return block;
}

void free(void *p)
{
	(void)p;
}

#else

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WARM_UP 5000
#define LIVE 64

static void *live[LIVE];

__attribute__((noinline)) static void run(size_t size, long pairs)
{
	for (long i = 0; i < pairs; i++) {
		char *p = malloc(size);

		*(volatile char *)p = 1;
		free(p);
	}
}

static int origin(void)
{
	void *address = dlsym(RTLD_DEFAULT, "malloc");
	Dl_info info;

	if (!address || !dladdr(address, &info))
		return 1;
	return puts(info.dli_fname) < 0;
}

int main(int argc, char **argv)
{
	size_t size;

	if (argc == 1)
		return origin();
	if (argc != 3)
		return 2;
	size = strtoul(argv[1], NULL, 10);
	for (int i = 0; i < LIVE; i++) {
		live[i] = malloc(size);
		if (!live[i])
			return 1;
	}
	run(size, WARM_UP);
	run(size, strtol(argv[2], NULL, 10));
	for (int i = 0; i < LIVE; i++)
		free(live[i]);
	return 0;
}

#endif
