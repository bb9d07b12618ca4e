/* SPDX-License-Identifier: MIT */
/* Hardened mode: records, canaries, quarantine, guard pages. */
#include "hardened.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "die.h"
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

#define WAIT_MOST 64u /* blocks waiting, a power of two ... */
#define WAIT_BYTES ((size_t)64 << 10) /* ... or fewer of a larger class ... */
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

#define EACH_PAIR(X) X(16) X(15) X(14) X(13) X(12) X(11) X(10) X(9) X(8) X(7) X(6) X(5) X(4) X(3) X(2) X(1)
#define PAIRS (JUNK_MOST / sizeof(pair))
_Static_assert(PAIRS == 16, "EACH_PAIR");

/* Of at most PAIRS but the one that has the record, and of the word before the record. */
static INLINE bool pattern_holds(const void *p, size_t extent, unsigned on)
{
	const pair *at = p;
	uint64_t last = record_of(p, extent)[-1];
	pair all = { pattern(on), pattern(on) }, any = all; /* the bits that all have, and that any has */
	if (!fills(on))
		return true;
	switch (extent / sizeof *at - 1) { /* unrolled: half the instructions of a loop */
	default:
#define X(i)                                                                                                            \
	all &= at[(i) - 1], any |= at[(i) - 1];                                                                            \
	__attribute__((fallthrough));                                                                                   \
	case (i) - 1:
		EACH_PAIR(X)
#undef X
		any ^= all;
	}
	return (any[0] | any[1] | (last ^ pattern(on))) == 0;
}

static INLINE void pattern_set(void *p, size_t extent, unsigned on)
{
	pair *at = p, word = { pattern(on), pattern(on) };
	size_t n = extent / sizeof *at - 1;
	if (!fills(on))
		return;
	if (on & HAK_HARD_ZERO)
		for (; n > PAIRS; n--)
			at[n - 1] = word;
	record_of(p, extent)[-1] = pattern(on);
	switch (n) {
	default:
#define X(i)                                                                                                            \
	at[(i) - 1] = word;                                                                                             \
	__attribute__((fallthrough));                                                                                   \
	case (i) - 1:
		EACH_PAIR(X)
#undef X
		break;
	}
}

/* Canary bytes are those from what was asked for to the record, CANARY_MOST of them at most. */
static INLINE bool canary_holds(const void *p, size_t extent, size_t bytes, unsigned on)
{
	const char *c = (const char *)p + bytes;
	size_t n = room_of(extent) - bytes;
	const uint64_t word = CANARY * EACH_BYTE;
	if (!(on & HAK_HARD_CANARY))
		return true;
	if (hak_likely(n - 8 <= 8))
		return ((*(const word_anywhere *)c ^ word) | (*(const word_anywhere *)(c + n - 8) ^ word)) == 0;
	if (n < 8) /* they end where the record begins */
		return n == 0 || (*(const word_anywhere *)(c + n - 8) ^ word) >> (64 - 8 * n) == 0;
	n = hak_min(n, CANARY_MOST);
	pair all = { word, word };
	all = (*(const pair_anywhere *)c ^ all) | (*(const pair_anywhere *)(c + n - 16) ^ all);
	return (all[0] | all[1]) == 0;
}

static INLINE void canary_set(void *p, size_t extent, size_t bytes, unsigned on)
{
	char *c = (char *)p + bytes;
	size_t n = hak_min(room_of(extent) - bytes, CANARY_MOST);
	if (!(on & HAK_HARD_CANARY))
		return;
	if (n >= 16) {
		pair all = { CANARY * EACH_BYTE, CANARY * EACH_BYTE };
		*(pair_anywhere *)c = all;
		*(pair_anywhere *)(c + n - 16) = all;
	} else if (n >= 8) {
		*(word_anywhere *)c = *(word_anywhere *)(c + n - 8) = CANARY * EACH_BYTE;
	} else {
		while (n--)
			*(volatile char *)(c + n) = (char)CANARY; /* no call of memset for so few */
	}
}

/* A block that was never out, whose record is 0, or that was written to meanwhile. */
static HAK_NOINLINE void *arm_other(void *p, size_t extent, size_t bytes)
{
	uint64_t *r = record_of(p, extent);
	bool was_free = *r == record(p, FREE);
	if (hak_unlikely(was_free || *r))
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
	*record_of(p, extent) = 0;
	return arm(p, extent, bytes, hak_hardened);
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

struct hak_bag *hak_bag_of(struct hak_heap *h, unsigned class)
{
	struct hak_hard *d = h->hard;
	struct hak_bag *b = hak_bag_got(d, class);
	if (!b) {
		size_t stride = hak_classes[class].stride;
		uint32_t waits = (uint32_t)hak_min(WAIT_MOST, hak_max(1, WAIT_BYTES / stride));
		while (waits & (waits - 1))
			waits &= waits - 1;
		b = hak_meta_alloc(sizeof *b + waits * sizeof *b->waiting_at);
		if (!b)
			return NULL;
		b->stride = (uint32_t)stride;
		b->most = (uint32_t)hak_min(HAK_BAG_READY, hak_max(2, READY_BYTES / stride));
		b->last_wait = waits - 1;
		/* relaxed: who counts reads no more than its two counts, which begin as 0 */
		atomic_store_explicit(&d->bags[class], b, memory_order_relaxed);
	}
	return b;
}

/* A thread that vanishes (fork) in the middle of this or the next loses a block and never leaves
 * one in two places. */
static INLINE void *pick(struct hak_heap *h, struct hak_bag *b, uint32_t ready, unsigned on)
{
	uint32_t last = ready - 1, i = on & HAK_HARD_RANDOM ? draw_below(h->hard, ready) : last;
	void *p = b->ready_at[i];
	hak_bag_set_ready(b, last);
	atomic_signal_fence(memory_order_release);
	b->ready_at[i] = b->ready_at[last];
	return p;
}

static INLINE bool put(struct hak_bag *b, void **p, unsigned on)
{
	if (on & HAK_HARD_QUARANTINE) {
		void **oldest = &b->waiting_at[b->oldest], *was = *oldest;
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
	if (hak_unlikely(ready == b->most))
		return false;
	b->ready_at[ready] = *p;
	atomic_signal_fence(memory_order_release);
	hak_bag_set_ready(b, ready + 1);
	return true;
}

void *hak_bag_pick(struct hak_heap *h, struct hak_bag *b)
{
	return pick(h, b, hak_bag_ready(b), hak_hardened);
}

bool hak_bag_put(struct hak_bag *b, void **p)
{
	return put(b, p, hak_hardened);
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

/* There is no bag, or it is full of other blocks. */
static HAK_COLD void put_slow(struct hak_heap *h, unsigned class, void *p)
{
	struct hak_bag *b = hak_bag_got(h->hard, class);
	int err = errno;
	if (b || !(b = hak_bag_of(h, class)) || !hak_bag_put(b, &p))
		hak_heap_put_back(h, class, p);
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
		put_slow(h, class, p);
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
		if (*r)
			*r = 0;
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
