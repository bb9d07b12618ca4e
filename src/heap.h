/* SPDX-License-Identifier: MIT */
/*
 * A thread's heap: magazines, the slabs it owns, blocks on their way to other heaps.
 *
 *   own   written by the owner without a lock (fast path)
 *   lock  written under the heap's lock: once a batch, so without contention
 *   any   any thread, atomically
 *
 * Where there are many more threads than CPUs a heap is a guest: its slabs, lock, inbox and tag are those of
 * another heap, its home, and only magazines and buffer its own. Of the fields under the lock those
 * of slabs and of the inbox are used in homes alone.
 *
 * A heap is never freed; a tag names one for life. When its thread ends it is parked
 * whole, in O(1), on its node, and the next thread there takes it. Threads before
 * their first allocation and after their end have the static empty heap, whose
 * magazines are empty and full at once, so the fast path need not know.
 */
#ifndef HAK_HEAP_H
#define HAK_HEAP_H

#include "base.h"
#include "lock.h"
#include "numa/node.h"
#include "route.h"
#include "slab.h"
#include "step.h"

#define HAK_REMOTE_BLOCKS 62u /* what a parcel holds */
#define HAK_REMOTE_BYTES ((size_t)256 << 10)

/*
 * A LIFO array of free blocks. entry[0] is NULL, so an empty magazine's top reads
 * NULL. A push stores the entry before the top, a pop moves the top only: whatever
 * point a vanished thread stopped at (fork), entries up to the top are blocks, but for
 * the lowest ones: the reclaimer may have taken those (heap.c, take_cached), and NULL is there.
 */
struct hak_mag {
	void **_Atomic top;	 /* own, relaxed; statistics read it: the last entry */
	void **limit;		 /* at this top the magazine is full; written under the lock */
	/* immutable as long as the heap has a slab of the class */
	uint64_t inverse; /* of the class, for the stride check */
	uint32_t mask;	  /* slab size - 1 */
	uint32_t stride;
};
_Static_assert(sizeof(struct hak_mag) == (1u << HAK_CODE_SHIFT), "a class code is a magazine's offset");

/*
 * Blocks on their way to the heap that owns their slabs: 512 bytes of metadata memory. It
 * belongs to the sender until it is pushed, then to whoever takes the inbox it is in.
 */
struct hak_parcel {
	struct hak_parcel *next;
	uint32_t count;
	uint32_t pad_;
	void *block[HAK_REMOTE_BLOCKS];
};
_Static_assert(sizeof(struct hak_parcel) == 512, "a parcel fills a piece of metadata memory");

/* lock */
struct hak_heap_class {
	struct hak_slab *head, *tail; /* slabs with free blocks */
	void **entries;		      /* the magazine's array; NULL: none yet */
	uint16_t cap;		      /* its entries beyond the NULL one */
	uint16_t event : 15, slow : 1; /* of a large one: when it was last empty or full, and had not become so at once */
	uint8_t quiet;		      /* reclaimer's passes since the class was last refilled, to 255 */
	uint8_t capped;		      /* EMPTY slabs given back for the cap, less slabs made since; to 255 */
	uint16_t noted : 12, rested : 4; /* entries in use after its last slow path; looks since it was last refilled */
	uint32_t slabs;
	uint32_t nfree; /* free blocks in those slabs */
};

#define HAK_HEAP_COUNTERS(X)                                                                       \
	X(refills) X(drains) X(remote_out) X(remote_flushes) X(remote_in) X(slab_requests)         \
	X(slabs_released) X(adopted) X(lent)

struct hak_hard;

struct hak_heap {
	struct hak_mag mags[HAK_CLASSES]; /* own; first: its offset is the class code */
	uint32_t tag;			      /* immutable: hak_tag(id, 0) */

	/* own */
	uint32_t remote_count;
	struct hak_hard *hard; /* immutable: hardened.h; NULL: not hardened. If it is, it has no magazines */
	uint32_t remote_limit; /* immutable: HAK_REMOTE_BLOCKS - 1; 0 in the static empty heap, and in hardened ones */
	size_t remote_bytes;
	void *remote[HAK_REMOTE_BLOCKS];
	uint32_t sampled; /* bytes of refills since a size was last sampled (ace/ace.h) */

	/* any */
	struct hak_parcel *_Atomic inbox HAK_ALIGNED(HAK_CACHELINE); /* blocks freed by others */
	_Atomic uint64_t inbox_weight; /* about the bytes that wait in it: a threshold */

