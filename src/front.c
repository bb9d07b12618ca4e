/* SPDX-License-Identifier: MIT */
/* Allocate and free beyond the fast path (fast.h). All of it keeps errno. */
#include "front.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "ace/ace.h"
#include "counters.h"
#include "die.h"
#include "fast.h"
#include "foreign.h"
#include "hardened.h"
#include "heap.h"
#include "init.h"
#include "l25/l25.h"
#include "numa/huge.h"
#include "options.h"
#include "probe.h"
#include "reclaim.h"
#include "record.h"
#include "sys/sys.h"

void *hak_malloc(size_t bytes)
{
	void *p = hak_malloc_fast(bytes);
	return hak_likely(p) ? p : hak_malloc_slow(bytes);
}

void hak_free(void *p)
{
	hak_free_fast(p);
}

/* ---- allocate, slowly ------------------------------------------------------------ */

/* What would have no policy gets one: a mapping of its own, whatever its size. */
static void *alloc_bound(unsigned node, size_t bytes, size_t align, bool *zero)
{
	*zero = true;
	return hak_own_alloc(node, bytes, align);
}

/* Bytes above the slab classes. */
static void *alloc_run(struct hak_heap *h, size_t bytes, size_t align, bool *zero)
{
	void *p = NULL;
	if (bytes > HAK_MAX_REQUEST)
		return NULL;
	/* all of it is new memory; see find_slab in heap.c */
	if (h == hak_heap_self)
		h = hak_self_change(h);
	if (bytes <= HAK_L25_MAX && align <= HAK_GRANULE)
		p = hak_l25_run(h, bytes, zero);
	if (!p && hak_unlikely(hak_node_pinned()))
		return alloc_bound(h->node, bytes, align, zero);
	if (!p)
		p = hak_huge_alloc(h->node, bytes, hak_max(align, HAK_GRANULE), zero);
	return p;
}

static void *alloc_block(struct hak_heap *h, unsigned class, size_t bytes, size_t align, bool *zero)
{
	void *p = hak_mag_pop(&h->mags[class]);
	if (p)
		return p;
	/* another class's blocks may be aligned otherwise */
	bool lend = align <= HAK_MIN_ALIGN;
	p = hak_heap_refill(h, class, lend, zero);
	if (hak_unlikely(class >= HAK_STATIC_CLASSES && (!p || hak_classes[class].stride < bytes))) {
		/* closed since it was looked up, or even another one by now; or there is no memory */
		if (p)
			hak_heap_put(h, class, p);
		class = hak_route_static_class(bytes);
		p = hak_heap_refill(h, class, lend, zero);
	}
	if (p)
		hak_ace_refilled(h, class, bytes, hak_heap_cached(h, class) + 1);
	return p;
}

static unsigned class_of(size_t bytes, size_t align)
{
	if (align > HAK_MIN_ALIGN)
		return hak_route_class_aligned(bytes, align);
	return bytes <= HAK_SLAB_MAX ? hak_route_class(bytes) : HAK_CLASSES;
}

static size_t block_size(const void *p);
static void release_unarmed(void *p);

static size_t record_bytes(void)
{
	return hak_unlikely(hak_hardened) ? HAK_HARD_RECORD : 0;
}

/* A block of whole granules without a tag is a mapping of its own. */
static bool is_own(const void *p)
{
	_Atomic uint32_t *t = hak_tag_of(p);
	/* relaxed: the block is the caller's */
	return !t || !atomic_load_explicit(t, memory_order_relaxed);
}

static void *armed_own(void *p, size_t extent, size_t bytes)
{
	if (hak_hardened_own_usable(p, extent + hak_arena_guard))
		return hak_hardened_arm_own(p, extent, bytes);
	release_unarmed(p);
	return NULL;
}

