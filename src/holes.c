/* SPDX-License-Identifier: MIT */
/* Free pages inside of slabs: finding, taking, giving back. */
#include "holes.h"

#include <sys/mman.h>

#include "counters.h"
#include "heap.h"
#include "numa/engine.h"
#include "options.h"
#include "probe.h"
#include "reclaim.h"
#include "sys/sys.h"

#define SUPER_PAGES (HAK_SUPER_GRANULES * HAK_GRANULE_PAGES)
#define PART_LEAST 8u /* a slab's holes are worth it if they are an eighth of it */
#define SPLIT_LEAST (SUPER_PAGES / 2) /* as for EMPTY granules: then more of the huge page is waste than use */
#define HEALED (SUPER_PAGES / 16) /* free pages of a split SuperSlab that is made whole again */
#define LOOKS 8u /* at slabs that are never calm; from then on once in an epoch */

/* A batch on its way to the engine, under the reclaimer's lock. A SuperSlab has 256 holes at the most:
 * between two of them lies a page with a part of a block that is out. */
#define HOLES_SUPER (SUPER_PAGES / 2)
#define HOLES (2 * HOLES_SUPER)

static struct piece {
	struct hak_arena *arena;
	struct hak_slab *slab;
	struct hak_hole hole;
	uint32_t kept;	/* of the hole's blocks, which a guard page lies in */
	uint32_t fresh; /* pages that were not given back before */
} pieces[HOLES];
static struct hak_engine_range ranges[HOLES];
static uint32_t count;

/* Epochs are numbered 1 to 15, in a slab's four bits. */
static _Atomic uint8_t epoch = 1;
static _Atomic uint64_t back;

uint64_t hak_holes_back(void)
{
	return atomic_exchange_explicit(&back, 0, memory_order_relaxed);
}

void hak_holes_forked(void)
{
	count = 0;
}

/* relaxed, all three: the reclaimer looks under the owner's lock */
static void mark(struct hak_arena *a, uint32_t super)
{
	uint64_t bit = (uint64_t)1 << super % 64;
	/* what a look after this finds, it finds under the lock that is held here */
	if (!(atomic_load_explicit(&a->loose[super / 64], memory_order_relaxed) & bit))
		atomic_fetch_or_explicit(&a->loose[super / 64], bit, memory_order_relaxed);
}

static void unmark(struct hak_arena *a, uint32_t super)
{
	atomic_fetch_and_explicit(&a->loose[super / 64], ~((uint64_t)1 << super % 64), memory_order_relaxed);
}

static bool is_marked(const struct hak_arena *a, uint32_t super)
{
	return atomic_load_explicit(&a->loose[super / 64], memory_order_relaxed) >> super % 64 & 1;
}

void hak_holes_mark(struct hak_slab *s)
{
	const struct hak_class *c = hak_slab_class(s);
	struct hak_arena *a = hak_arena_of(s->base);
	uint32_t super = hak_granule_of(s->base) / HAK_SUPER_GRANULES;
	s->loose_at = UINT16_MAX;
	s->calm = false;
	mark(a, super);
	hak_reclaim_note((size_t)s->nfree * c->stride);
}

bool hak_holes_guarded(const struct hak_arena *a, uint32_t super)
{
	return a->hole_guard[super] != 0;
}

uint32_t hak_holes_pages(const struct hak_arena *a, uint32_t super)
{
	return atomic_load_explicit(&a->holes[super], memory_order_relaxed); /* a figure */
}

uint32_t hak_holes_found(const struct hak_arena *a, uint32_t super)
{
	return a->found[super];
}

void hak_holes_gone(struct hak_arena *a, uint32_t super)
{
	atomic_store_explicit(&a->holes[super], 0, memory_order_relaxed);
}

static bool is_split(const struct hak_arena *a, uint32_t super)
{
	return a->guard[super] || a->hole_guard[super];
}

/*
 * The slab that begins at the granule, its owner's lock held; NULL: none does, or it is not to be had.
 * A hardened heap writes into its free blocks, and a stock's slabs wait for their use.
 */
