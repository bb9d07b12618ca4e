/* SPDX-License-Identifier: MIT */
/*
 * Do ended threads cost anything? COUNT threads in turn each leave blocks, which other
 * threads free. After a warm-up the resident set must not grow; threads_end.sh compares the
 * mapped bytes of a short and a long run.
 *
 *   threads_end COUNT     status 0, or 1 and a line on stderr
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCKS 48
#define WARM_UP 1000
#define GROWTH_KIB (16 * 1024) /* 10,000 lost heaps or slabs are far more */

struct legacy {
	unsigned char *p[BLOCKS];
	size_t n[BLOCKS];
};

/* Three legacies at a time: the next thread frees one, main another. */
static struct legacy legacies[3];

static void check(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "threads_end: %s\n", what);
	_exit(1);
}

static void leave(struct legacy *l, uint32_t seed)
{
	for (int i = 0; i < BLOCKS; i++) {
		seed = seed * 1664525u + 1013904223u;
		uint32_t r = seed >> 24, x = seed >> 8;
		l->n[i] = r < 200 ? 1 + x % 2000 : r < 250 ? 2000 + x % 30000 : 60000 + x % 400000;
		l->p[i] = malloc(l->n[i]);
		check(l->p[i] != NULL, "no memory");
		l->p[i][0] = l->p[i][l->n[i] - 1] = (unsigned char)l->n[i];
	}
}

static void inherit(struct legacy *l)
{
	for (int i = 0; i < BLOCKS; i++) {
		if (!l->p[i])
			continue;
		unsigned char want = (unsigned char)l->n[i];
		check(l->p[i][l->n[i] - 1] == want && l->p[i][0] == want, "a block was overwritten");
		free(l->p[i]);
		l->p[i] = NULL;
	}
}

static void *lives_shortly(void *arg)
{
	size_t i = (size_t)arg;
	if (i % 2)
		inherit(&legacies[(i + 2) % 3]); /* the previous thread's */
	leave(&legacies[i % 3], (uint32_t)i);
	return NULL;
}

static long resident_kib(void)
{
	long pages = 0, resident = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	check(f && fscanf(f, "%ld %ld", &pages, &resident) == 2, "/proc/self/statm");
	fclose(f);
	return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

int main(int argc, char **argv)
{
	size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 10000;
	long warm = 0, most = 0;
	for (size_t i = 0; i < count; i++) {
		pthread_t t;
		inherit(&legacies[i % 3]);
		check(pthread_create(&t, NULL, lives_shortly, (void *)i) == 0, "pthread_create");
		pthread_join(t, NULL);
		if (i % 100 == 99) {
			long now = resident_kib();
			if (i < WARM_UP)
				warm = now > warm ? now : warm;
			most = now > most ? now : most;
		}
	}
	for (int i = 0; i < 3; i++)
		inherit(&legacies[i]);
	if (most > warm + GROWTH_KIB) {
		fprintf(stderr, "threads_end: %ld KiB resident after %d threads, %ld KiB at most later\n", warm,
			WARM_UP, most);
		return 1;
	}
	return 0;
}