static void *armed_run(void *p, size_t extent, size_t bytes)
{
	struct hak_arena *a = hak_arena_of(p);
	uint32_t g = hak_granule_of(p), count = a->slabs[g].carved;
	if (!hak_hardened_claimed(a, g, count, hak_arena_guard)) {
		release_unarmed(p);
		return NULL;
	}
	/* what was there before was another block's. Written first: where nothing was, a huge page comes,
	 * and the guard splits it; behind a guard all of it would come as small ones */
	hak_hardened_rearm(p, extent, bytes);
	if (hak_arena_guard)
		hak_hardened_close(a, g + count - 1);
	return p;
}

/* A new block: in hardened mode it gets its record, and a guard page if it has granules of its own. */
static void *armed(void *p, unsigned class, size_t bytes)
{
	if (hak_likely(!hak_hardened) || !p)
		return p;
	if (class < HAK_CLASSES)
		return hak_hardened_arm(p, hak_classes[class].stride, bytes);
	size_t extent = block_size(p);
	return is_own(p) ? armed_own(p, extent, bytes) : armed_run(p, extent, bytes);
}

/* zero: as for alloc_slow. Bytes: up to HAK_MAX_REQUEST. */
static void *alloc_once(size_t bytes, size_t align, bool *zero)
{
	bool transient, run_zero;
	void *p;
	if (zero)
		*zero = false;
	struct hak_heap *h = hak_self(&transient); /* before anything else: hakmem has started after that */
	if (!h)
		return NULL;
	unsigned class = class_of(bytes + record_bytes(), align);
	if (class >= HAK_CLASSES) {
		p = alloc_run(h, bytes + record_bytes() + hak_arena_guard, align, zero ? zero : &run_zero);
	} else {
		p = alloc_block(h, class, bytes, align, zero);
		if (!p && h->stale) {
			h = hak_self_change(h);
			p = alloc_block(h, class, bytes, align, zero);
			h->stale = false;
		}
	}
	if (transient)
		hak_heap_park(h);
	return armed(p, class, bytes);
}

/* Any size and alignment; *zero, unless NULL: known to be zero. Keeps errno. */
static HAK_COLD void *alloc_slow(size_t bytes, size_t align, bool *zero)
{
	bool possible = bytes <= HAK_MAX_REQUEST;
	int err = errno;
	void *p = possible ? alloc_once(bytes, align, zero) : NULL;
	if (!p && possible) {
		/* before a request fails, everything EMPTY goes back */
		hak_reclaim_last();
		p = alloc_once(bytes, align, zero);
	}
	hak_record_poke();
	if (p) {
		hak_reclaim_poke();
	} else {
		hak_count(failed, 1);
		HAK_PROBE(failed, bytes, align);
	}
	errno = err;
	return p;
}

HAK_COLD void *hak_malloc_slow(size_t bytes)
{
	void *p = hak_unlikely(hak_hardened) ? hak_hardened_take(bytes) : NULL;
	return p ? p : alloc_slow(bytes, HAK_MIN_ALIGN, NULL);
}

void *hak_memalign(size_t align, size_t bytes)
{
	if (align <= HAK_MIN_ALIGN)
		return hak_malloc(bytes);
	/* a run of no granules would be no block */
	bytes = hak_max(bytes, 1);
	unsigned class = hak_route_class_aligned(bytes, align);
	void *p = class < HAK_CLASSES ? hak_mag_pop(&hak_heap_self->mags[class]) : NULL;
	return p ? p : alloc_slow(bytes, align, NULL);
}

/* A mapping of its own: whole huge pages are given back, the kernel clears new ones when they are
 * touched, and what the program never writes stays unbacked. For smaller blocks that took twice as
 * long as memset (bench's tables). Parts of a huge page would come back as small ones. */