static struct hak_slab *lock_slab(struct hak_arena *a, uint32_t granule, struct hak_heap **owner, bool *missed)
{
	char *p = a->base + (size_t)granule * HAK_GRANULE;
	/* acquire TAG: the heap can be found */
	uint32_t tag = atomic_load_explicit(hak_tag_of(p), memory_order_acquire);
	struct hak_heap *h = tag && hak_tag_code(tag) < HAK_CODE(HAK_CLASSES) ? hak_heap_by_id(hak_tag_heap(tag)) : NULL;
	if (!h || h->abandoned || h->hard || h->stock)
		return NULL;
	if (!hak_trylock(&h->lock)) {
		*missed = true;
		return NULL;
	}
	/* relaxed: under the lock it stays if it names h */
	if (atomic_load_explicit(hak_tag_of(p), memory_order_relaxed) == tag &&
	    !((uintptr_t)p & hak_classes[hak_tag_code(tag) >> HAK_CODE_SHIFT].mask)) {
		*owner = h;
		return &a->slabs[granule];
	}
	hak_unlock(&h->lock);
	return NULL;
}

/* The next slab of the SuperSlab from granule *at on, its owner's lock held; NULL: that was the last. *missed:
 * some lock was not to be had. */
static struct hak_slab *next_slab(struct hak_arena *a, uint32_t super, uint32_t *at, struct hak_heap **owner, bool *missed)
{
	while (*at < HAK_SUPER_GRANULES) {
		struct hak_slab *s = lock_slab(a, super * HAK_SUPER_GRANULES + *at, owner, missed);
		*at += s ? hak_slab_class(s)->granules : 1;
		if (s)
			return s;
	}
	return NULL;
}

static uint32_t hole_pages(const struct hak_slab *s)
{
	const struct hak_class *c = hak_slab_class(s);
	struct hak_hole hole = { 0, 0 };
	uint32_t pages = 0;
	for (uint32_t from = 0; hak_slab_hole(s, from, &hole); from = hole.first + hole.count)
		pages += (uint32_t)((hak_hole_end(c, hole) - hak_hole_start(c, hole)) / HAK_PAGE);
	return pages;
}

/* All of its pages are taken to be used again, those too that were never given back. */
void hak_holes_taken(struct hak_slab *s)
{
	_Atomic uint16_t *holes = &hak_arena_of(s->base)->holes[hak_granule_of(s->base) / HAK_SUPER_GRANULES];
	uint32_t pages = hole_pages(s);
	/* relaxed, all of it: figures */
	uint16_t is = atomic_load_explicit(holes, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(holes, &is, is > pages ? (uint16_t)(is - pages) : 0, memory_order_relaxed,
						      memory_order_relaxed))
		;
	if (s->hollow == atomic_load_explicit(&epoch, memory_order_relaxed))
		atomic_fetch_add_explicit(&back, (uint64_t)pages * HAK_PAGE, memory_order_relaxed);
	s->hollow = 0;
}

/* EMPTY slabs that a heap keeps are for its next request, and go otherwise. */
static bool worth_a_look(const struct hak_slab *s)
{
	uint32_t capacity = hak_slab_class(s)->capacity;
	return s->nfree >= capacity / 2 && s->nfree < capacity;
}

/* ---- the guard page in a hole ----------------------------------------------------- */

/* The blocks that reach into a page of a slab. */
static struct hak_hole blocks_of(const struct hak_slab *s, size_t offset)
{
	uint32_t stride = hak_slab_class(s)->stride, first = (uint32_t)(offset / stride);
	return (struct hak_hole){ first, (uint32_t)((offset + HAK_PAGE - 1) / stride) + 1 - first };
}

static char *guard_at(const struct hak_arena *a, uint32_t super)
{
	return a->base + (size_t)super * HAK_SUPER + (a->hole_guard[super] - 1u) * HAK_PAGE;
}

static struct hak_slab *slab_at(struct hak_arena *a, const char *p)
{
	/* acquire TAG: a block of the slab is out, so its class is what it was when that was taken */
	uint32_t tag = atomic_load_explicit(hak_tag_of(p), memory_order_acquire);
	uintptr_t base = (uintptr_t)p & ~(uintptr_t)hak_classes[hak_tag_code(tag) >> HAK_CODE_SHIFT].mask;
	return &a->slabs[hak_granule_of((const void *)base)];
}

/* The hole is out, and its contents nobody needs. */
static void guard_hole(struct piece *p)
{
	const struct hak_class *c = hak_slab_class(p->slab);
	size_t offset = hak_hole_start(c, p->hole);
	char *page = p->slab->base + offset;
	uint32_t super = hak_granule_of(page) / HAK_SUPER_GRANULES;
	if (hak_sys.madvise(page, HAK_PAGE, MADV_GUARD_INSTALL))
		return;
	p->kept = blocks_of(p->slab, offset).count;
	p->arena->hole_guard[super] = (uint16_t)((size_t)(page - p->arena->base) % HAK_SUPER / HAK_PAGE + 1);
	hak_count(guards, 1);
}

