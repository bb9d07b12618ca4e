/* SPDX-License-Identifier: MIT */
/* Hardened mode: records, canaries, quarantine, guard pages. */
#include "hardened.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "die.h"
#include "init.h"
#include "meta.h"
#include "numa/arena.h"
#include "options.h"
#include "sys/sys.h"

#define ALL (HAK_HARD_CHECK | HAK_HARD_RANDOM | HAK_HARD_JUNK | HAK_HARD_QUARANTINE | HAK_HARD_CANARY | HAK_HARD_GUARD)

/* Neither a zero, which is what a string written one too long ends with, nor text. */
#define CANARY UINT64_C(0xd5)
#define EACH_BYTE UINT64_C(0x0101010101010101)
#define CANARY_MOST ((size_t)32) /* canary bytes: an overflow begins with the first */
#define JUNK_MOST ((size_t)256) /* bytes from a free block's start that junk fills, and that are checked; so is its last word */

#define SIZE_FIRST 8u /* of a bag: as many blocks wait, a power of two, and four fewer are ready ... */
#define SIZE_MOST 64u
#define WAIT_BYTES ((size_t)64 << 10) /* ... or fewer of a larger class: so much waiting ... */
#define READY_BYTES ((size_t)512 << 10) /* ... and ready */
#define SLAB_STEPS 4u

unsigned hak_hardened;
static uint64_t key; /* immutable after start-up; its lowest byte is a canary */
static _Atomic uint64_t heaps;

/*
 * What the features mean for a block. All below is inline and told which are on: for those of
 * HAKMEM_HARDENED=1, and for check alone, there is a copy of malloc's and free's way in which they
 * are constants.
 */
#define INLINE inline __attribute__((always_inline))

static INLINE bool fills(unsigned on)
{
	return on & (HAK_HARD_ZERO | HAK_HARD_JUNK);
}

static INLINE uint64_t pattern(unsigned on)
{
	return on & HAK_HARD_ZERO ? 0 : CANARY * EACH_BYTE;
}

/* What junk filled needs no canary any more. */
static INLINE bool junk_is_canary(unsigned on, size_t extent)
{
	return !(on & HAK_HARD_ZERO) && on & HAK_HARD_JUNK && extent <= JUNK_MOST;
}

/* ---- chance ---------------------------------------------------------------------------
 * A wyrand step: fast, well spread, and no more. Who sees enough of its numbers can tell the
 * next; addresses alone show few bits of each. */