static HAK_NOINLINE void clear_span(char *p, size_t bytes)
{
	char *end = p + bytes;
	char *from = (char *)hak_align_up((uintptr_t)p, HAK_SUPER), *to = (char *)hak_align_down((uintptr_t)end, HAK_SUPER);
	if (from >= to || !hak_option_get(HAK_OPT_thp) ||
	    hak_sys.madvise(from, (size_t)(to - from), MADV_DONTNEED)) {
		memset(p, 0, bytes);
		return;
	}
	memset(p, 0, (size_t)(from - p));
	memset(to, 0, (size_t)(end - to));
}

/* Another node's block: out of a parked heap there, which the thread has for this one call. */
static void *alloc_at_once(unsigned node, size_t bytes, size_t align)
{
	bool transient, zero;
	void *p;
	struct hak_heap *self = hak_self(&transient), *h; /* hakmem has started after that */
	if (!self)
		return NULL;
	if (transient)
		hak_heap_park(self);
	unsigned class = class_of(bytes + record_bytes(), align);
	size_t need = bytes + record_bytes() + hak_arena_guard; /* of a run */
	if (class >= HAK_CLASSES && (need > HAK_L25_MAX || align > HAK_GRANULE))
		return armed(alloc_bound(node, need, align, &zero), class, bytes);
	h = self->node == node && !transient ? self : hak_heap_acquire(node);
	if (!h)
		return NULL;
	p = class < HAK_CLASSES ? alloc_block(h, class, bytes, align, NULL) : hak_l25_run(h, need, &zero);
	if (h != self) {
		hak_heap_park(h);
	} else if (!p && h->stale) { /* its policy has changed: that is for malloc to find out */
		p = alloc_block(h, class, bytes, align, NULL);
		h->stale = false;
	}
	return armed(p, class, bytes);
}

HAK_COLD void *hak_memalign_at(unsigned node, size_t align, size_t bytes)
{
	bool possible = bytes <= HAK_MAX_REQUEST;
	int err = errno;
	bytes = hak_max(bytes, 1);
	void *p = possible ? alloc_at_once(node, bytes, align) : NULL;
	if (!p && possible) {
		hak_reclaim_all();
		p = alloc_at_once(node, bytes, align);
	}
	if (p)
		hak_reclaim_poke();
	else
		hak_count(failed, 1);
	errno = err;
	return p;
}

HAK_COLD void hak_thread_settle(void)
{
	int err = errno;
	hak_fork_check();
	if (hak_heap_self != &hak_heap_none)
		hak_self_change(hak_heap_self);
	errno = err;
}

void *hak_calloc(size_t count, size_t bytes)
{
	size_t total;
	bool zero = false;
	void *p;
	if (__builtin_mul_overflow(count, bytes, &total))
		return NULL;
	p = total <= HAK_POOL_MAX ? hak_malloc(total) : alloc_slow(total, HAK_MIN_ALIGN, &zero);
	if (p && !zero && total >= HAK_HUGE_OWN)
		clear_span(p, total);
	else if (p && !zero)
		memset(p, 0, total);
	return p;
}

/* ---- free, slowly ---------------------------------------------------------------- */

static HAK_COLD void free_full(struct hak_heap *h, unsigned class, void *p)
{
	int err = errno;
	hak_fork_check();
	/* a thread that moved to another node finds out here too, not only when it allocates; and a fork
	 * may have taken h away */
	if (hak_likely(h == hak_heap_self && hak_self_settle(h) == h))
		hak_heap_drain_push(h, class, p);
	else
		hak_heap_remote_free(hak_heap_self, class, p);
	errno = err;
}

void hak_free_full(void *p, struct hak_mag *m)
{
	struct hak_heap *h = hak_heap_self;
	if (h->hard)
		hak_hardened_free(h, m, p);
	else
		free_full(h, (unsigned)(m - h->mags), p);
}

HAK_COLD void hak_free_misaligned(void *p, struct hak_mag *m)
{
	struct hak_heap *h = hak_heap_self;
	hak_fault("not the start of a block", p, hak_classes[m - h->mags].stride, hak_heap_id(h));
}