static bool unguard(struct hak_arena *a, uint32_t super)
{
	char *page = guard_at(a, super);
	struct hak_slab *s = slab_at(a, page);
	if (hak_sys.madvise(page, HAK_PAGE, MADV_GUARD_REMOVE))
		return false;
	a->hole_guard[super] = 0;
	hak_count(guards, -1);
	hak_heap_put_hole(s, blocks_of(s, (size_t)(page - s->base)));
	return true;
}

/* Of the guard's slab nothing else is out: it shall become EMPTY. */
static bool guard_is_alone(struct hak_arena *a, uint32_t super, bool *missed)
{
	struct hak_heap *h;
	char *page = guard_at(a, super);
	struct hak_slab *s = slab_at(a, page);
	if (!lock_slab(a, hak_granule_of(s->base), &h, missed))
		return false;
	bool alone = s->nfree + blocks_of(s, (size_t)(page - s->base)).count == hak_slab_class(s)->capacity;
	hak_unlock(&h->lock);
	return alone;
}

static void free_guards_of(struct hak_arena *a, void *arg)
{
	bool *any = arg, missed = false;
	for (uint32_t s = 0; s < HAK_ARENA_SUPERS; s++)
		if (a->hole_guard[s] && guard_is_alone(a, s, &missed) && unguard(a, s)) {
			mark(a, s); /* the holes of its other slabs want another guard */
			*any = true;
		}
}

bool hak_holes_free_guards(void)
{
	bool any = false;
	hak_arena_each(free_guards_of, &any);
	return any;
}

/* Nearly all of the SuperSlab is in use again. */
static void heal(struct hak_arena *a, uint32_t super)
{
	if (unguard(a, super)) /* refused: khugepaged will find it */
		hak_count(collapses, hak_sys.madvise(a->base + (size_t)super * HAK_SUPER, HAK_SUPER, MADV_COLLAPSE) == 0);
}

/* ---- looking ---------------------------------------------------------------------- */

/* Pages of holes in the SuperSlab's slabs, of calm ones if only those are due. *again: others may be calm
 * next time. */
static uint32_t look(struct hak_arena *a, uint32_t super, bool due, bool *again)
{
	uint32_t pages = 0, at = 0;
	struct hak_heap *h;
	struct hak_slab *s;
	while ((s = next_slab(a, super, &at, &h, again))) {
		const struct hak_class *c = hak_slab_class(s);
		if (worth_a_look(s)) {
			uint32_t have = hole_pages(s);
			if (have < c->granules * HAK_GRANULE_PAGES / PART_LEAST)
				have = 0;
			if (!due || s->calm)
				pages += have;
			else
				*again |= have != 0;
			s->calm = true;
		}
		s->loose_at = hak_loose_at(c->capacity, s->nfree);
		hak_unlock(&h->lock);
	}
	return pages;
}

static uint32_t free_granules(const struct hak_arena *a, uint32_t super)
{
	uint64_t word = atomic_load_explicit(&a->super[super], memory_order_relaxed); /* a hint */
	return hak_popcount(HAK_WORD_EMPTY(word) | HAK_WORD_UNUSED(word));
}

/* Free pages of all of the SuperSlab's slabs. */
static uint32_t free_pages(struct hak_arena *a, uint32_t super, bool *missed)
{
	uint32_t pages = 0, at = 0;
	struct hak_heap *h;
	struct hak_slab *s;
	while ((s = next_slab(a, super, &at, &h, missed))) {
		pages += hole_pages(s);
		hak_unlock(&h->lock);
	}
	return pages;
}

/* Once in an epoch: how much of what was given back is in use again? */
static void count_again(struct hak_arena *a, uint32_t super)
{
	bool missed = false;
	uint32_t pages = free_pages(a, super, &missed);
	if (missed)
		return;
	if (pages < hak_holes_pages(a, super))
		atomic_store_explicit(&a->holes[super], (uint16_t)pages, memory_order_relaxed);
	if (a->hole_guard[super] && pages + free_granules(a, super) * HAK_GRANULE_PAGES <= HEALED)
		heal(a, super);
}

