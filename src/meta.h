/* SPDX-License-Identifier: MIT */
/*
 * Memory for hakmem's own structures: heaps, magazine arrays, wide bitmaps. Powers
 * of two from 64 bytes to 32 KiB, recycled by size, never given back: what once was
 * a heap stays readable as one (type-stable structures rely on it).
 */
#ifndef HAK_META_H
#define HAK_META_H

#include "base.h"
#include "lock.h"

#define HAK_META_MAX ((size_t)32768)

/* Zeroed memory, aligned to its rounded size up to a page; NULL if there is none. */
void *hak_meta_alloc(size_t bytes);
void hak_meta_free(void *p, size_t bytes);

/* The child of a fork that ran no handlers: what a vanished holder may have left half
 * changed is dropped. */
void hak_meta_fork_raw(void);

extern struct hak_lock hak_meta_lock; /* for fork */

#endif
