/* SPDX-License-Identifier: MIT */
/*
 * The malloc family under hakmem's own names; interpose.c gives them libc's.
 *
 * Any thread, at any time: before the library's constructor, in a fork's child, in
 * destructors of thread-local objects. None is async-signal-safe. Those that return
 * memory return NULL when there is none; errno is theirs to keep, never to set.
 */
#ifndef HAK_FRONT_H
#define HAK_FRONT_H

#include "base.h"

void *hak_malloc(size_t bytes);
void hak_free(void *p);
void *hak_calloc(size_t count, size_t bytes);
void *hak_realloc(void *p, size_t bytes);
/* align: a power of two. */
void *hak_memalign(size_t align, size_t bytes);
/* Bytes that may be used; 0 for NULL and for a block that is not hakmem's. */
size_t hak_usable_size(const void *p);

#endif
