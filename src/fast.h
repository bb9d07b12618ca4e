/* SPDX-License-Identifier: MIT */
/*
 * The fast path of allocate and free, and nothing else: inline, so that malloc and free
 * themselves (interpose.c) are these lines. What is rare (not started, magazine empty or
 * full, another heap's block) is folded into states they test anyway, and leaves through
 * a tail call.
 *
 *   malloc(n)  size -> code -> this heap's magazine -> block
 *   free(p)    granule -> tag -> xor with my heap's tag: my magazine of that class,
 *              or, if that is no class, someone else's block or no block at all
 */
#ifndef HAK_FAST_H
#define HAK_FAST_H

#include "heap.h"

/* NULL: the slow path must decide. */
static inline void *hak_malloc_fast(size_t bytes)
{
	struct hak_heap *h = hak_heap_self;
	if (hak_unlikely(bytes > HAK_SLAB_MAX))
		return NULL;
	/* relaxed: whatever class it names, the blocks in its magazine hold as much */
	uint32_t code = atomic_load_explicit(&hak_size_code[(bytes + 15) / 16], memory_order_relaxed);
	return hak_mag_pop((struct hak_mag *)((char *)h + code));
}

void *hak_malloc_slow(size_t bytes);
void hak_free_other(void *p, uint32_t code);
void hak_free_far(void *p);
void hak_free_full(void *p, struct hak_mag *m);
void hak_free_misaligned(void *p, struct hak_mag *m);
void hak_free_twice(void *p, struct hak_mag *m);

/* A block that is m's, and on its stride. */
static inline void hak_free_own(void *p, struct hak_mag *m)
{
	void **top = hak_mag_top(m);
	if (hak_unlikely(hak_mag_newest(top) == p)) {
		hak_free_twice(p, m);
		return;
	}
	if (hak_unlikely(top >= hak_mag_limit(m))) {
		hak_free_full(p, m);
		return;
	}
	hak_mag_push(m, top, p);
}

static inline void hak_free_fast(void *p)
{
	struct hak_heap *h = hak_heap_self;
	size_t g = ((uintptr_t)p - hak_windows[0].base) >> HAK_GRANULE_SHIFT;
	if (hak_unlikely(g >= hak_windows[0].granules)) {
		hak_free_far(p);
		return;
	}
	/* relaxed: who has the block got it after its tag was set */
	uint32_t code = atomic_load_explicit(&hak_windows[0].tags[g], memory_order_relaxed) ^ h->tag;
	if (hak_unlikely(code >= HAK_CODE(HAK_CLASSES))) {
		hak_free_other(p, code);
		return;
	}
	struct hak_mag *m = (struct hak_mag *)((char *)h + code);
	if (hak_unlikely(((uint32_t)(uintptr_t)p & m->mask) * m->inverse >= m->inverse)) {
		hak_free_misaligned(p, m);
		return;
	}
	hak_free_own(p, m);
}

/* The magazine that a free of p would push it to; NULL: the slow path must decide. */
static inline struct hak_mag *hak_own_mag(const void *p)
{
	struct hak_heap *h = hak_heap_self;
	size_t g = ((uintptr_t)p - hak_windows[0].base) >> HAK_GRANULE_SHIFT;
	if (hak_unlikely(g >= hak_windows[0].granules))
		return NULL;
	/* relaxed: as in hak_free_fast */
	uint32_t code = atomic_load_explicit(&hak_windows[0].tags[g], memory_order_relaxed) ^ h->tag;
	if (hak_unlikely(code >= HAK_CODE(HAK_CLASSES)))
		return NULL;
	struct hak_mag *m = (struct hak_mag *)((char *)h + code);
	return hak_likely(((uint32_t)(uintptr_t)p & m->mask) * m->inverse < m->inverse) ? m : NULL;
}

#endif