	struct hak_lock lock HAK_ALIGNED(HAK_CACHELINE);
	/* immutable once it can be found: the heap whose slabs it uses, and whose tag and lock are its
	 * own: itself, or, for a guest, another one of the node */
	struct hak_heap *home;
	struct hak_heap *next_home; /* of the node, in a ring; under the lock of ids */
	/* lock */
	struct hak_heap *guests, *next_guest;
	uint32_t guest_count;
	struct hak_parcel *rest;   /* taken from the inbox, not yet unpacked */
	struct hak_parcel *spares; /* empty parcels for our own use */
	uint32_t spare_count;
	uint32_t node;	/* immutable: its pool */
	bool trim;	/* the owner is asked to empty magazines that it does not use */
	uint16_t trim_quiet; /* those of classes that were as quiet as this */
	bool stale;	/* owner: a refill failed because the thread belongs to another pool */
	bool parked;	/* under the node's park lock */
	bool stock;	/* immutable once it can be found: no thread's, never parked, others take its slabs */
	bool abandoned; /* its state was cut off by a raw fork: never used again */
	size_t cached;	   /* what its magazines hold, as noted by class */
	size_t all_cached; /* and with its guests' */
	size_t room;	   /* what all those hold if they are full; 0: a hardened heap's */
	size_t out;	   /* bytes of its slabs' blocks that are not free in them */
	uint64_t slow_paths; /* as of the reclaimer's last pass */
	size_t live_known; /* what the node knows of out - cached */
	uint32_t uncache_at; /* class */
	uint32_t near_super;	      /* the SuperSlab claimed from last */
	struct hak_arena *near_arena; /* NULL: none */
	struct hak_heap *park_next; /* under the node's park lock */
	uint64_t stages[HAK_STAGES];
#define X(name) uint64_t name;
	HAK_HEAP_COUNTERS(X)
#undef X
	struct hak_heap_class classes[HAK_CLASSES];
};

_Static_assert(sizeof(struct hak_heap) <= 8192, "a heap is one piece of 8 KiB");

extern HAK_TLS struct hak_heap *hak_heap_self;
extern struct hak_heap hak_heap_none; /* the static empty heap */

/* relaxed: the owner's own word; readers of statistics may see it stale */
static inline void **hak_mag_top(const struct hak_mag *m)
{
	return atomic_load_explicit(&m->top, memory_order_relaxed);
}
static inline void hak_mag_set_top(struct hak_mag *m, void **top)
{
	atomic_store_explicit(&m->top, top, memory_order_relaxed);
}

/* The block at the top, without taking it: a plain load, since compilers do not fold an atomic one into
 * the comparison. */
static inline void *hak_mag_newest(void **top)
{
#if HAK_TSAN
	return __atomic_load_n(top, __ATOMIC_RELAXED);
#else
	return *top;
#endif
}

/* The newest block, NULL if the magazine is empty. */
static inline void *hak_mag_pop(struct hak_mag *m)
{
	/* relaxed: hak_heap_visit may take it at the same time, which both will notice */
	void **top = hak_mag_top(m);
	HAK_STEP(M5);
	void *p = __atomic_load_n(top, __ATOMIC_RELAXED);
	HAK_STEP(M6);
	if (hak_likely(p != NULL))
		hak_mag_set_top(m, top - 1);
	atomic_signal_fence(memory_order_seq_cst); /* before the next one's load: take_cached counts on it */
	return p;
}

/* The caller has read the top and seen that it is below the limit. */
static inline void hak_mag_push(struct hak_mag *m, void **top, void *p)
{
	HAK_STEP(M7);
	/* release CACHED: the owner's last use of the block */
	__atomic_store_n(&top[1], p, __ATOMIC_RELEASE);
	atomic_signal_fence(memory_order_release); /* the entry before the top: see hak_mag */
	HAK_STEP(M8);
	hak_mag_set_top(m, top + 1);
}

/* The reclaimer may lower it meanwhile; which of the two the owner sees does not matter. A
 * plain load, since compilers do not fold an atomic one into the comparison. */
static inline void **hak_mag_limit(const struct hak_mag *m)
{
#if HAK_TSAN
	return __atomic_load_n(&m->limit, __ATOMIC_RELAXED);
#else
	return m->limit;
#endif
}
static inline void hak_mag_set_limit(struct hak_mag *m, void **limit)
{
	__atomic_store_n(&m->limit, limit, __ATOMIC_RELAXED);
}

static inline uint32_t hak_heap_id(const struct hak_heap *h)
{
	return hak_tag_heap(h->tag);
}

/* Heap number id, 1 .. hak_heap_count(). NULL beyond. */
struct hak_heap *hak_heap_by_id(uint32_t id);
uint32_t hak_heap_count(void);

/* Behind these two, for the live block: heap id is chunk[id / HAK_CHUNK_HEAPS][id % HAK_CHUNK_HEAPS]. */
#define HAK_CHUNK_HEAPS 1024u
extern struct hak_heap *_Atomic *_Atomic hak_heap_chunks[];
extern _Atomic uint32_t hak_heap_total;

/* A heap for the calling thread: a parked one of the node, or a new one. NULL if
 * there is no memory. */
struct hak_heap *hak_heap_acquire(unsigned node);

/* Gives a heap back for the next thread. O(1). The caller uses it no more. */
void hak_heap_park(struct hak_heap *h);

