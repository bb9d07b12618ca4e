/* SPDX-License-Identifier: MIT */
/*
 * Loaded beside a malloc: hooks madvise and munmap, as libraries of RDMA do to keep their caches
 * of registered memory true, and allocates and frees at each call.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static void note(size_t bytes)
{
	/* volatile: malloc is declared as if it could not call back into this file */
	static _Thread_local volatile int inside;
	static _Thread_local char *kept[8];
	static _Thread_local unsigned calls;
	if (inside)
		return;
	inside = 1;
	char **k = &kept[calls++ % 8];
	free(*k);
	*k = malloc(bytes / 4096 % 3000 + 1);
	if (*k)
		memset(*k, 1, bytes / 4096 % 3000 + 1);
	free(malloc(70000));
	free(malloc((size_t)3 << 20));
	free(malloc((size_t)65 << 20));
	inside = 0;
}

int madvise(void *p, size_t bytes, int advice)
{
	note(bytes);
	return (int)syscall(SYS_madvise, p, bytes, advice);
}

int munmap(void *p, size_t bytes)
{
	note(bytes);
	return (int)syscall(SYS_munmap, p, bytes);
}
