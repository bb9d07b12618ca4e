/* SPDX-License-Identifier: MIT */
/* Allocate and free beyond the fast path (fast.h). All of it keeps errno. */
#include "front.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "counters.h"
#include "die.h"
#include "fast.h"
#include "foreign.h"
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
	void *p = bytes <= HAK_MAX_REQUEST ? hak_own_alloc(bytes, align) : NULL;
	if (p)
		hak_node_bind(node, p, hak_align_up(bytes, HAK_GRANULE));
	*zero = true;
	return p;
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

static inline void *pop(struct hak_heap *h, unsigned class)
{
	struct hak_mag *m = &h->mags[class];
	void **top = hak_mag_top(m), *p = *top;
	if (p)
		hak_mag_set_top(m, top - 1);
	return p;
}

static void *alloc_block(struct hak_heap *h, unsigned class, bool *zero)
{
	void *p = pop(h, class);
	return p ? p : hak_heap_refill(h, class, zero);
}

static unsigned class_of(size_t bytes, size_t align)
{
	if (align > HAK_MIN_ALIGN)
		return hak_route_class_aligned(bytes, align);
	return bytes <= HAK_SLAB_MAX ? hak_route_class(bytes) : HAK_CLASSES;
}

/* zero: as for alloc_slow. */
static void *alloc_once(size_t bytes, size_t align, bool *zero)
{
	unsigned class = class_of(bytes, align);
	bool transient, run_zero;
	void *p;
	if (zero)
		*zero = false;
	struct hak_heap *h = hak_self(&transient);
	if (!h)
		return NULL;
	if (class >= HAK_CLASSES) {
		p = alloc_run(h, bytes, align, zero ? zero : &run_zero);
	} else {
		p = alloc_block(h, class, zero);
		if (!p && h->stale) {
			h = hak_self_change(h);
			p = alloc_block(h, class, zero);
			h->stale = false;
		}
	}
	if (transient)
		hak_heap_park(h);
	return p;
}

/* Any size and alignment; *zero, unless NULL: known to be zero. Keeps errno. */
static HAK_COLD void *alloc_slow(size_t bytes, size_t align, bool *zero)
{
	int err = errno;
	void *p = alloc_once(bytes, align, zero);
	if (!p && bytes <= HAK_MAX_REQUEST) {
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
	return alloc_slow(bytes, HAK_MIN_ALIGN, NULL);
}

void *hak_memalign(size_t align, size_t bytes)
{
	if (align <= HAK_MIN_ALIGN)
		return hak_malloc(bytes);
	/* a run of no granules would be no block */
	bytes = hak_max(bytes, 1);
	unsigned class = hak_route_class_aligned(bytes, align);
	void *p = class < HAK_CLASSES ? pop(hak_heap_self, class) : NULL;
	return p ? p : alloc_slow(bytes, align, NULL);
}

/* Whole huge pages are given back: the kernel clears new ones when they are touched, which
 * costs no more, and what the program never writes stays unbacked. Parts of one would come
 * back as small pages. */
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
	unsigned class = class_of(bytes, align);
	bool transient, zero;
	void *p;
	struct hak_heap *self = hak_self(&transient), *h; /* hakmem has started after that */
	if (!self)
		return NULL;
	if (transient)
		hak_heap_park(self);
	if (class >= HAK_CLASSES && (bytes > HAK_L25_MAX || align > HAK_GRANULE))
		return alloc_bound(node, bytes, align, &zero);
	h = self->node == node && !transient ? self : hak_heap_acquire(node);
	if (!h)
		return NULL;
	p = class < HAK_CLASSES ? alloc_block(h, class, NULL) : hak_l25_run(h, bytes, &zero);
	if (h != self) {
		hak_heap_park(h);
	} else if (!p && h->stale) { /* its policy has changed: that is for malloc to find out */
		p = alloc_block(h, class, NULL);
		h->stale = false;
	}
	return p;
}

