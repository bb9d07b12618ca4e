/* SPDX-License-Identifier: MIT */
/*
 * Hardened mode: HAKMEM_HARDENED, decided before the first allocation. Magazines are never made
 * then, so that every malloc and every free of a heap leaves the fast path, which knows nothing
 * of this. What a slab's block looks like, of the class's stride:
 *
 *   | the program's bytes | canary bytes    | record |
 *   0                     asked             room     room + HAK_HARD_RECORD == extent
 *
 * The record says how many bytes were asked for and that the block is in use, or that it is
 * free; it is bound to the address and to a number drawn at start-up. A block of whole granules
 * has the same, and, with `guard`, a page behind it that cannot be touched. A free block waits in
 * its heap:
 *
 *   free -> waiting, first in, first out -> ready, any of them -> malloc
 *           (the quarantine)                full: half of them go to their slabs
 *
 * The features are words of the option, and may be chosen one by one:
 *
 *   check       the record; it is there with any of the others, too
 *   random      which of the ready blocks goes out, and which blocks of which slab get ready
 *   junk        a free block is filled with a pattern, which is checked when it goes out again
 *   zero        the same with zeros, and all of it
 *   quarantine  a block waits until as many of its class have been freed after it
 *   canary      the bytes from what was asked to the record are checked as well
 *   guard       a page that cannot be touched ends each slab and each larger block
 */
#ifndef HAK_HARDENED_H
#define HAK_HARDENED_H

#include "base.h"
#include "heap.h"

enum hak_hardened_feature { /* as in options.def, from 1 on: 0 is "on" */
	HAK_HARD_CHECK = 1u << 1,
	HAK_HARD_RANDOM = 1u << 2,
	HAK_HARD_JUNK = 1u << 3,
	HAK_HARD_ZERO = 1u << 4,
	HAK_HARD_QUARANTINE = 1u << 5,
	HAK_HARD_CANARY = 1u << 6,
	HAK_HARD_GUARD = 1u << 7,
};

#define HAK_HARD_RECORD sizeof(uint64_t)

extern unsigned hak_hardened; /* features; 0: off. Immutable after start-up */

/* Free blocks of one class in one heap. Owner only, and replaced by a larger one under the home's lock;
 * others read the two counts, for statistics, under that lock. */
struct hak_bag {
	uint32_t size;	    /* immutable, as the next four: it takes 16 times as many bytes at most, itself included */
	uint32_t stride;    /* the class's */
	uint32_t most;	    /* of ready blocks */
	uint32_t last_wait; /* places for waiting blocks, a power of two, less 1 */
	uint32_t room;	    /* of ready blocks, for those that have waited; 0: the places are to become more first */
	uint32_t oldest;    /* the waiting block that has waited longest, once all places are taken */
	_Atomic uint32_t ready, waiting;
	void *slots[]; /* of waiting blocks, NULL: none there yet; then of ready ones */
};

/* What a hardened heap has beside. Owner only. */
struct hak_hard {
	uint64_t seed;
	struct hak_bag *_Atomic bags[HAK_CLASSES]; /* NULL: none yet */
};

/* relaxed, all four: the owner reads what it wrote; others may read counts that are old */
static inline struct hak_bag *hak_bag_got(const struct hak_hard *d, unsigned class)
{
	return atomic_load_explicit(&d->bags[class], memory_order_relaxed);
}
static inline uint32_t hak_bag_ready(const struct hak_bag *b)
{
	return atomic_load_explicit(&b->ready, memory_order_relaxed);
}
static inline void **hak_bag_ready_slots(struct hak_bag *b)
{
	return &b->slots[b->last_wait + 1];
}
static inline void hak_bag_set_ready(struct hak_bag *b, uint32_t n)
{
	atomic_store_explicit(&b->ready, n, memory_order_relaxed);
}
static inline void hak_bag_set_waiting(struct hak_bag *b, uint32_t n)
{
	atomic_store_explicit(&b->waiting, n, memory_order_relaxed);
}

