/* SPDX-License-Identifier: MIT */
/*
 * A program whose heap profile is known. `held` asks for 60 MB that are never freed, `churned`
 * for 200 MB that are freed at once; `left` is what survives of a million operations in
 * threads that free each other's blocks: prints how many blocks that is. `profile` prints the profile so
 * far, by hakmem(3), and ends with what it returned.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hakmem/hakmem.h"

#define HELD 3000
#define CHURNED 2000000
#define THREADS 4
#define SLOTS 500
#define OPERATIONS 250000

static void *kept[HELD];
static void *_Atomic slots[THREADS * SLOTS];

__attribute__((noinline)) static void held(void)
{
	for (int i = 0; i < HELD; i++) {
		kept[i] = malloc(20000);
		memset(kept[i], 1, 20000);
	}
}

__attribute__((noinline)) static void churned(void)
{
	for (int i = 0; i < CHURNED; i++) {
		void *volatile p = malloc(100);
		free(p);
	}
}

/* A block of any size by any of the ways to have one. */
__attribute__((noinline)) static void *left(uint64_t r)
{
	size_t n = 32 + r % 3000;
	void *p = NULL;
	switch (r >> 32 & 3) {
	case 0:
		return malloc(n);
	case 1:
		return calloc(2, n / 2);
	case 2:
		return posix_memalign(&p, 64, n) ? NULL : p;
	default:
		return realloc(malloc(n / 2), n); /* of two samples one is to remain */
	}
}

static void *work(void *arg)
{
	uint64_t r = (uintptr_t)arg * 7919 + 1;
	for (int i = 0; i < OPERATIONS; i++) {
		r = r * 6364136223846793005u + 1442695040888963407u;
		void *p = atomic_exchange(&slots[(r >> 40) % (THREADS * SLOTS)], i % 3 ? left(r >> 20) : NULL);
		free(p);
	}
	return NULL;
}

static void print(void *arg, const char *text, size_t bytes)
{
	fwrite(text, 1, bytes, arg);
}

static int print_profile(void)
{
	int (*write_profile)(hakmem_write_fn *, void *);
	*(void **)&write_profile = dlsym(RTLD_DEFAULT, "hakmem_profile_write");
	return write_profile ? write_profile(print, stdout) : -1;
}

int main(int argc, char **argv)
{
	pthread_t t[THREADS];
	int count = 0;
	if (argc > 1 && !strcmp(argv[1], "left")) {
		for (size_t i = 0; i < THREADS; i++)
			if (pthread_create(&t[i], NULL, work, (void *)(i + 1)))
				return 1;
		for (size_t i = 0; i < THREADS; i++)
			pthread_join(t[i], NULL);
		for (int i = 0; i < THREADS * SLOTS; i++)
			count += slots[i] != NULL;
		printf("%d\n", count);
		return 0;
	}
	held();
	churned();
	if (argc > 1 && !strcmp(argv[1], "profile"))
		return print_profile() ? 1 : 0;
	if (argc > 1) { /* says that it is ready, and waits to be killed */
		puts("ready");
		fflush(stdout);
		for (;;)
			pause();
	}
	return 0;
}
