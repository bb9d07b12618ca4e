/* SPDX-License-Identifier: MIT */
/*
 * Address space: windows of arena slots, arenas, and the tag of every granule.
 *
 *   window  | slot | slot | slot | ...                 1 GiB each; a slot costs nothing
 *   arena   [ small-page zone -> ....... <- huge zone ]    two mappings, grown in steps
 *   tags    one 32-bit word a granule, for a whole window in one array
 *
 * tag       bits 31..12 owner heap, bits 11..0 code (route.h); 0: not allocated
 *
 * An arena's metadata (struct hak_arena and its slabs) is a mapping of its own
 * between two guard granules; it is found by arithmetic from a block's address and
 * never unmapped.
 *
 * Departure from the first design, measured: tags stood in each arena behind a
 * table with a byte a slot; one flat array for a window costs 6 instructions less
 * in free (doc/design.md).
 */
#ifndef HAK_ARENA_H
#define HAK_ARENA_H

#include "base.h"
#include "lock.h"
#include "slab.h"
#include "step.h"

#define HAK_TAG_HEAP_SHIFT 12
#define HAK_TAG_CODE_MASK 0xfffu
#define HAK_CODE_SPAN 0xf00u	  /* first granule of a run that is one block */
#define HAK_CODE_SPAN_REST 0xf20u /* its other granules */
#define HAK_HEAP_MAX ((1u << 20) - 2) /* ids 1 .. HAK_HEAP_MAX */

static inline uint32_t hak_tag(uint32_t heap, uint32_t code)
{
	return heap << HAK_TAG_HEAP_SHIFT | code;
}
static inline uint32_t hak_tag_heap(uint32_t tag)
{
	return tag >> HAK_TAG_HEAP_SHIFT;
}
static inline uint32_t hak_tag_code(uint32_t tag)
{
	return tag & HAK_TAG_CODE_MASK;
}

enum hak_arena_kind {
	HAK_ARENA_SLABS, /* slabs and runs of up to 1 MiB; bound to its node */
	HAK_ARENA_SPANS, /* huge blocks of a node's threads; first touch decides */
};

#define HAK_WORD_EMPTY(word) ((uint32_t)(word))
#define HAK_WORD_UNUSED(word) ((uint32_t)((word) >> 32))
#define HAK_WORD(empty, unused) ((uint64_t)(empty) | (uint64_t)(unused) << 32)

/* A run of `count` granules as a mask of its SuperSlab's, in which it begins at `at`. */
static inline uint32_t hak_run_mask(uint32_t count, uint32_t at)
{
	return (count == HAK_SUPER_GRANULES ? UINT32_MAX : (1u << count) - 1) << at;
}

/* Room that costs no memory, and room that does. */
enum hak_room { HAK_ROOM_RESIDENT, HAK_ROOM_FRESH, HAK_ROOMS };
#define HAK_ROOM_ORDERS 32u /* its longest run has one granule more than its order */

struct hak_arena {
	/* immutable after creation */
	char *base;
	uint32_t slot;
	uint16_t node;
	uint16_t kind;
	struct hak_arena *next; /* of the node (or of the span arenas), older ones */

	/* under the node's lock (span arenas: the huge lock); read racily by searches */
	_Atomic uint32_t small_end;  /* granules: the small-page zone is [0, small_end) */
	_Atomic uint32_t huge_start; /* granules: the huge zone is [huge_start, all) */
	bool small_full, huge_full;  /* another mapping is in the way */
	/* span arenas, under the huge lock: no run of as many granules was found, of any or of those that
	 * begin with a SuperSlab, and none has come back since; 0: not known */
	uint32_t none_of[2];
	bool huge_spans; /* immutable: a span arena on huge pages, as far as the kernel has them */

	/*
	 * A SuperSlab's granules: low half EMPTY (free, contents old), high half UNUSED
	 * (free, known zero). Whoever clears a bit by CAS owns the granule; the owner
	 * alone sets it again. Any thread; on other lines than what everybody reads.
	 */
	_Atomic uint64_t super[HAK_ARENA_SUPERS] HAK_ALIGNED(HAK_CACHELINE);