HAK_COLD void hak_free_twice(void *p, struct hak_mag *m)
{
	struct hak_heap *h = hak_heap_self;
	hak_fault("double free", p, hak_classes[m - h->mags].stride, hak_heap_id(h));
}

static bool disarm_run(void *p, size_t bytes)
{
	return hak_hardened_disarm(p, bytes - hak_arena_guard, 0);
}

/* A block without a tag: slots are not reserved, so that an own mapping may lie in one. */
static void free_untagged(void *p)
{
	size_t own = hak_hardened ? hak_own_size(p) : 0;
	if (own && !disarm_run(p, own))
		return;
	if (own && hak_arena_guard)
		hak_hardened_open_own((char *)p + own - HAK_PAGE);
	if (!hak_own_free(p))
		hak_foreign_free(p);
}

static void release_run(struct hak_arena *a, uint32_t g, uint32_t count)
{
	hak_tags_set(a, g, count, 0, 0);
	if (a->kind == HAK_ARENA_SPANS)
		hak_huge_release(a, g, count);
	else
		hak_l25_run_release(a, g, count);
}

/* A run of granules that is one block: taken apart by whoever clears its first tag. */
static void free_run(void *p)
{
	struct hak_arena *a = hak_arena_of(p);
	uint32_t g = hak_granule_of(p), count = a->slabs[g].carved;
	uint32_t span = HAK_CODE_SPAN;
	if (((uintptr_t)p & (HAK_GRANULE - 1)) != 0) {
		hak_fault("not the start of a block", p, (size_t)count * HAK_GRANULE, 0);
		return;
	}
	if (hak_hardened && !disarm_run(p, (size_t)count * HAK_GRANULE))
		return;
	/* relaxed: of two frees of one block only one gets past here; the granules are
	 * handed on by POOL or the huge lock */
	if (!atomic_compare_exchange_strong_explicit(hak_tag_of(p), &span, 0, memory_order_relaxed,
						     memory_order_relaxed)) {
		hak_fault("double free", p, 0, 0);
		return;
	}
	release_run(a, g, count);
}

/* A block of whole granules, as it was before it was armed. */
static void release_unarmed(void *p)
{
	if (is_own(p)) {
		hak_own_free(p);
		return;
	}
	struct hak_arena *a = hak_arena_of(p);
	uint32_t g = hak_granule_of(p);
	release_run(a, g, a->slabs[g].carved);
}

/* Of any slab. A thread's first free may give it a heap, and that one the block's slab. */
static void free_slowly(unsigned class, void *p)
{
	struct hak_heap *h = hak_self_if_any();
	/* read once the heap is ours, and nobody may adopt its slabs; relaxed: as in the fast path */
	uint32_t tag = atomic_load_explicit(hak_tag_of(p), memory_order_relaxed);
	if (hak_tag_heap(tag) != hak_heap_id(h))
		hak_heap_remote_free(h, class, p);
	else if (h->hard)
		hak_heap_put_back(h, class, p, false);
	else
		hak_heap_put(h, class, p);
}

/* What hak_free_other does not decide by itself. */
static HAK_NOINLINE void free_other_slow(void *p, uint32_t tag)
{
	uint32_t code = hak_tag_code(tag);
	int err = errno;
	hak_fork_check();
	if (code == HAK_CODE_SPAN) {
		free_run(p);
	} else if (tag == 0) {
		free_untagged(p);
	} else if (code >= HAK_CODE(HAK_CLASSES)) {
		hak_fault("not the start of a block", p, 0, 0);
	} else {
		unsigned class = code >> HAK_CODE_SHIFT;
		const struct hak_class *c = &hak_classes[class];
		if (!hak_block_on_stride(p, c))
			hak_fault("not the start of a block", p, c->stride, hak_tag_heap(tag));
		else if (hak_hardened && !hak_hardened_disarm(p, c->stride, hak_tag_heap(tag)))
			; /* reported */
		else
			free_slowly(class, p);
	}
	errno = err;
}

