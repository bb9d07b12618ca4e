/* SPDX-License-Identifier: MIT */
/*
 * A slab: 1 to 32 granules that serve one class. Its state lies out of line, in the
 * arena's metadata; the memory of a block is never read or written by hakmem.
 *
 *   live + free + remote + in magazines and buffers == capacity
 *   free   bits in free_words                             under the owner's lock
 *   remote bits in remote_words, not yet collected        any thread
 *
 * The remote protocol (models/remote.pml; the tags are the model's):
 *
 *                   remote_free   collect   owner change   release
 *   remote_free        free         free        free          -
 *   collect            free        owner        owner       owner
 *
 *   free  = may run at the same time     owner = only the owner, under its lock
 *   -     = an EMPTY slab has no block out that anyone could free
 */
#ifndef HAK_SLAB_H
#define HAK_SLAB_H

#include "base.h"
#include "route.h"

struct hak_arena;

#define HAK_SLAB_INLINE_WORDS 4u /* 256 blocks: most classes; the others get a piece of metadata memory */
#define HAK_SLAB_QUEUED 1u

struct hak_slab {
	/* immutable while the slab serves a class */
	char *base;
	uint64_t *free_words;		/* class words */
	_Atomic uint64_t *remote_words; /* class words */
	uint16_t class;
	bool zero; /* the memory beyond `carved` is known to be zero */

	/* owner, under its lock */
	bool available; /* on the class's list */
	uint16_t hint;	/* no free bit in words below */
	uint16_t pad_;
	uint32_t nfree;
	uint32_t carved; /* blocks [carved, capacity) have never been handed out */
	struct hak_slab *next, *prev;

	/* any thread */
	_Atomic uint32_t remote_state HAK_ALIGNED(HAK_CACHELINE); /* HAK_SLAB_QUEUED */
	_Atomic uint32_t owner;					  /* heap id */
	struct hak_slab *pending_next; /* owned by whoever set QUEUED, until it is cleared */

	uint64_t words_[2 * HAK_SLAB_INLINE_WORDS] HAK_ALIGNED(HAK_CACHELINE);
};

static inline const struct hak_class *hak_slab_class(const struct hak_slab *s)
{
	return &hak_classes[s->class];
}

/* The block's index in its slab; its offset must have been checked to be on stride. */
static inline uint32_t hak_block_index(const void *p, const struct hak_class *c)
{
	uint64_t offset = (uintptr_t)p & c->mask;
	return (uint32_t)(((unsigned __int128)offset * c->inverse) >> 64);
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
		s->hint = (uint16_t)w;
	return true;
}

/* Sets remote bits. Returns those that were set already: freed twice. Any thread. */
static inline uint64_t hak_slab_remote_set(struct hak_slab *s, uint32_t word, uint64_t bits)
{
	/* release REMOTE-HANDOFF: the blocks' last use is before their bits are seen */
	return atomic_fetch_or_explicit(&s->remote_words[word], bits, memory_order_release) & bits;
}

/* After remote_set. True: the caller must put the slab on its owner's pending stack. */
static inline bool hak_slab_queue(struct hak_slab *s)
{
	/* release REMOTE-QUEUED: if the bit is set already, whoever clears it sees our
	 * remote bits; acquire REMOTE-OWNER: if not, we see the owner that the last
	 * clearing published */
	return !(atomic_fetch_or_explicit(&s->remote_state, HAK_SLAB_QUEUED, memory_order_acq_rel) &
		 HAK_SLAB_QUEUED);
}

/* Sets QUEUED from clear, so that no one else queues the slab. False: it is queued. */
static inline bool hak_slab_hold(struct hak_slab *s)
{
	uint32_t clear = 0;
	/* acquire REMOTE-OWNER; on failure nothing is read */
	return atomic_compare_exchange_strong_explicit(&s->remote_state, &clear, HAK_SLAB_QUEUED,
						       memory_order_acquire, memory_order_relaxed);
}

/* Clears QUEUED, then moves all remote bits to the free ones. Owner only, after taking
 * the slab from the pending stack or holding it. False: a block was freed twice, and
 * has been reported. */
bool hak_slab_collect(struct hak_slab *s);

/* Checks the equations above; nothing in a release build. Owner only. */
void hak_slab_check(const struct hak_slab *s);

#endif
