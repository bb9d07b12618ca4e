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
/* The same out of a node's pool (numa/node.h), whichever node the thread is on. */
void *hak_memalign_at(unsigned node, size_t align, size_t bytes);
/* Changes the thread's heap now, if it has one and it is no longer the one it should have. */
void hak_thread_settle(void);
/* The kernel's node that the block's first byte lies on, or is bound to; -1: no one knows,
 * -2: it is no block of ours. */
int hak_block_node(const void *p);
/* Bytes that may be used; 0 for NULL and for a block that is not hakmem's. */
size_t hak_usable_size(const void *p);

#endif