static uint64_t mix(uint64_t a, uint64_t b)
{
	unsigned __int128 m = (unsigned __int128)a * b;
	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static uint64_t draw(struct hak_hard *d)
{
	d->seed += 0xa0761d6478bd642fu;
	return mix(d->seed, d->seed ^ 0xe7037ed1a0b428dbu);
}

static uint32_t draw_below(struct hak_hard *d, uint32_t n)
{
	return (uint32_t)((draw(d) >> 32) * n >> 32);
}

void hak_hardened_start(void)
{
	unsigned on = (unsigned)hak_option_get(HAK_OPT_hardened);
	if (!on)
		return;
	hak_hardened = on & ~1u ? on | HAK_HARD_CHECK : ALL;
	hak_arena_guard = hak_hardened & HAK_HARD_GUARD ? HAK_PAGE : 0;
	if (!hak_sys.random(&key, sizeof key)) {
		/* what the kernel gave the C library at exec; mixed, so that none of it can be read off */
		const void *bits = (const void *)(uintptr_t)getauxval(AT_RANDOM);
		memcpy(&key, bits ? bits : &(const void *){ &bits }, sizeof key);
		key = mix(key ^ 0xe7037ed1a0b428dbu, 0xa0761d6478bd642fu);
	}
	key = (key & ~(uint64_t)0xff) | CANARY;
}

struct hak_hard *hak_hard_new(void)
{
	struct hak_hard *d = hak_meta_alloc(sizeof *d);
	if (d) /* relaxed: any number will do that no other heap has */
		d->seed = mix(key, atomic_fetch_add_explicit(&heaps, 1, memory_order_relaxed) + 0x9e3779b97f4a7c15u);
	return d;
}

/* ---- blocks ------------------------------------------------------------------------- */

/*
 * A record is a number of its address, xor what it says from bit 8 on; the lowest byte, which
 * lies next to the program's bytes, is a canary as they are. It says how many bytes were asked
 * for, or FREE.
 */
#define FREE (UINT64_MAX >> 8)
#define SPREAD 0x7f4a7c10u /* times an address, a multiple of 16, it leaves the lowest byte to the key */

static INLINE uint64_t *record_of(const void *p, size_t extent)
{
	return (uint64_t *)((uintptr_t)p + extent - HAK_HARD_RECORD);
}

static INLINE uint64_t record(const void *p, uint64_t says)
{
	return (uintptr_t)p * SPREAD ^ key ^ says << 8;
}

/* Of a word xor record(p, 0). More than fits in a block, and not FREE, if the word is no record of p's. */
static INLINE uint64_t said(uint64_t x)
{
	return x >> 8 | x << 56;
}

static uint64_t says(const void *p, size_t extent)
{
	return said(*record_of(p, extent) ^ record(p, 0));
}

static INLINE size_t room_of(size_t extent)
{
	return extent - HAK_HARD_RECORD;
}

/* Two words at a time, which every x86-64 does in one instruction. Blocks and extents are
 * multiples of their size; canaries begin anywhere. */
typedef uint64_t pair __attribute__((vector_size(16), may_alias));
typedef uint64_t pair_anywhere __attribute__((vector_size(16), may_alias, aligned(1)));
typedef uint64_t word_anywhere __attribute__((may_alias, aligned(1)));

/*
 * What is filled and checked of a block is the pairs from its start to the one that has the record, but no
 * more than JUNK_MOST, and the word before the record. Blocks of any sizes come in any order, so a jump by the
 * size would be guessed wrong most times: there are three ways, in each of which pairs are taken twice if
 * there are fewer. last: the last one's offset, 240 at most.
 */
#define ONE_TO_FOUR(X) X(0) X(hak_min(16, last)) X(hak_min(32, last)) X(last)
#define FIVE_TO_EIGHT(X) X(0) X(16) X(32) X(48) X(last - 48) X(last - 32) X(last - 16) X(last)
#define NINE_TO_SIXTEEN(X)                                                                                              \
	X(0) X(16) X(32) X(48) X(64) X(80) X(96) X(112)                                                                 \
	X(last - 112) X(last - 96) X(last - 80) X(last - 64) X(last - 48) X(last - 32) X(last - 16) X(last)
#define EACH_PAIR(X)                                                                                                    \
	do {                                                                                                            \
		if (last < 64) {                                                                                        \
			ONE_TO_FOUR(X)                                                                                  \
		} else if (last < 128) {                                                                                \
			FIVE_TO_EIGHT(X)                                                                                \
		} else {                                                                                                \
			NINE_TO_SIXTEEN(X)                                                                              \
		}                                                                                                       \
	} while (0)
_Static_assert(JUNK_MOST == 16 * sizeof(pair), "EACH_PAIR");

static INLINE size_t last_pair(size_t extent)
{
	return hak_min(extent, JUNK_MOST + sizeof(pair)) - 2 * sizeof(pair);
}

static INLINE bool pattern_holds(const void *p, size_t extent, unsigned on)
{
	pair word = { pattern(on), pattern(on) }, bad = { 0 };
	size_t last = last_pair(extent);
	if (!fills(on))
		return true;
#define X(offset) bad |= *(const pair *)((const char *)p + (offset)) ^ word;
	if (hak_likely(extent > sizeof(pair)))
		EACH_PAIR(X);
#undef X
	return (bad[0] | bad[1] | (record_of(p, extent)[-1] ^ pattern(on))) == 0;
}

static INLINE void pattern_set(void *p, size_t extent, unsigned on)
{
	pair word = { pattern(on), pattern(on) };
	size_t last = last_pair(extent);
	if (!fills(on))
		return;
#define X(offset) *(pair *)((char *)p + (offset)) = word;
	if (on & HAK_HARD_ZERO)
		for (size_t offset = JUNK_MOST; offset < extent - sizeof(pair); offset += sizeof(pair))
			X(offset);
	if (hak_likely(extent > sizeof(pair)))
		EACH_PAIR(X);
#undef X
	record_of(p, extent)[-1] = pattern(on);
}

/*
 * Canary bytes are those from what was asked for to the record, CANARY_MOST of them at most: one pair that
 * ends with the last of them, of which the program's bytes are masked, and one that begins with the first if
 * there are more. Not by branches: how many they are is as random as the sizes.
 */
static const unsigned char masks[2 * sizeof(pair)] = { [sizeof(pair)... 2 * sizeof(pair) - 1] = 0xff };

static INLINE pair last_bytes(size_t n)
{
	return *(const pair_anywhere *)&masks[hak_min(n, sizeof(pair))];
}

static INLINE bool canary_holds(const void *p, size_t extent, size_t bytes, unsigned on)
{
	size_t n = hak_min(room_of(extent) - bytes, CANARY_MOST);
	const char *from = (const char *)p + bytes, *last = from + n - sizeof(pair);
	const pair canaries = { CANARY * EACH_BYTE, CANARY * EACH_BYTE };
	if (!(on & HAK_HARD_CANARY))
		return true;
	if (hak_unlikely(extent == sizeof(pair))) /* a word, then the record */
		return n == 0 || (*(const word_anywhere *)p ^ canaries[0]) >> (64 - 8 * n) == 0;
	const char *first = n > sizeof(pair) ? from : last;
	pair bad = (*(const pair_anywhere *)first ^ canaries) | (*(const pair_anywhere *)last ^ canaries);
	bad &= last_bytes(n);
	return (bad[0] | bad[1]) == 0;
}

/* The program's bytes are written as they were: the block is the caller's. */
static INLINE void canary_set(void *p, size_t extent, size_t bytes, unsigned on)
{
	size_t n = hak_min(room_of(extent) - bytes, CANARY_MOST);
	char *from = (char *)p + bytes, *last = from + n - sizeof(pair);
	const pair canaries = { CANARY * EACH_BYTE, CANARY * EACH_BYTE };
	if (!(on & HAK_HARD_CANARY))
		return;
	if (hak_unlikely(extent == sizeof(pair))) {
		while (n--)
			*(volatile char *)(from + n) = (char)CANARY; /* no call of memset for so few */
		return;
	}
	char *first = n > sizeof(pair) ? from : last;
	/* what is all overwritten is not read: memory that is touched by a read first takes a second fault */
	const void *old = n < sizeof(pair) ? last : (const void *)masks;
	pair mask = last_bytes(n), set = (*(const pair_anywhere *)old & ~mask) | (canaries & mask);
	*(pair_anywhere *)last = set;
	*(pair_anywhere *)first = set;
}

/* A block that was never out, whose record and the word before it are 0, or that was written to meanwhile. */
static HAK_NOINLINE void *arm_other(void *p, size_t extent, size_t bytes)
{
	uint64_t *r = record_of(p, extent);
	bool was_free = *r == record(p, FREE), was_out = fills(hak_hardened) && r[-1];
	if (hak_unlikely(was_free || *r || was_out))
		hak_fault_in("malloc", was_free ? "block was written after it was freed" : "record of a free block was overwritten",
			     p, extent, 0);
	canary_set(p, extent, bytes, hak_hardened);
	*r = record(p, bytes);
	return p;
}

static INLINE void *arm(void *p, size_t extent, size_t bytes, unsigned on)
{
	uint64_t *r = record_of(p, extent), mine = record(p, 0);
	bytes += !bytes;
	if (hak_unlikely((*r ^ mine) != FREE << 8) || hak_unlikely(!pattern_holds(p, extent, on)))
		return arm_other(p, extent, bytes);
	if (!junk_is_canary(on, extent))
		canary_set(p, extent, bytes, on);
	*r = mine ^ (uint64_t)bytes << 8;
	return p;
}

void *hak_hardened_arm(void *p, size_t extent, size_t bytes)
{
	return arm(p, extent, bytes, hak_hardened);
}

void *hak_hardened_rearm(void *p, size_t extent, size_t bytes)
{
	bytes += !bytes;
	canary_set(p, extent, bytes, hak_hardened);
	*record_of(p, extent) = record(p, bytes);
	return p;
}

static bool close_page(void *page);

void *hak_hardened_arm_own(void *p, size_t extent, size_t bytes)
{
	if (hak_arena_guard)
		close_page((char *)p + extent);
	return hak_hardened_rearm(p, extent, bytes); /* what was there before was another block's */
}

/* Is p a block in use, with nothing written behind its end? mine: its record of nothing. */
static INLINE bool intact(const void *p, size_t extent, uint64_t mine, unsigned on)
{
	uint64_t n = said(*record_of(p, extent) ^ mine);
	return hak_likely(n <= room_of(extent)) && hak_likely(canary_holds(p, extent, n, on));
}

/* What is wrong with it, if not. */
static const char *fault_of(const void *p, size_t extent)
{
	uint64_t n = says(p, extent);
	return n == FREE		? "double free" :
	       n > room_of(extent) ? "written behind its end, or not an allocated block" :
				     "written behind its end";
}

bool hak_hardened_intact(const void *p, size_t extent)
{
	bool good = intact(p, extent, record(p, 0), hak_hardened);
	if (!good)
		hak_fault_in("realloc", fault_of(p, extent), p, extent, 0);
	return good;
}

static HAK_COLD void refuse_to_disarm(const void *p, size_t extent, uint32_t heap)
{
	hak_fault(fault_of(p, extent), p, extent, heap);
}

static INLINE void set_free(void *p, size_t extent, uint64_t mine, unsigned on)
{
	pattern_set(p, extent, on);
	*record_of(p, extent) = mine ^ FREE << 8;
}

bool hak_hardened_disarm(void *p, size_t extent, uint32_t heap)
{
	uint64_t mine = record(p, 0);
	if (hak_unlikely(!intact(p, extent, mine, hak_hardened))) {
		refuse_to_disarm(p, extent, heap);
		return false;
	}
	set_free(p, extent, mine, hak_hardened);
	return true;
}

size_t hak_hardened_asked(const void *p, size_t extent)
{
	uint64_t n = says(p, extent);
	return n <= room_of(extent) ? n : 0;
}

/* ---- guard pages ---------------------------------------------------------------------- */

/* some guards are mappings of their own: the kernel has no MADV_GUARD_INSTALL (Linux 6.13), or
 * refused it, as it does for locked memory. Which ones is not kept */
static _Atomic bool by_protection, by_advice;
/* the kernel once refused to open an own mapping's: free ones may have closed pages in them */
static _Atomic bool stuck;

/* relaxed, here and below: who opens a page, or gets the memory that it lies in, got it after it
 * was closed, or could not be opened */
static void remember(_Atomic bool *once)
{
	if (!atomic_load_explicit(once, memory_order_relaxed))
		atomic_store_explicit(once, true, memory_order_relaxed);
}

static bool close_page(void *page)
{
	if (!hak_sys.madvise_own(page, HAK_PAGE, MADV_GUARD_INSTALL))
		remember(&by_advice);
	else if (!hak_sys.mprotect(page, HAK_PAGE, PROT_NONE))
		remember(&by_protection);
	else
		return false;
	return true;
}

static bool open_pages(void *from, size_t bytes)
{
	/* both are tried */
	bool refused = atomic_load_explicit(&by_advice, memory_order_relaxed) &&
		       hak_sys.madvise_own(from, bytes, MADV_GUARD_REMOVE);
	refused |= atomic_load_explicit(&by_protection, memory_order_relaxed) &&
		   hak_sys.mprotect(from, bytes, PROT_READ | PROT_WRITE);
	return !refused;
}

static char *last_page(const struct hak_arena *a, uint32_t granule)
{
	return a->base + (size_t)(granule + 1) * HAK_GRANULE - HAK_PAGE;
}

/* relaxed, the word: the bit is ours, and came to us with its granule (POOL, or the huge lock) */
static bool is_closed(const struct hak_arena *a, uint32_t granule)
{
	return atomic_load_explicit(&a->closed[granule / 32], memory_order_relaxed) >> granule % 32 & 1;
}

static void note_closed(struct hak_arena *a, uint32_t granule)
{
	atomic_fetch_or_explicit(&a->closed[granule / 32], 1u << granule % 32, memory_order_relaxed);
}

static void note_open(struct hak_arena *a, uint32_t granule)
{
	atomic_fetch_and_explicit(&a->closed[granule / 32], ~(1u << granule % 32), memory_order_relaxed);
}

bool hak_hardened_claimed(struct hak_arena *a, uint32_t granule, uint32_t count, bool guard)
{
	uint32_t end = granule + count - guard, first = end, last = end;
	for (uint32_t g = granule; g < end; g++)
		if (is_closed(a, g)) {
			first = first == end ? g : first;
			last = g;
		}
	if (first == end)
		return true;
	/* in one call: what is open between them stays as it is */
	if (!open_pages(last_page(a, first), (size_t)(last - first) * HAK_GRANULE + HAK_PAGE))
		return false;
	for (uint32_t g = first; g <= last; g++)
		note_open(a, g);
	return true;
}

void hak_hardened_close(struct hak_arena *a, uint32_t granule)
{
	if (!is_closed(a, granule) && close_page(last_page(a, granule)))
		note_closed(a, granule);
}

bool hak_hardened_open_own(void *page)
{
	bool done = open_pages(page, HAK_PAGE);
	if (!done)
		remember(&stuck);
	return done;
}

bool hak_hardened_own_usable(void *from, size_t bytes)
{
	return !atomic_load_explicit(&stuck, memory_order_relaxed) || open_pages(from, bytes);
}

/* ---- a heap's free blocks ----------------------------------------------------------------- */

static uint32_t places(size_t stride, uint32_t size)
{
	uint32_t n = hak_hardened & HAK_HARD_QUARANTINE ? (uint32_t)hak_min(size, hak_max(1, WAIT_BYTES / stride)) : 1;
	while (n & (n - 1))
		n &= n - 1;
	return n;
}

static uint32_t ready_most(size_t stride, uint32_t size)
{
	return (uint32_t)hak_min(size - sizeof(struct hak_bag) / sizeof(void *), hak_max(2, READY_BYTES / stride));
}

static size_t bag_bytes(uint32_t waits, uint32_t most)
{
	return sizeof(struct hak_bag) + (waits + most) * sizeof(void *);
}

static struct hak_bag *bag_new(unsigned class, uint32_t size)
{
	size_t stride = hak_classes[class].stride;
	uint32_t waits = places(stride, size), most = ready_most(stride, size);
	struct hak_bag *b = hak_meta_alloc(bag_bytes(waits, most));
	if (!b)
		return NULL;
	b->size = size;
	b->stride = (uint32_t)stride;
	b->most = most;
	b->last_wait = waits - 1;
	b->room = waits < places(stride, SIZE_MOST) ? 0 : most;
	return b;
}

static bool is_young(const struct hak_bag *b)
{
	return !b->room;
}

static void bag_set(struct hak_heap *h, unsigned class, struct hak_bag *b)
{
	/* relaxed: who counts holds the home's lock */
	atomic_store_explicit(&h->hard->bags[class], b, memory_order_relaxed);
}

/* The last of the ready blocks is the next to go out, and stays it. */
static INLINE void add_below_last(void **slots, uint32_t ready, void *p)
{
	void **end = &slots[ready], **last = end - (ready != 0);
	*end = *last;
	*last = p;
}

/* Doubles the bag; p, if any, has waited longer than all that wait there. False: it is as large as it
 * gets, or there is no memory. */
bool hak_bag_grow(struct hak_heap *h, unsigned class, void *p)
{
	struct hak_bag *old = hak_bag_got(h->hard, class), *b;
	uint32_t n = 0, ready = hak_bag_ready(old);
	if (!is_young(old) && old->most == ready_most(old->stride, SIZE_MOST))
		return false;
	b = bag_new(class, 2 * old->size);
	if (!b)
		return false;
	void **slots = hak_bag_ready_slots(b);
	memcpy(slots, hak_bag_ready_slots(old), ready * sizeof *slots);
	if (p && is_young(old)) {
		b->slots[n++] = p;
	} else if (p) {
		add_below_last(slots, ready++, p);
	}
	for (uint32_t i = 0; i <= old->last_wait; i++) {
		void *waits = old->slots[(old->oldest + i) & old->last_wait];
		if (waits)
			b->slots[n++] = waits;
	}
	b->oldest = n & b->last_wait;
	hak_bag_set_ready(b, ready);
	hak_bag_set_waiting(b, n);
	bag_set(h, class, b);
	hak_meta_free(old, bag_bytes(old->last_wait + 1, old->most));
	return true;
}

/* Made if need be; NULL: no memory. */
static struct hak_bag *bag_of(struct hak_heap *h, unsigned class)
{
	struct hak_bag *b = hak_bag_got(h->hard, class);
	if (!b && (b = bag_new(class, SIZE_FIRST)))
		bag_set(h, class, b);
	return b;
}

struct hak_bag *hak_bag_for_refill(struct hak_heap *h, unsigned class)
{
	struct hak_bag *b = hak_bag_got(h->hard, class);
	if (b && !hak_bag_ready(b))
		hak_bag_grow(h, class, NULL);
	return bag_of(h, class);
}

/* What malloc reads of a free block has mostly left the cache since it was freed: it comes while the block
 * is the next to go out. */
static INLINE void fetch(const char *p, size_t extent, unsigned on)
{
	__builtin_prefetch(p, 1);
	__builtin_prefetch(p + extent - HAK_HARD_RECORD, 1);
	if (fills(on) && extent > 2 * HAK_CACHELINE) {
		__builtin_prefetch(p + HAK_CACHELINE, 1);
		__builtin_prefetch(p + 2 * HAK_CACHELINE, 1);
		__builtin_prefetch(p + 3 * HAK_CACHELINE, 1);
	}
}

/*
 * The last of the ready blocks goes out, and another one is chosen to be the last. Who is put in comes below
 * it. A thread that vanishes (fork) in the middle of this or the next loses a block or two and never leaves
 * one in two places.
 */
static INLINE void *pick(struct hak_heap *h, struct hak_bag *b, uint32_t ready, unsigned on)
{
	void **at = hak_bag_ready_slots(b), *p = at[--ready];
	if (hak_unlikely(!ready)) {
		hak_bag_set_ready(b, 0);
		return p;
	}
	void **last = &at[ready - 1], **chosen = on & HAK_HARD_RANDOM ? &at[draw_below(h->hard, ready)] : last, *next = *chosen;
	hak_bag_set_ready(b, ready - 1);
	atomic_signal_fence(memory_order_release);
	*chosen = *last;
	*last = next;
	atomic_signal_fence(memory_order_release);
	hak_bag_set_ready(b, ready);
	fetch(next, b->stride, on);
	return p;
}

static INLINE bool put(struct hak_bag *b, void **p, unsigned on)
{
	if (on & HAK_HARD_QUARANTINE) {
		void **oldest = &b->slots[b->oldest], *was = *oldest;
		*oldest = *p;
		b->oldest = (b->oldest + 1) & b->last_wait;
		*p = was;
		if (hak_unlikely(!was)) {
			/* relaxed: as hak_bag_ready */
			hak_bag_set_waiting(b, atomic_load_explicit(&b->waiting, memory_order_relaxed) + 1);
			return true;
		}
	}
	uint32_t ready = hak_bag_ready(b);
	if (hak_unlikely(ready >= b->room))
		return false;
	add_below_last(hak_bag_ready_slots(b), ready, *p);
	atomic_signal_fence(memory_order_release);
	hak_bag_set_ready(b, ready + 1);
	return true;
}

void *hak_bag_pick(struct hak_heap *h, struct hak_bag *b)
{
	return pick(h, b, hak_bag_ready(b), hak_hardened);
}

bool hak_bag_put(struct hak_heap *h, unsigned class, void **p)
{
	struct hak_bag *b = bag_of(h, class);
	return b && (put(b, p, hak_hardened) || hak_bag_grow(h, class, *p));
}

uint32_t hak_bag_count(const struct hak_bag *b)
{
	/* relaxed: as hak_bag_ready */
	return hak_bag_ready(b) + atomic_load_explicit(&b->waiting, memory_order_relaxed);
}

static INLINE void *take(size_t bytes, unsigned on)
{
	struct hak_heap *h = hak_heap_self;
	struct hak_hard *d = h->hard;
	if (hak_unlikely(bytes > HAK_SLAB_MAX - HAK_HARD_RECORD || !d))
		return NULL;
	/* relaxed: as in fast.h */
	uint32_t code = atomic_load_explicit(&hak_size_code[(bytes + HAK_HARD_RECORD + 15) / 16], memory_order_relaxed);
	struct hak_bag *b = hak_bag_got(d, code >> HAK_CODE_SHIFT);
	uint32_t ready = hak_likely(b) ? hak_bag_ready(b) : 0;
	return hak_likely(ready) ? arm(pick(h, b, ready, on), b->stride, bytes, on) : NULL;
}

static HAK_NOINLINE void *take_some(size_t bytes)
{
	return hak_hardened == HAK_HARD_CHECK ? take(bytes, HAK_HARD_CHECK) : take(bytes, hak_hardened);
}

void *hak_hardened_take(size_t bytes)
{
	return hak_likely(hak_hardened == ALL) ? take(bytes, ALL) : take_some(bytes);
}

/* There is no bag, or it is full, and p has waited in it. */
static HAK_COLD void put_slow(struct hak_heap *h, unsigned class, void *p, bool waited)
{
	int err = errno;
	hak_fork_check(); /* may take h away */
	if (hak_likely(h == hak_heap_self))
		hak_heap_put_back(h, class, p, waited);
	else
		hak_heap_remote_free(hak_heap_self, class, p);
	errno = err;
}

static INLINE void give(struct hak_heap *h, struct hak_mag *m, void *p, unsigned on)
{
	uint64_t mine = record(p, 0); /* once: what is written may alias the key */
	size_t extent = m->stride;
	if (hak_unlikely(!intact(p, extent, mine, on))) {
		refuse_to_disarm(p, extent, hak_heap_id(h));
		return;
	}
	set_free(p, extent, mine, on);
	unsigned class = (unsigned)(m - h->mags);
	struct hak_bag *b = hak_bag_got(h->hard, class);
	if (hak_unlikely(!b) || hak_unlikely(!put(b, &p, on)))
		put_slow(h, class, p, b != NULL);
}

static HAK_NOINLINE void give_some(struct hak_heap *h, struct hak_mag *m, void *p)
{
	if (hak_hardened == HAK_HARD_CHECK)
		give(h, m, p, HAK_HARD_CHECK);
	else
		give(h, m, p, hak_hardened);
}

void hak_hardened_free(struct hak_heap *h, struct hak_mag *m, void *p)
{
	if (hak_likely(hak_hardened == ALL))
		give(h, m, p, ALL);
	else
		give_some(h, m, p);
}

/* ---- slabs ----------------------------------------------------------------------------- */

/* Slabs on huge pages have no guard: it would cost the huge page. */
bool hak_hardened_slab_guarded(const struct hak_arena *a, uint32_t granule)
{
	return hak_arena_guard && !hak_super_is_huge(a, granule / HAK_SUPER_GRANULES);
}

void hak_hardened_slab_made(struct hak_slab *s)
{
	const struct hak_class *c = hak_slab_class(s);
	struct hak_arena *a = hak_arena_of(s->base);
	uint32_t granule = hak_granule_of(s->base);
	bool guarded = hak_hardened_slab_guarded(a, granule);
	uint32_t end = guarded ? (uint32_t)hak_min(c->capacity, (c->mask + 1 - HAK_PAGE) / c->stride) : c->capacity;
	/* what was there before were other blocks' bytes; 0 is a block that was never out */
	for (uint32_t i = 0; !s->zero && i < end; i++) {
		uint64_t *r = record_of(s->base + (size_t)i * c->stride, c->stride);
		if (r[-1] | r[0])
			r[-1] = r[0] = 0;
	}
	s->zero = false; /* blocks go out in any order */
	for (uint32_t i = end; i < c->capacity; i++) {
		s->free_words[i / 64] &= ~((uint64_t)1 << i % 64);
		s->set_aside++;
	}
	if (guarded)
		hak_hardened_close(a, granule + c->granules - 1);
}

uint32_t hak_hardened_slab_take(struct hak_heap *h, struct hak_slab *s, uint32_t want, void ***end)
{
	const struct hak_class *c = hak_slab_class(s);
	uint64_t chance = hak_hardened & HAK_HARD_RANDOM ? draw(h->hard) : 0;
	uint32_t w = (uint32_t)((chance >> 32) * c->words >> 32), turn = (uint32_t)chance & 63, got = 0;
	want = (uint32_t)hak_min(want, s->nfree - s->set_aside);
	for (; got < want; w = w + 1 < c->words ? w + 1 : 0) {
		uint64_t word = s->free_words[w];
		uint64_t turned = turn ? word >> turn | word << (64 - turn) : word;
		for (; turned && got < want; turned &= turned - 1, got++) {
			uint32_t bit = ((uint32_t)__builtin_ctzll(turned) + turn) & 63;
			word &= ~((uint64_t)1 << bit);
			*--*end = s->base + (size_t)(w * 64 + bit) * c->stride;
		}
		s->free_words[w] = word;
	}
	s->nfree -= got;
	s->carved = c->capacity; /* which of them were out is not kept */
	return got;
}

struct hak_slab *hak_hardened_slab_any(struct hak_heap *h, struct hak_slab *s)
{
	for (uint64_t n = hak_hardened & HAK_HARD_RANDOM ? draw_below(h->hard, SLAB_STEPS) : 0; n && s->next; n--)
		s = s->next;
	return s;
}
