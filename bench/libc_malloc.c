/* SPDX-License-Identifier: MIT */
/*
 * The C library's malloc under a program that is linked with another one: preloaded, it gives
 * every name of the malloc family, jemalloc's own functions included, to the C library.
 * For comparisons only.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

/* glibc's names that no preload replaces */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *p, size_t bytes);
void *__libc_memalign(size_t align, size_t bytes);
void __libc_free(void *p);

static size_t (*usable)(void *);

__attribute__((constructor)) static void find(void)
{
	void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
	if (libc)
		usable = (size_t (*)(void *))dlsym(libc, "malloc_usable_size");
}

void *malloc(size_t bytes) { return __libc_malloc(bytes); }
void *calloc(size_t count, size_t bytes) { return __libc_calloc(count, bytes); }
void *realloc(void *p, size_t bytes) { return __libc_realloc(p, bytes); }
void *memalign(size_t align, size_t bytes) { return __libc_memalign(align, bytes); }
void *aligned_alloc(size_t align, size_t bytes) { return __libc_memalign(align, bytes); }
void free(void *p) { __libc_free(p); }

int posix_memalign(void **out, size_t align, size_t bytes)
{
	void *p = __libc_memalign(align, bytes);
	if (!p)
		return ENOMEM;
	*out = p;
	return 0;
}

size_t malloc_usable_size(void *p)
{
	if (!usable)
		find();
	return p && usable ? usable(p) : 0;
}

/* jemalloc(3); bit 6 of the flags asks for zeroes, bits 0 to 5 for an alignment */
void *mallocx(size_t bytes, int flags)
{
	void *p = __libc_memalign((size_t)1 << (flags & 63), bytes);
	return p && flags & 0x40 ? memset(p, 0, bytes) : p;
}
void *rallocx(void *p, size_t bytes, int flags) { return (void)flags, __libc_realloc(p, bytes); }
size_t xallocx(void *p, size_t bytes, size_t extra, int flags)
{
	return (void)bytes, (void)extra, (void)flags, malloc_usable_size(p);
}
size_t sallocx(void *p, int flags) { return (void)flags, malloc_usable_size(p); }
void dallocx(void *p, int flags) { (void)flags, __libc_free(p); }
void sdallocx(void *p, size_t bytes, int flags) { (void)bytes, (void)flags, __libc_free(p); }
size_t nallocx(size_t bytes, int flags) { return (void)flags, bytes; }