	/* span arenas, under the huge lock (huge.c): free granules in a row, from the SuperSlab's first on and
	 * from the best of its own on */
	uint16_t run_from_start[HAK_ARENA_SUPERS + 1], run_from_best[HAK_ARENA_SUPERS];

	/* A bit a SuperSlab, by the kind and order of what it may have room for: a search looks
	 * where its run may fit, so that a claim in a large heap does not read every word. What a
	 * word has room for stands at its order or above; who finds it above puts it right. Any
	 * thread. */
	_Atomic uint64_t room[HAK_ROOMS][HAK_ROOM_ORDERS][HAK_ARENA_SUPERS / 64];
	/* those of which a bit may be set: all searches read it, and few write */
	_Atomic uint32_t orders[HAK_ROOMS] HAK_ALIGNED(HAK_CACHELINE);

	/* EMPTY bits at the reclaimer's last look, less what was claimed since. Any thread */
	_Atomic uint32_t seen[HAK_ARENA_SUPERS] HAK_ALIGNED(HAK_CACHELINE);

	/* under the reclaimer's lock */
	uint32_t part[HAK_ARENA_SUPERS];  /* of these, worth splitting a huge page for; of this pass */
	uint32_t given[HAK_ARENA_SUPERS]; /* given back lately, and still UNUSED at its last look */
	/* 0, or one more than the granule that is kept out of the pool with a guard page in it,
	 * so that khugepaged does not fill a split SuperSlab in again */
	uint8_t guard[HAK_ARENA_SUPERS];

	/* A bit a SuperSlab: a slab of it has become loose (holes.h, as all below). Any thread. */
	_Atomic uint64_t loose[HAK_ARENA_SUPERS / 64];
	_Atomic uint16_t holes[HAK_ARENA_SUPERS]; /* pages of them given back, and not taken since. Any thread */
	/* under the reclaimer's lock */
	uint16_t found[HAK_ARENA_SUPERS];      /* pages worth giving back, at this pass's look */
	uint16_t hole_guard[HAK_ARENA_SUPERS]; /* 0, or one more than the page with a guard in a hole */
	uint8_t hole_looks[HAK_ARENA_SUPERS];  /* since it was marked */

	struct hak_slab slabs[HAK_ARENA_GRANULES]; /* by first granule */

	/* hardened mode: granules whose last page is a guard, free ones as well. A granule's bit is its
	 * owner's; the word is any thread's */
	_Atomic uint32_t closed[HAK_ARENA_SUPERS];
};

/* Bytes that a run has at its end for a guard page: hardened mode; else 0. Immutable after start-up. */
extern size_t hak_arena_guard;

struct hak_window {
	uintptr_t base;	  /* immutable once published, as all below */
	size_t granules;  /* published last; 0: no window yet */
	_Atomic uint32_t *tags;
	struct hak_arena *_Atomic *arenas; /* by slot */
};

/* The fast path knows the first window only; the others are for the day it is full. */
#define HAK_WINDOWS 8
extern struct hak_window hak_windows[HAK_WINDOWS];
extern struct hak_lock hak_arena_lock; /* for fork */

/* Makes the first window. False if there is no memory for its tags. */
bool hak_arena_init(void);

/* A new arena whose first `granules` granules are mapped, not yet available; NULL if
 * there is neither a slot nor memory. Caller holds the lock its list is under. */
struct hak_arena *hak_arena_new(unsigned node, enum hak_arena_kind kind, uint32_t granules);

/* Maps [granule, granule + count) of the arena's slot. 0 or an errno: EEXIST if
 * something else is mapped there, EDQUOT beyond the hard limit, or what the kernel said. */
int hak_arena_map(struct hak_arena *arena, uint32_t granule, uint32_t count, bool huge);

/* Bytes that hak_arena_map has mapped so far. */
extern _Atomic uint64_t hak_arena_grown;