void hak_holes_look(struct hak_arena *a, uint32_t super, struct hak_holes_pass *pass)
{
	bool again = false;
	a->found[super] = 0;
	if (!hak_option_get(HAK_OPT_holes))
		return;
	if (pass->epoch && hak_holes_pages(a, super))
		count_again(a, super);
	if (!pass->all) {
		bool rarely = a->hole_looks[super] >= LOOKS && !pass->epoch;
		if (rarely) /* a mark that comes this moment keeps the reclaimer awake as well */
			pass->busy |= is_marked(a, super);
		if (rarely || !is_marked(a, super))
			return;
	}
	unmark(a, super);
	uint32_t pages = look(a, super, pass->due, &again), all = pages + free_granules(a, super) * HAK_GRANULE_PAGES;
	a->hole_looks[super] = again ? (uint8_t)hak_min(a->hole_looks[super] + 1u, LOOKS) : 0;
	if (again) {
		mark(a, super);
		pass->busy = true;
	}
	if (hak_super_is_huge(a, super) && !is_split(a, super) && all < SPLIT_LEAST)
		return;
	a->found[super] = (uint16_t)pages;
}

/* ---- giving back ------------------------------------------------------------------ */

static void flush(bool split)
{
	if (!count)
		return;
	uint32_t node = pieces[0].arena->node;
	if (split) {
		/* before the advice: khugepaged may come between any two of the calls */
		guard_hole(&pieces[0]);
		hak_engine_run(node, MADV_COLD, ranges, count);
	}
	hak_engine_run(node, MADV_DONTNEED, ranges, count);
	for (uint32_t i = 0; i < count; i++) {
		struct piece *p = &pieces[i];
		uint32_t super = hak_granule_of(p->slab->base) / HAK_SUPER_GRANULES;
		if (ranges[i].done) {
			hak_count(released, p->fresh * HAK_PAGE);
			hak_count(holes_released, p->fresh * HAK_PAGE);
			HAK_PROBE(give_back, ranges[i].addr, ranges[i].bytes);
			atomic_fetch_add_explicit(&p->arena->holes[super], (uint16_t)(ranges[i].bytes / HAK_PAGE), memory_order_relaxed);
		}
		hak_heap_put_hole(p->slab, (struct hak_hole){ p->hole.first + p->kept, p->hole.count - p->kept });
	}
	hak_count(splits, split && ranges[0].done);
	count = 0;
}

void hak_holes_epoch(void)
{
	uint8_t next = atomic_load_explicit(&epoch, memory_order_relaxed) % 15 + 1; /* this thread's alone */
	atomic_store_explicit(&epoch, next, memory_order_relaxed);
}

void hak_holes_flush(void)
{
	flush(false);
}

/* Takes the slab's holes. There is room for them. */
static uint32_t take(struct hak_arena *a, struct hak_slab *s, struct hak_heap *h)
{
	const struct hak_class *c = hak_slab_class(s);
	struct hak_hole hole = { 0, 0 };
	uint32_t pages = 0;
	s->hollow = atomic_load_explicit(&epoch, memory_order_relaxed) & 15;
	for (uint32_t from = 0; hak_slab_hole(s, from, &hole); from = hole.first + hole.count) {
		size_t start = hak_hole_start(c, hole);
		hak_heap_take_hole(h, s, hole);
		pieces[count] = (struct piece){ a, s, hole, 0, 0 };
		ranges[count++] = (struct hak_engine_range){ s->base + start, hak_hole_end(c, hole) - start, false };
		pages += (uint32_t)(ranges[count - 1].bytes / HAK_PAGE);
	}
	return pages;
}

void hak_holes_give(struct hak_arena *a, uint32_t super, struct hak_holes_pass *pass)
{
	bool split = hak_super_is_huge(a, super) && !is_split(a, super), missed = false;
	uint32_t at = 0, before, pages = 0;
	struct hak_heap *h;
	struct hak_slab *s;
	if (!a->found[super])
		return;
	if (split && (!pass->split || a->found[super] < SPLIT_LEAST || !*pass->left)) {
		mark(a, super);
		pass->busy |= pass->split && !*pass->left;
		return;
	}
	if (split || count > HOLES - HOLES_SUPER || (count && pieces[0].arena->node != a->node))
		flush(false);
	before = atomic_exchange_explicit(&a->holes[super], 0, memory_order_relaxed);
	while ((s = next_slab(a, super, &at, &h, &missed))) {
		if (worth_a_look(s) && (s->calm || !pass->due))
			pages += take(a, s, h);
		hak_unlock(&h->lock);
	}
	if (pages > before)
		pieces[count - 1].fresh = pages - before;
	if (split) {
		*pass->left -= count != 0;
		flush(true);
	}
}