/* Fills the class's magazine and takes a block; with `lend`, one of a larger class before it takes
 * new memory. With `fresh` just takes one: *fresh says whether it is known to be zero. NULL if there is no memory, or if h->stale has become
 * true: then the thread should change heaps and ask again. */
void *hak_heap_refill(struct hak_heap *h, unsigned class, bool lend, bool *fresh);

/* The magazine is full: half of it goes to its slabs, then p is pushed. */
void hak_heap_drain_push(struct hak_heap *h, unsigned class, void *p);

/* The remote buffer has room. */
static inline void hak_heap_remote_push(struct hak_heap *h, void *p, size_t bytes)
{
	h->remote[h->remote_count] = p;
	atomic_signal_fence(memory_order_release); /* as for magazines */
	h->remote_count++;
	h->remote_bytes += bytes;
}

/* A block of another heap, checked to be on stride: into the remote buffer, if there is
 * room that does not fill it. */
static inline bool hak_heap_remote_buffer(struct hak_heap *h, unsigned class, void *p)
{
	size_t bytes = hak_classes[class].stride;
	if (h->remote_count >= h->remote_limit || h->remote_bytes + bytes >= HAK_REMOTE_BYTES)
		return false;
	hak_heap_remote_push(h, p, bytes);
	return true;
}

/* The same, if there was no such room: buffered and the buffer sent, or sent at once. */
void hak_heap_remote_free(struct hak_heap *h, unsigned class, void *p);

/* Hardened: into p's bag; if that is full it grows, or a block goes to its slab, and half of those that are ready.
 * waited: p has waited in it already. */
void hak_heap_put_back(struct hak_heap *h, unsigned class, void *p, bool waited);

/* A block of one of our own slabs that cannot go through its magazine. */
void hak_heap_put(struct hak_heap *h, unsigned class, void *p);

/* The node's stock, made at the first call; NULL: no memory. One thread at a time. */
struct hak_heap *hak_heap_stock(unsigned node);

/* Makes a slab of granules that are the caller's, for whoever on the node needs one of the class next.
 * False: no memory, and the granules are the node's again. */
bool hak_heap_stock_up(struct hak_heap *stock, unsigned class, const struct hak_run *run);

extern _Atomic uint32_t hak_stock_taken[HAK_CLASSES]; /* slabs, out of all stocks */

/* Sends home what the heap holds for others. */
void hak_heap_flush(struct hak_heap *h);

/* Returns all cached blocks to their slabs and EMPTY slabs to the node. Own, or popped
 * off the park list. */
void hak_heap_empty(struct hak_heap *h);

/* Own: at the program's end the magazines go home, so that a block that was freed twice and
 * never came by a slab is reported after all. */
void hak_heap_return_cached(struct hak_heap *h);

/* A pass: releases EMPTY slabs of classes that were not used for `quiet` passes, and has the owner
 * empty its magazines of such classes when it comes by. From one that has not come by until the next pass,
 * or if quiet is 0, the reclaimer's thread takes them where it can have barriers. True: a later pass may.
 * trylock. */
bool hak_heap_visit(struct hak_heap *h, uint32_t quiet);
/* The slabs alone, once more in the same pass. */
void hak_heap_release_empty(struct hak_heap *h, uint32_t quiet);

/* Reclaimer: takes the blocks of a hole out of h's slab, h's lock held; and puts them back, whoever owns
 * the slab by then, no lock held. */
void hak_heap_take_hole(struct hak_heap *h, struct hak_slab *s, struct hak_hole hole);
void hak_heap_put_hole(struct hak_slab *s, struct hak_hole hole);

/* By class; adds up over heaps. Blocks out and free are those of slabs, cached those in magazines. */
struct hak_heap_figures {
	uint64_t heaps[HAK_CLASSES], slabs[HAK_CLASSES], out[HAK_CLASSES], nfree[HAK_CLASSES], cached[HAK_CLASSES];
};

/* Learner: adds h's figures, and has it give up what it keeps of dynamic classes that were closed.
 * False: its lock was not to be had in so many nanoseconds. */
bool hak_heap_figures(struct hak_heap *h, struct hak_heap_figures *sum, uint64_t ns);

/* Pops a parked heap of the node, or NULL; it belongs to the caller until parked. */
struct hak_heap *hak_heap_unpark(unsigned node);

/* Blocks of the class that are in the heap's magazine; racy unless own. */
uint32_t hak_heap_cached(const struct hak_heap *h, unsigned class);

/* fork: all heaps' locks in order of id. In the child all heaps but `self` are parked. */
void hak_heap_fork_prepare(void);
void hak_heap_fork_parent(void);
void hak_heap_fork_child(struct hak_heap *self);
/* The child of a fork that ran no handlers: heaps cut off in mid-change are abandoned. */
void hak_heap_fork_raw(struct hak_heap *self);

#endif
