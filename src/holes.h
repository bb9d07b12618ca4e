/* SPDX-License-Identifier: MIT */
/*
 * Free pages inside of slabs that are in use. Where most of a slab's blocks are free and nobody takes
 * any, the whole pages among those go back to the kernel.
 *
 *   a block comes back, and half of the slab is free     the SuperSlab is marked: any thread, a bit
 *   the reclaimer's first look                           the slab is calm until a block is taken
 *   a later one: calm still                              its holes are taken, given back, put back
 *
 * To take a hole is to allocate its blocks, by the owner's bitmap under the owner's lock; to put it back
 * is to free them, to whoever owns the slab by then. In between they are out, like blocks in a parcel:
 * nobody else has them, and the slab can be neither EMPTY nor released. So there is no further state.
 *
 * A huge page is split for holes as it is for EMPTY granules: when half of it would go. The guard page
 * that keeps khugepaged away lies in a free granule; if there is none, in a hole, of which the blocks
 * that reach into it stay out until the guard goes.
 */
#ifndef HAK_HOLES_H
#define HAK_HOLES_H

#include "base.h"

struct hak_arena;
struct hak_slab;

/* So many blocks free make a slab loose that has just had so many. */
static inline uint16_t hak_loose_at(uint32_t capacity, uint32_t nfree)
{
	return (uint16_t)hak_max(capacity / 2, nfree + capacity / 8 + 1);
}

/* The slab has become loose. Its owner, under its lock. */
void hak_holes_mark(struct hak_slab *s);

/* The first blocks will be taken from a slab of which holes went back. Its owner, under its lock. */
void hak_holes_taken(struct hak_slab *s);

/* What the reclaimer asks for; all of it under its lock. */
struct hak_holes_pass {
	bool due;	 /* calm slabs alone */
	bool all;	 /* every SuperSlab, marked or not */
	bool split;	 /* huge pages may be split, of which no granule is free */
	uint32_t *left;	 /* huge pages that may still be split */
	bool epoch;	 /* the governor's: what was given back is counted again */
	bool busy;	 /* out: something may become due by itself */
};

/* Guards go that keep slabs from becoming EMPTY of which all else is free. True: there are such slabs now. */
bool hak_holes_free_guards(void);

/* Looks for holes in a SuperSlab, if it is marked, for hak_holes_give. */
void hak_holes_look(struct hak_arena *a, uint32_t super, struct hak_holes_pass *pass);

/* Pages that the look has found to be worth giving back. */
uint32_t hak_holes_found(const struct hak_arena *a, uint32_t super);

/* Gives back what the look has found, in batches, and then what is left of the last one. */
void hak_holes_give(struct hak_arena *a, uint32_t super, struct hak_holes_pass *pass);
void hak_holes_flush(void);

/* Bytes that went back and were soon in use again, since the last call. */
uint64_t hak_holes_back(void);

/* Another epoch of the governor's begins. */
void hak_holes_epoch(void);

/* In fork's child: no hole is on its way. */
void hak_holes_forked(void);

/* Is the SuperSlab split, and its guard page in a hole? */
bool hak_holes_guarded(const struct hak_arena *a, uint32_t super);

/* Pages in holes that were given back, and not taken since as far as is known. Any thread */
uint32_t hak_holes_pages(const struct hak_arena *a, uint32_t super);

/* All of the SuperSlab is free: it has none. */
void hak_holes_gone(struct hak_arena *a, uint32_t super);

#endif
