/* SPDX-License-Identifier: MIT */
/*
 * A process to look at from outside: blocks of every tier in a few threads, some of them freed
 * by others; then all is quiet. Prints "ready" and waits for the end of its input.
 *
 *	target [MIB]		so many MiB more, in blocks that are never touched
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS 3
#define BLOCKS 2000
#define LARGE ((size_t)60 << 20)

static void *blocks[THREADS][BLOCKS];
static pthread_barrier_t done, end;

static void *work(void *arg)
{
	static const size_t sizes[] = { 24, 100, 1000, 3000, 20000, 100000, 400000 };
	size_t me = (size_t)arg;
	for (size_t i = 0; i < BLOCKS; i++) {
		size_t n = sizes[(i + me) % (i % 16 ? 4 : sizeof sizes / sizeof *sizes)];
		blocks[me][i] = malloc(n);
		if (!blocks[me][i])
			abort();
		memset(blocks[me][i], 1, n);
	}
	pthread_barrier_wait(&done);
	for (size_t i = 0; i < BLOCKS; i += 3) /* another thread's */
		free(blocks[(me + 1) % THREADS][i]);
	pthread_barrier_wait(&done);
	pthread_barrier_wait(&end);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
	pthread_barrier_init(&done, NULL, THREADS + 1);
	pthread_barrier_init(&end, NULL, THREADS + 1);
	for (size_t i = 0; i < THREADS; i++)
		if (pthread_create(&thread, NULL, work, (void *)i))
			return 1;
	pthread_barrier_wait(&done);
	pthread_barrier_wait(&done);
	for (size_t n = 0; n < mib << 20; n += LARGE)
		if (!malloc(LARGE))
			return 1;
	void *volatile own = malloc((size_t)80 << 20);
	if (write(STDOUT_FILENO, "ready\n", 6) != 6)
		return 1;
	char c; /* stdio would allocate a buffer now */
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	free(own);
	return 0;
}