/* In a window, but not of this thread's magazines; code: its tag xor this heap's. Most often another
 * heap's block, and room for it in the remote buffer: then nothing is called. */
HAK_NOINLINE void hak_free_other(void *p, uint32_t code)
{
	struct hak_heap *h = hak_heap_self;
	uint32_t of_class = hak_tag_code(code); /* the heap's tag has no code */
	bool mine = hak_tag_heap(code) == 0, none = code == h->tag;
	if (hak_unlikely(mine || none || of_class >= HAK_CODE(HAK_CLASSES)) ||
	    !hak_block_on_stride(p, &hak_classes[of_class >> HAK_CODE_SHIFT]) ||
	    !hak_heap_remote_buffer(h, of_class >> HAK_CODE_SHIFT, p))
		free_other_slow(p, code ^ h->tag);
}

/* Not in the first window: NULL, another window, an own mapping, or not ours. */
HAK_COLD void hak_free_far(void *p)
{
	int err = errno;
	if (!p)
		return;
	hak_fork_check();
	const _Atomic uint32_t *tag = hak_tag_of(p);
	if (tag) /* relaxed: as in the fast path */
		hak_free_other(p, atomic_load_explicit(tag, memory_order_relaxed) ^ hak_heap_self->tag);
	else
		free_untagged(p);
	errno = err;
}

/* ---- sizes ----------------------------------------------------------------------- */

/* What the block at p may hold, in hardened mode its record included; 0 if there is no block of ours at p. */
static size_t block_size(const void *p)
{
	_Atomic uint32_t *t = hak_tag_of(p);
	uint32_t tag = t ? atomic_load_explicit(t, memory_order_relaxed) : 0, code = hak_tag_code(tag);
	if (!tag) {
		hak_fork_check();
		size_t own = hak_own_size(p);
		return own ? own - hak_arena_guard : 0;
	}
	if (code == HAK_CODE_SPAN && ((uintptr_t)p & (HAK_GRANULE - 1)) == 0)
		return (size_t)hak_arena_of(p)->slabs[hak_granule_of(p)].carved * HAK_GRANULE - hak_arena_guard;
	if (code >= HAK_CODE(HAK_CLASSES))
		return 0;
	const struct hak_class *c = &hak_classes[code >> HAK_CODE_SHIFT];
	return hak_block_on_stride(p, c) ? c->stride : 0;
}

static HAK_NOINLINE size_t usable_slow(const void *p)
{
	size_t bytes = p ? block_size(p) : 0;
	return hak_unlikely(hak_hardened) && bytes ? hak_hardened_asked(p, bytes) : bytes;
}

/* Some programs keep their own account of memory, and ask at each malloc and free. */
size_t hak_usable_size(const void *p)
{
	const struct hak_mag *m = hak_own_mag(p);
	return hak_likely(m && !hak_hardened) ? m->stride : usable_slow(p);
}

HAK_COLD int hak_block_node(const void *p)
{
	int err = errno, node = -2;
	struct hak_arena *a = hak_arena_of(p);
	if (hak_usable_size(p)) {
		node = hak_node_where(p);
		if (node < 0 && hak_tag_of(p) && *hak_tag_of(p) && a && a->kind == HAK_ARENA_SLABS &&
		    !hak_node_policy(a->node))
			node = (int)hak_node_id(a->node);
	}
	errno = err;
	return node;
}

#define GROWS HAK_GRANULE /* bytes of a block */

/* A large block that has grown will grow again: it gets room, so that its bytes are not copied for each step.
 * Not in hardened mode, which watches the bytes behind what was asked for. */
static size_t with_room(size_t old, size_t bytes)
{
	return old >= GROWS && bytes > old && !hak_hardened ? hak_max(bytes, old + old / 4) : bytes;
}

