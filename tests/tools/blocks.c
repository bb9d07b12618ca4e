/* SPDX-License-Identifier: MIT */
/* Blocks whose state is known, for a debugger: stops itself in `stop_here`. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

void *volatile allocated, *volatile cached, *volatile sent, *volatile run, *volatile large, *volatile fresh;
int not_ours;

__attribute__((noinline)) void stop_here(void)
{
	__asm__ volatile("" ::: "memory");
	abort();
}

static void *other(void *arg)
{
	(void)arg;
	sent = malloc(100); /* this thread's, freed by the first one below */
	fresh = (char *)malloc(3000) + 3072; /* the next one of its slab, which nobody asked for */
	return NULL;
}

int main(void)
{
	pthread_t t;
	allocated = malloc(1000);
	cached = malloc(50);
	free(cached);
	run = malloc(500000);
	large = malloc((size_t)5 << 20);
	memset(run, 1, 500000);
	pthread_create(&t, NULL, other, NULL);
	pthread_join(t, NULL);
	for (int i = 0; i < 20; i++)
		free(malloc(40)); /* this thread has a heap */
	free(sent);
	stop_here();
}
