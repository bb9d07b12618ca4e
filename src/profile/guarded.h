/* SPDX-License-Identifier: MIT */
/*
 * Guarded blocks (HAKMEM_GUARDED): samples of the heap profile that lie in slots of their own,
 * for finding overflows and uses after free in production.
 *
 *   pool  | guard | slot | guard | slot | guard | ...      a guard: one page, a slot: four
 *   slot  | closed | pad, block, pad | closed |            open: the pages of the block
 *
 * Of a slot's pages those that hold a live block can be touched, and no others: a block lies at
 * the slot's start or at its end, by chance. What is left of its pages is filled with a pattern
 * that free checks. A freed block's pages are closed and empty until all other free slots have
 * been used. A touch of a closed page is SIGSEGV, and reported (crash.c).
 *
 * The pool is reserved by the constructor and lies outside of all that the core knows: free
 * leaves its fast path for it as for any mapping.
 *
 * Any thread; the child of any fork. What is in a slot stands under the profile's lock, which is
 * never held while the pool is touched, so that the handler may take it.
 */
#ifndef HAK_PROFILE_GUARDED_H
#define HAK_PROFILE_GUARDED_H

#include "base.h"
#include "profile/profile.h"

#define HAK_GUARDED_ROOM (4 * HAK_PAGE)		     /* the largest block */
#define HAK_GUARDED_UNIT (HAK_GUARDED_ROOM + HAK_PAGE) /* a slot and its guard */

/* In the order in which a fault between two slots is put down to them. */
enum hak_guarded_state { HAK_GUARDED_UNUSED, HAK_GUARDED_FREED, HAK_GUARDED_LIVE };

/* A slot, and the block that is or was the last in it. */
struct hak_guarded {
	enum hak_guarded_state state;
	bool reported;
	uint32_t next; /* of the free ones */
	uintptr_t address;
	size_t bytes; /* as asked for, but 1 for 0 */
	/* who; NULL: unknown */
	const struct hak_profile_site *allocated, *freed;
	int allocated_by, freed_by; /* threads */
};

extern uintptr_t hak_guarded_base; /* immutable after the constructor, as: */
extern size_t hak_guarded_bytes;   /* 0: there is no pool */

/* Whether p lies in the pool. */
static inline bool hak_guarded_has(const void *p)
{
	return hak_unlikely((uintptr_t)p - hak_guarded_base < hak_guarded_bytes);
}

/* An open slot for a block; align: a power of two. chance: its lowest bit says at which end. NULL: there is
 * none, or the block is too large for one. hak_guarded_arm must follow. */
void *hak_guarded_alloc(size_t align, size_t bytes, uint64_t chance);
/* Notes whose block at p it is. */
void hak_guarded_arm(void *p, size_t bytes, const struct hak_profile_site *by);
/* A bad one is reported as the function's: "free" or "realloc". Keeps no errno. */
void hak_guarded_free(const char *function, void *p, const struct hak_profile_site *by);
/* Bytes of the live block that starts at p; 0: none does. */
size_t hak_guarded_size(const void *p);

/* The slot that a fault at `address`, in the pool, is to be put down to, as it is now; first: it was not yet reported.
 * Async-signal-safe. */
struct hak_guarded hak_guarded_blame(uintptr_t address, bool *first);

#endif