/* Applies the zone's advice, policy and name to the first granules of a new arena. */
void hak_arena_adopt_first(struct hak_arena *arena, uint32_t granules);

_Atomic uint32_t *hak_tag_of_far(const void *p);

/* The tag of p's granule, or NULL if p is in no window. */
static inline _Atomic uint32_t *hak_tag_of(const void *p)
{
	size_t g = ((uintptr_t)p - hak_windows[0].base) >> HAK_GRANULE_SHIFT;
	return hak_likely(g < hak_windows[0].granules) ? &hak_windows[0].tags[g] : hak_tag_of_far(p);
}

/* The arena of an address that lies in one; NULL elsewhere. */
static inline struct hak_arena *hak_arena_of(const void *p)
{
	for (int i = 0; i < HAK_WINDOWS && hak_windows[i].granules; i++) {
		size_t slot = ((uintptr_t)p - hak_windows[i].base) >> HAK_ARENA_SHIFT;
		if (slot < hak_windows[i].granules / HAK_ARENA_GRANULES)
			/* acquire ARENA: its fields, written before it was published */
			return atomic_load_explicit(&hak_windows[i].arenas[slot], memory_order_acquire);
	}
	return NULL;
}

static inline uint32_t hak_granule_of(const void *p)
{
	return ((uintptr_t)p >> HAK_GRANULE_SHIFT) & (HAK_ARENA_GRANULES - 1);
}

/* What a run may be made of, of a SuperSlab in the huge zone or not. */
static inline uint32_t hak_room_mask(uint64_t word, bool huge, enum hak_room kind)
{
	uint32_t all = HAK_WORD_EMPTY(word) | HAK_WORD_UNUSED(word);
	/* a huge page in use is resident as a whole */
	uint32_t resident = huge && all != UINT32_MAX ? all : HAK_WORD_EMPTY(word);
	return kind == HAK_ROOM_RESIDENT ? resident : all != resident ? all : 0;
}

/* Where a run goes on, of those that begin in *at and have as many set bits as *length says, for `step` more. */
static inline void hak_lengthen(uint32_t *at, unsigned *length, uint32_t starts, unsigned step)
{
	uint32_t more = *at & starts >> *length;
	*at = more ? more : *at;
	*length += more ? step : 0;
}

/* The longest run of set bits in a mask that is not 0, less one. */
static inline unsigned hak_room_order(uint32_t mask)
{
	/* where 2, 4, 8 and 16 set bits begin; then the length, bit by bit from the highest */
	uint32_t two = mask & mask >> 1, four = two & two >> 2, eight = four & four >> 4, sixteen = eight & eight >> 8;
	uint32_t at = UINT32_MAX;
	unsigned length = 0;
	if (mask == UINT32_MAX)
		return HAK_ROOM_ORDERS - 1;
	hak_lengthen(&at, &length, sixteen, 16);
	hak_lengthen(&at, &length, eight, 8);
	hak_lengthen(&at, &length, four, 4);
	hak_lengthen(&at, &length, two, 2);
	hak_lengthen(&at, &length, mask, 1);
	return length - 1;
}

static inline bool hak_super_is_huge(const struct hak_arena *a, uint32_t super)
{
	return super * HAK_SUPER_GRANULES >= atomic_load_explicit(&a->huge_start, memory_order_relaxed);
}

/* The granules of a SuperSlab that are mapped: the small zone may end in it. relaxed: the word has those of a
 * zone that grows a moment later */
static inline uint32_t hak_super_mapped(const struct hak_arena *a, uint32_t super)
{
	uint32_t first = super * HAK_SUPER_GRANULES, end = atomic_load_explicit(&a->small_end, memory_order_relaxed);
	if (hak_super_is_huge(a, super) || end >= first + HAK_SUPER_GRANULES)
		return UINT32_MAX;
	return end > first ? hak_run_mask(end - first, 0) : 0;
}