static void *move(void *p, size_t old, size_t bytes)
{
	size_t room = with_room(old, bytes);
	void *q = hak_malloc(room);
	if (hak_unlikely(!q) && room > bytes)
		q = hak_malloc(bytes);
	if (q) {
		memcpy(q, p, hak_min(old, bytes));
		hak_free(p);
	}
	return q;
}

/* Blocks of whole granules: in place, or by moving page tables. */
static void *resize_large(void *p, size_t old, size_t bytes)
{
	if (is_own(p)) {
		if (bytes >= HAK_HUGE_OWN / 2 && bytes <= HAK_MAX_REQUEST)
			return hak_own_resize(p, bytes);
		return move(p, old, bytes);
	}
	struct hak_arena *a = hak_arena_of(p);
	uint32_t g = hak_granule_of(p), had = (uint32_t)(old >> HAK_GRANULE_SHIFT);
	uint32_t count = (uint32_t)(hak_align_up(bytes, HAK_GRANULE) >> HAK_GRANULE_SHIFT);
	bool done = false;
	if (bytes > HAK_SLAB_MAX && bytes <= HAK_L25_MAX && a->kind == HAK_ARENA_SLABS)
		done = hak_l25_run_resize(a, g, had, count);
	else if (bytes > HAK_L25_MAX && bytes < HAK_HUGE_OWN && a->kind == HAK_ARENA_SPANS)
		done = hak_huge_resize(a, g, had, count);
	return done ? p : move(p, old, bytes);
}

/* The same for hardened mode; extent: what block_size said. */
static HAK_NOINLINE void *resize_hardened(void *p, size_t extent, size_t bytes)
{
	size_t room = extent - HAK_HARD_RECORD, asked = hak_hardened_asked(p, extent);
	bool own = is_own(p);
	if (!hak_hardened_intact(p, extent))
		return NULL;
	if (bytes <= room && (bytes >= room / 2 || room <= 64))
		return hak_hardened_rearm(p, extent, bytes);
	if (!own || bytes < HAK_HUGE_OWN / 2)
		return move(p, asked, bytes);
	if (hak_arena_guard && !hak_hardened_open_own((char *)p + extent))
		return move(p, asked, bytes);
	void *q = hak_own_resize(p, bytes + HAK_HARD_RECORD + hak_arena_guard);
	if (q)
		return hak_hardened_arm_own(q, block_size(q), bytes);
	hak_hardened_arm_own(p, extent, asked);
	return move(p, asked, bytes);
}

/* In place if the block fits and is not more than twice what is asked. */
static bool fits(size_t old, size_t bytes)
{
	return bytes <= old && (bytes >= old / 2 || old <= 64);
}

static HAK_NOINLINE void *realloc_slow(void *p, size_t bytes)
{
	int err = errno;
	void *q;
	if (!p)
		return hak_malloc(bytes);
	hak_fork_check();
	size_t old = block_size(p);
	if (!old)
		return hak_foreign_realloc(p, bytes);
	if (hak_likely(!hak_hardened) && fits(old, bytes))
		return p;
	if (bytes > HAK_MAX_REQUEST)
		return NULL;
	q = hak_hardened ? resize_hardened(p, old, bytes) : old > HAK_SLAB_MAX ? resize_large(p, old, bytes) : move(p, old, bytes);
	errno = err;
	return q;
}

/* A block of this thread's magazines, as it mostly is, and a new one from them need nothing that is not in fast.h. */
void *hak_realloc(void *p, size_t bytes)
{
	struct hak_mag *m = hak_own_mag(p);
	if (hak_unlikely(!m || hak_hardened))
		return realloc_slow(p, bytes);
	size_t old = m->stride;
	if (fits(old, bytes))
		return p;
	void *q = hak_malloc_fast(with_room(old, bytes));
	if (hak_unlikely(!q))
		return realloc_slow(p, bytes);
	memcpy(q, p, hak_min(old, bytes));
	hak_free_own(p, m);
	return q;
}