HAK_COLD void *hak_memalign_at(unsigned node, size_t align, size_t bytes)
{
	int err = errno;
	bytes = hak_max(bytes, 1);
	void *p = alloc_at_once(node, bytes, align);
	if (!p && bytes <= HAK_MAX_REQUEST) {
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
	if (p && !zero && total > HAK_L25_MAX)
		clear_span(p, total);
	else if (p && !zero)
		memset(p, 0, total);
	return p;
}

/* ---- free, slowly ---------------------------------------------------------------- */

HAK_COLD void hak_free_full(void *p, struct hak_mag *m)
{
	struct hak_heap *h = hak_heap_self;
	unsigned class = (unsigned)(m - h->mags);
	int err = errno;
	hak_fork_check();
	/* a thread that moved to another node finds out here too, not only when it allocates */
	if (hak_likely(hak_self_settle(h) == h))
		hak_heap_drain_push(h, class, p);
	else
		hak_heap_remote_free(hak_heap_self, class, p);
	errno = err;
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
	/* relaxed: of two frees of one block only one gets past here; the granules are
	 * handed on by POOL or the huge lock */
	if (!atomic_compare_exchange_strong_explicit(hak_tag_of(p), &span, 0, memory_order_relaxed,
						     memory_order_relaxed)) {
		hak_fault("double free", p, 0, 0);
		return;
	}
	hak_tags_set(a, g, count, 0, 0);
	if (a->kind == HAK_ARENA_SPANS)
		hak_huge_release(a, g, count);
	else
		hak_l25_run_release(a, g, count);
}

/* What hak_free_other does not decide by itself. */
static HAK_NOINLINE void free_other_slow(void *p, uint32_t tag)
{
	struct hak_heap *h = hak_heap_self;
	uint32_t code = hak_tag_code(tag);
	int err = errno;
	hak_fork_check();
	if (code == HAK_CODE_SPAN) {
		free_run(p);
	} else if (tag == 0) {
		/* slots are not reserved: an own mapping may lie in one */
		if (!hak_own_free(p))
			hak_foreign_free(p);
	} else if (code >= HAK_CODE(HAK_CLASSES)) {
		hak_fault("not the start of a block", p, 0, 0);
	} else {
		unsigned class = code >> HAK_CODE_SHIFT;
		const struct hak_class *c = &hak_classes[class];
		if (!hak_block_on_stride(p, c))
			hak_fault("not the start of a block", p, c->stride, hak_tag_heap(tag));
		else if (hak_tag_heap(tag) == hak_heap_id(h))
			hak_heap_put(h, class, p);
		else
			hak_heap_remote_free(hak_self_if_any(), class, p);
	}
	errno = err;
}

/* In a window, but not of this thread's magazines. Most often another heap's block, and
 * room for it in the remote buffer: then nothing is called. */
HAK_NOINLINE void hak_free_other(void *p)
{
	/* relaxed: as in the fast path */
	uint32_t tag = atomic_load_explicit(hak_tag_of(p), memory_order_relaxed);
	struct hak_heap *h = hak_heap_self;
	uint32_t code = hak_tag_code(tag);
	if (hak_unlikely(!tag || code >= HAK_CODE(HAK_CLASSES) || hak_tag_heap(tag) == hak_heap_id(h)) ||
	    !hak_block_on_stride(p, &hak_classes[code >> HAK_CODE_SHIFT]) ||
	    !hak_heap_remote_buffer(h, code >> HAK_CODE_SHIFT, p))
		free_other_slow(p, tag);
}

/* Not in the first window: NULL, another window, an own mapping, or not ours. */
HAK_COLD void hak_free_far(void *p)
{
	int err = errno;
	if (!p)
		return;
	hak_fork_check();
	if (hak_tag_of(p)) {
		hak_free_other(p);
	} else if (!hak_own_free(p)) {
		hak_foreign_free(p);
	}
	errno = err;
}

/* ---- sizes ----------------------------------------------------------------------- */

/* What the block at p may hold; 0 if there is no block of ours at p. */
static size_t block_size(const void *p)
{
	_Atomic uint32_t *t = hak_tag_of(p);
	uint32_t tag = t ? atomic_load_explicit(t, memory_order_relaxed) : 0, code = hak_tag_code(tag);
	if (!tag) {
		hak_fork_check();
		return hak_own_size(p);
	}
	if (code == HAK_CODE_SPAN && ((uintptr_t)p & (HAK_GRANULE - 1)) == 0)
		return (size_t)hak_arena_of(p)->slabs[hak_granule_of(p)].carved * HAK_GRANULE;
	if (code >= HAK_CODE(HAK_CLASSES))
		return 0;
	const struct hak_class *c = &hak_classes[code >> HAK_CODE_SHIFT];
	return hak_block_on_stride(p, c) ? c->stride : 0;
}

size_t hak_usable_size(const void *p)
{
	return p ? block_size(p) : 0;
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

static void *move(void *p, size_t old, size_t bytes)
{
	void *q = hak_malloc(bytes);
	if (q) {
		memcpy(q, p, hak_min(old, bytes));
		hak_free(p);
	}
	return q;
}

/* Blocks of whole granules: in place, or by moving page tables. */
static void *resize_large(void *p, size_t old, size_t bytes)
{
	_Atomic uint32_t *t = hak_tag_of(p);
	if (!t || !atomic_load_explicit(t, memory_order_relaxed)) {
		if (bytes >= HAK_HUGE_OWN / 2 && bytes <= HAK_MAX_REQUEST)
			return hak_own_resize(p, bytes);
		return move(p, old, bytes);
	}
	struct hak_arena *a = hak_arena_of(p);
	uint32_t g = hak_granule_of(p);
	if (a->kind == HAK_ARENA_SPANS && bytes > HAK_L25_MAX && bytes < HAK_HUGE_OWN &&
	    hak_huge_resize(a, g, (uint32_t)(old >> HAK_GRANULE_SHIFT),
			    (uint32_t)(hak_align_up(bytes, HAK_GRANULE) >> HAK_GRANULE_SHIFT)))
		return p;
	return move(p, old, bytes);
}

void *hak_realloc(void *p, size_t bytes)
{
	int err = errno;
	void *q;
	if (!p)
		return hak_malloc(bytes);
	hak_fork_check();
	size_t old = block_size(p);
	if (!old)
		return hak_foreign_realloc(p, bytes);
	/* in place if the block fits and is not more than twice what is asked */
	if (bytes <= old && (bytes >= old / 2 || old <= 64))
		return p;
	if (bytes > HAK_MAX_REQUEST)
		return NULL;
	q = old > HAK_SLAB_MAX ? resize_large(p, old, bytes) : move(p, old, bytes);
	errno = err;
	return q;
}