/* Reads the option. Before any heap is made. */
void hak_hardened_start(void);

/* NULL: no memory. */
struct hak_hard *hak_hard_new(void);

/* ---- blocks ----------------------------------------------------------------------
 * extent: bytes from the block's start to the end of its record. */

/* Makes p a block in use of `bytes`. What was written to it while it was free is reported. */
void *hak_hardened_arm(void *p, size_t extent, size_t bytes);
/* The same of a block in use, for another size. */
void *hak_hardened_rearm(void *p, size_t extent, size_t bytes);
/* The same for a mapping of its own, which gets its guard page. */
void *hak_hardened_arm_own(void *p, size_t extent, size_t bytes);

/* Makes p free. False: it is no block in use, or was written behind its end: reported, and to be
 * left alone. */
bool hak_hardened_disarm(void *p, size_t extent, uint32_t heap);

/* For realloc: false, and reported, where disarm would fail. */
bool hak_hardened_intact(const void *p, size_t extent);

/* Bytes asked for; 0: p is no block in use. */
size_t hak_hardened_asked(const void *p, size_t extent);

/* ---- guard pages ---------------------------------------------------------------------
 * That of a run or slab stays closed when it is freed: the next one that ends there has it. It is
 * opened for one that goes on behind it, and before its memory goes back to the kernel. */

/* Opens what is closed in claimed granules, but for the last page if that is to be a guard. False: the
 * kernel refuses; they are to be given back. */
bool hak_hardened_claimed(struct hak_arena *a, uint32_t granule, uint32_t count, bool guard);
/* Closes the last page of the caller's granule, if it is not yet; it stays open if the kernel refuses. */
void hak_hardened_close(struct hak_arena *a, uint32_t granule);

/* Of own mappings: opens the guard page. False: the kernel refuses, and whoever gets the memory next
 * asks again, by: */
bool hak_hardened_open_own(void *page);
/* May all of this free memory be touched? False: a page in it stays closed; it is to be given back. */
bool hak_hardened_own_usable(void *from, size_t bytes);

/* ---- a heap's free blocks ------------------------------------------------------------ */

/* A block of the calling thread's heap, armed; NULL: none is ready, or bytes are too many. */
void *hak_hardened_take(size_t bytes);

/* free of a block of the calling thread's heap h, on the stride of its class, whose magazine m would be. */
void hak_hardened_free(struct hak_heap *h, struct hak_mag *m, void *p);

/* The class's bag, for blocks of a slab if none is ready: made if need be, and the larger the more often it
 * was found empty. NULL: no memory. The home's lock is held, as for the next two. */
struct hak_bag *hak_bag_for_refill(struct hak_heap *h, unsigned class);
/* Takes a ready block; there must be one. */
void *hak_bag_pick(struct hak_heap *h, struct hak_bag *b);
/* Puts a disarmed block in; a bag that is full grows. False: there is no room; *p is then the one that
 * must go home. */
bool hak_bag_put(struct hak_heap *h, unsigned class, void **p);
/* Doubles the bag; p, if any, has waited in it longest. False: it is as large as it gets, or there is no memory. */
bool hak_bag_grow(struct hak_heap *h, unsigned class, void *p);
/* How many blocks are in it. */
uint32_t hak_bag_count(const struct hak_bag *b);

/* ---- slabs ------------------------------------------------------------------------------ */

/* Has a slab that begins at this granule a guard page? */
bool hak_hardened_slab_guarded(const struct hak_arena *a, uint32_t granule);
/* After hak_slab_init: its end becomes a guard page, and blocks that reach into it are set aside. */
void hak_hardened_slab_made(struct hak_slab *s);
/* As hak_slab_take, from any place in the slab. */
uint32_t hak_hardened_slab_take(struct hak_heap *h, struct hak_slab *s, uint32_t want, void ***end);
/* A slab of the list that begins with s. */
struct hak_slab *hak_hardened_slab_any(struct hak_heap *h, struct hak_slab *s);

#endif