/*
 * Of an order, an arena's bit says that a SuperSlab's may be set, and a SuperSlab's that its word may have
 * such room. Who has changed what a bit stands for sees that the bit is set, or sets it; who clears
 * one looks at that again after it, and sets it again where it should be. All of it is seq_cst: one of
 * the two that meet sees what the other did. models/room.pml
 */
static inline void hak_order_note(struct hak_arena *a, unsigned kind, unsigned order)
{
	uint32_t bit = (uint32_t)1 << order;
	HAK_STEP(R3);
	if (atomic_load_explicit(&a->orders[kind], memory_order_seq_cst) & bit)
		return;
	HAK_STEP(R4);
	atomic_fetch_or_explicit(&a->orders[kind], bit, memory_order_seq_cst);
}

/* After the word has got room of either kind: searches find it. */
static inline void hak_super_note(struct hak_arena *a, uint32_t super, uint64_t word)
{
	bool huge = hak_super_is_huge(a, super);
	for (unsigned kind = 0; kind < HAK_ROOMS; kind++) {
		uint32_t mask = hak_room_mask(word, huge, kind);
		if (!mask)
			continue;
		unsigned order = hak_room_order(mask);
		_Atomic uint64_t *room = &a->room[kind][order][super / 64];
		uint64_t bit = (uint64_t)1 << super % 64;
		HAK_STEP(R1);
		if (atomic_load_explicit(room, memory_order_seq_cst) & bit)
			continue; /* who set it notes the order, or has */
		HAK_STEP(R2);
		atomic_fetch_or_explicit(room, bit, memory_order_seq_cst);
		hak_order_note(a, kind, order);
	}
}

/* Makes granules of a SuperSlab available; slab arenas. */
static inline void hak_super_put(struct hak_arena *a, uint32_t super, uint64_t bits)
{
	/* release POOL: our writes to the granules and their metadata are before the next owner's;
	 * seq_cst ROOM: see hak_order_note */
	uint64_t word = atomic_fetch_or_explicit(&a->super[super], bits, memory_order_seq_cst) | bits;
	hak_super_note(a, super, word);
}

/* Granules were claimed: if they are EMPTY again at the reclaimer's next look, that is their first.
 * relaxed: a look at the same moment may count once too often, which costs a page fault. */
static inline void hak_super_claimed(struct hak_arena *a, uint32_t super, uint32_t mask)
{
	if (atomic_load_explicit(&a->seen[super], memory_order_relaxed) & mask)
		atomic_fetch_and_explicit(&a->seen[super], ~mask, memory_order_relaxed);
}

/* The SuperSlab has not the room that it was found under. */
static inline void hak_super_put_right(struct hak_arena *a, uint32_t super, enum hak_room kind, unsigned order)
{
	HAK_STEP(R5);
	atomic_fetch_and_explicit(&a->room[kind][order][super / 64], ~((uint64_t)1 << super % 64),
				  memory_order_seq_cst);
	HAK_STEP(R6);
	hak_super_note(a, super, atomic_load_explicit(&a->super[super], memory_order_seq_cst));
}

/* No SuperSlab was found under the order. */
static inline void hak_order_put_right(struct hak_arena *a, enum hak_room kind, unsigned order)
{
	uint64_t any = 0;
	HAK_STEP(R7);
	atomic_fetch_and_explicit(&a->orders[kind], ~((uint32_t)1 << order), memory_order_seq_cst);
	HAK_STEP(R8);
	for (unsigned i = 0; i < HAK_ARENA_SUPERS / 64; i++)
		any |= atomic_load_explicit(&a->room[kind][order][i], memory_order_seq_cst);
	if (any)
		hak_order_note(a, kind, order);
}

/* Sets the tags of granules [granule, granule + count) of an arena. */
void hak_tags_set(struct hak_arena *arena, uint32_t granule, uint32_t count, uint32_t first, uint32_t rest);

/* Calls visit for each arena, oldest window first. Any thread. */
void hak_arena_each(void (*visit)(struct hak_arena *arena, void *arg), void *arg);

#endif
