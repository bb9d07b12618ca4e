/* SPDX-License-Identifier: MIT */
/*
 * Blocks above 1 MiB. Up to 64 MiB they are runs of granules in span arenas, which
 * carry no memory policy: the first thread to touch a page decides where it lies. An arena
 * serves the threads of one node, and what lies elsewhere is given back before it is reused. It lies on huge
 * pages, or on small ones: for blocks that programs touch in part (touched.h).
 * From 64 MiB on each is a mapping of its own (own.h).
 *
 * All functions take the huge lock; the kernel's slow calls are made without it.
 */
#ifndef HAK_HUGE_H
#define HAK_HUGE_H

#include "base.h"
#include "lock.h"
#include "numa/arena.h"
#include "numa/own.h"

/* A block of at least `bytes`, aligned to `align` (a power of two, at least a granule), for a
 * thread of `node`. *zero: it is known to be zero. NULL if there is no memory. */
void *hak_huge_alloc(unsigned node, size_t bytes, size_t align, bool *zero);

/* Frees a run of a span arena; its tags are clear already. */
void hak_huge_release(struct hak_arena *arena, uint32_t granule, uint32_t count);

/* Grows or shrinks a run in place. */
bool hak_huge_resize(struct hak_arena *arena, uint32_t granule, uint32_t old_count, uint32_t count);

/* Words of SuperSlabs of a span arena have changed otherwise: the reclaimer, which holds the huge lock. */
void hak_huge_words_changed(struct hak_arena *arena, uint32_t super, uint32_t count);

/* In a child of a fork that ran no handlers, before the huge lock is opened. */
void hak_huge_fork_raw(void);

extern struct hak_arena *hak_span_arenas; /* under the huge lock */

#endif
