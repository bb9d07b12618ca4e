/* SPDX-License-Identifier: MIT */
/*
 * Blocks had in every way and of every kind, filled, resized, and freed by this thread or
 * another. Exits with 1 where one is not as it should be. With an argument, one is freed twice.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

static const size_t sizes[] = { 0, 1, 15, 16, 17, 100, 1000, 1024, 65536, 100000, 262128, 262144, 262145, MIB, 5 * MIB, 70 * MIB };
static const size_t aligns[] = { 16, 64, 4096, 65536, 131072, 4 * MIB };
#define COUNT(a) (sizeof(a) / sizeof *(a))

static void *check(void *p, size_t align, size_t bytes, const char *way)
{
	if (!p || (uintptr_t)p % align || malloc_usable_size(p) < bytes) {
		printf("%s of %zu bytes at %zu: %p, usable %zu\n", way, bytes, align, p, p ? malloc_usable_size(p) : 0);
		exit(1);
	}
	return p;
}

/* All that may be used is: what lies behind it is another's. */
static void fill(unsigned char *p, int with)
{
	memset(p, with, malloc_usable_size(p));
}

static void expect(const unsigned char *p, size_t bytes, int with, const char *way)
{
	for (size_t i = 0; i < bytes; i++)
		if (p[i] != with) {
			printf("%s: byte %zu of %zu is %d, not %d\n", way, i, bytes, p[i], with);
			exit(1);
		}
}

static void *freeing(void *p)
{
	free(p);
	return NULL;
}

static void free_elsewhere(void *p)
{
	pthread_t t;
	if (pthread_create(&t, NULL, freeing, p))
		exit(1);
	pthread_join(t, NULL);
}

int main(int argc, char **argv)
{
	(void)argv;
	if (argc > 1) {
		void *volatile p = malloc(100), *volatile other = malloc(100);
		free(p);
		free(other);
		free(p);
		return 0;
	}
	for (size_t i = 0; i < COUNT(sizes); i++) {
		size_t n = sizes[i];
		unsigned char *p = check(malloc(n), 16, n, "malloc");
		unsigned char *z = check(calloc(1, n), 16, n, "calloc");
		expect(z, n, 0, "calloc");
		fill(p, 1);
		fill(z, 2);
		for (size_t k = 0; k < COUNT(sizes); k++) {
			if (!sizes[k])
				continue;
			size_t kept = malloc_usable_size(p) < sizes[k] ? malloc_usable_size(p) : sizes[k];
			p = check(realloc(p, sizes[k]), 16, sizes[k], "realloc");
			expect(p, kept, 1, "realloc");
			fill(p, 1);
		}
		expect(z, n, 2, "calloc, later");
		free(p);
		free_elsewhere(z);
		for (size_t k = 0; k < COUNT(aligns); k++) {
			void *a = NULL;
			if (posix_memalign(&a, aligns[k], n))
				return 1;
			fill(check(a, aligns[k], n, "posix_memalign"), 3);
			k % 2 ? free(a) : free_elsewhere(a);
		}
	}
	return 0;
}
