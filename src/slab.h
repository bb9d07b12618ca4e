/* SPDX-License-Identifier: MIT */
/*
 * A slab: 1 to 32 granules that serve one class. Its state lies out of line, in the
 * arena's metadata; the memory of a block is never read or written by hakmem.
 *
 *   blocks out + free == capacity
 *   out    with the program, in a magazine, in a remote buffer, in a parcel (heap.c)
 *   free   bits in free_words
 *
 * All of it belongs to the heap that owns the slab, under its lock. Who the owner is
 * stands in the tags of its granules. An EMPTY slab has no block out, so nobody can hold
 * or send anything that refers to it: it may become another class's or another heap's.
 */
#ifndef HAK_SLAB_H
#define HAK_SLAB_H

#include "base.h"
#include "route.h"

struct hak_arena;

#define HAK_SLAB_INLINE_WORDS 10u /* 640 blocks: strides from 112 on; the others get a piece of metadata memory */

struct hak_slab {
	/* immutable while the slab serves a class */
	char *base;
	uint64_t *free_words; /* class words */
	uint16_t class;
	bool zero : 1; /* the memory beyond `carved` is known to be zero */

	/* owner, under its lock */
	bool available : 1; /* on the class's list */
	bool calm : 1;	    /* nothing was taken since the reclaimer's last look */
	uint8_t hollow : 4; /* the epoch in which holes of it were given back, until a block is taken; or 0 */
	uint8_t hint;	    /* no free bit in words below */
	uint16_t set_aside; /* free blocks without a bit, which never go out: hardened.c */
	uint16_t loose_at;  /* so many free: the reclaimer looks for free pages (holes.h) */
	uint32_t nfree;
	uint32_t carved; /* blocks [carved, capacity) have never been handed out */
	struct hak_slab *next, *prev;
	uint64_t words_[HAK_SLAB_INLINE_WORDS];
} HAK_ALIGNED(HAK_CACHELINE);
_Static_assert(sizeof(struct hak_slab) == 128, "a SuperSlab's metadata is one small page");

static inline const struct hak_class *hak_slab_class(const struct hak_slab *s)
{
	return &hak_classes[s->class];
}

static inline bool hak_block_on_stride(const void *p, const struct hak_class *c)
{
	return ((uintptr_t)p & c->mask) * c->inverse < c->inverse;
}

/* Makes the run a slab of `class` for heap `owner`, all blocks free, and sets its
 * tags. False if there is no memory for its bitmaps. */
bool hak_slab_init(struct hak_arena *arena, uint32_t granule, unsigned class, uint32_t owner, bool zero);

/* Gives back what init took and clears the tags; the caller has the granules. */
void hak_slab_fini(struct hak_arena *arena, struct hak_slab *s);

/* Takes up to `want` free blocks, the lowest addresses first, and stores them at
 * --*end, so that the lowest ends up last. Returns how many. Owner only. */
uint32_t hak_slab_take(struct hak_slab *s, uint32_t want, void ***end);

/* Free blocks in a row that cover whole pages, and none that do not reach into one of those. */
struct hak_hole {
	uint32_t first, count; /* blocks */
};

/* The first hole at or after block `from`. False: there is none. Owner only. */
bool hak_slab_hole(const struct hak_slab *s, uint32_t from, struct hak_hole *hole);

/* The whole pages of a hole, as offsets from the slab's base. */
static inline size_t hak_hole_start(const struct hak_class *c, struct hak_hole hole)
{
	return hak_align_up((size_t)hole.first * c->stride, HAK_PAGE);
}
static inline size_t hak_hole_end(const struct hak_class *c, struct hak_hole hole)
{
	return hak_align_down((size_t)(hole.first + hole.count) * c->stride, HAK_PAGE);
}

/* Takes the hole's blocks out. Owner only. */
void hak_slab_take_hole(struct hak_slab *s, struct hak_hole hole);

/* Marks a block free. False: it was free already. Owner only. */
static inline bool hak_slab_put(struct hak_slab *s, uint32_t index)
{
	uint64_t bit = (uint64_t)1 << (index & 63);
	uint32_t w = index >> 6;
	if (s->free_words[w] & bit)
		return false;
	s->free_words[w] |= bit;
	s->nfree++;
	if (w < s->hint)
		s->hint = (uint8_t)w;
	return true;
}

/* Marks the leading ones of n blocks free that lie in this slab, each on its stride, and
 * returns how many those are. One that was free already is reported. Owner only. */
uint32_t hak_slab_put_run(struct hak_slab *s, void *const *blocks, uint32_t n, uint32_t owner);

/* Checks the equations above; nothing in a release build. Owner only. */
void hak_slab_check(const struct hak_slab *s);

#endif
