/* SPDX-License-Identifier: MIT */
/* The share of claimed small pages that are resident, by class. */
#include "touched.h"

#include <fcntl.h>

#include "holes.h"
#include "numa/huge.h"
#include "numa/node.h"
#include "options.h"
#include "reclaim.h"
#include "route.h"
#include "sys/sys.h"

#define WHOLE (2 * HAK_PAGE) /* blocks up to this are touched whole */
#define PART 8u		     /* granules looked at in one go: their entries are 1 KiB of stack */
#define LOOKS 16u	     /* parts */
#define LEAST 16u	     /* pages: fewer say nothing */
/* Fresh granules on small pages between looks, so that a look costs a tenth of their page faults; and by
 * which part of what it has the class that asks must have grown. */
#define AGAIN_LEAST 64u
#define AGAIN_PART 4u
#define RESIDENT ((uint64_t)3 << 62) /* present, or swapped: Documentation/admin-guide/mm/pagemap.rst */

/* By static class, then of runs of the pool, and of span arenas. relaxed, all of it: hints */
#define RUNS HAK_STATIC_CLASSES
#define SPANS (HAK_STATIC_CLASSES + 1)
static struct {
	_Atomic uint8_t verdict;
	_Atomic uint32_t fresh;	    /* granules that it got on small pages instead of huge ones */
	_Atomic uint32_t next_look; /* when they are so many */
} known[SPANS + 1];
static _Atomic uint32_t fresh_all, look_all; /* the same of all */
static _Atomic bool blind; /* nothing can be seen */
static _Atomic uint32_t asked; /* a node and 1 on which to look; the last that asked */
static _Atomic bool looking; /* set before asked is cleared */

enum verdict { UNKNOWN, IN_PART, WHOLLY };

struct tally {
	uint32_t claimed, resident;
};

/* A program that uses such a block touches all of it. */
static bool is_whole(unsigned class)
{
	return hak_classes[class].stride <= WHOLE;
}

/* Pages of the granule that blocks of what its tag names can have; and whose it is. */
static uint32_t claimed_pages(const struct hak_arena *a, uint32_t granule, unsigned *whose)
{
	/* acquire TAG: the class is what it was when the granule became a slab */
	uint32_t code = hak_tag_code(atomic_load_explicit(hak_tag_of(a->base + (size_t)granule * HAK_GRANULE), memory_order_acquire));
	if (code == HAK_CODE_SPAN || code == HAK_CODE_SPAN_REST) {
		*whose = RUNS;
		return HAK_GRANULE_PAGES;
	}
	/* what went back was touched once */
	if (hak_holes_pages(a, granule / HAK_SUPER_GRANULES))
		return 0;
	unsigned class = code >> HAK_CODE_SHIFT; /* of dynamic ones no more than this is known here */
	if (!code || class >= HAK_STATIC_CLASSES || is_whole(class))
		return 0;
	const struct hak_class *c = &hak_classes[class];
	size_t used = (size_t)c->capacity * c->stride, offset = (size_t)granule * HAK_GRANULE & c->mask;
	*whose = class;
	return offset < used ? (uint32_t)hak_min(HAK_GRANULE, used - offset) / HAK_PAGE : 0;
}

/* Returns how many granules could be seen. */
static uint32_t look_at(int pagemap, const struct hak_arena *a, uint32_t granule, struct tally *tally)
{
	uint64_t page[PART * HAK_GRANULE_PAGES];
	uint64_t at = (uintptr_t)(a->base + (size_t)granule * HAK_GRANULE) / HAK_PAGE * sizeof *page;
	ssize_t got = hak_sys.read_at(pagemap, at, page, sizeof page);
	uint32_t granules = got <= 0 ? 0 : (uint32_t)got / (HAK_GRANULE_PAGES * sizeof *page);
	for (uint32_t g = 0; g < granules; g++) {
		unsigned whose = RUNS;
		uint32_t pages = claimed_pages(a, granule + g, &whose), resident = 0;
		for (uint32_t i = 0; i < pages; i++)
			resident += (page[g * HAK_GRANULE_PAGES + i] & RESIDENT) != 0;
		tally[whose].claimed += pages;
		tally[whose].resident += resident;
	}
	return granules;
}

static void judge(unsigned i, struct tally t)
{
	if (t.claimed < LEAST)
		return;
	enum verdict v = t.resident >= t.claimed / 4 * 3 ? WHOLLY : IN_PART;
	atomic_store_explicit(&known[i].verdict, v, memory_order_relaxed);
}

static uint32_t parts(const struct hak_arena *a)
{
	return (atomic_load_explicit(&a->small_end, memory_order_relaxed) + PART - 1) / PART;
}

/* Parts of the node's small zones, spread over them. False: there are some, and none can be read. */
static bool look_at_slabs(int pagemap, unsigned node, struct tally *tally)
{
	uint32_t all = 0, at = 0, seen = 0;
	/* acquire ARENAS: the newest arena's fields */
	struct hak_arena *first = atomic_load_explicit(&hak_nodes[node].arenas, memory_order_acquire);
	for (struct hak_arena *a = first; a; a = a->next)
		all += parts(a);
	uint32_t step = all / LOOKS + 1;
	for (struct hak_arena *a = first; a; a = a->next) {
		uint32_t end = parts(a);
		for (; at < end; at += step)
			seen += look_at(pagemap, a, at * PART, tally);
		at -= end;
	}
	return !all || seen;
}

static uint32_t supers(const struct hak_arena *a, unsigned node)
{
	uint32_t end = atomic_load_explicit(&a->small_end, memory_order_relaxed);
	return a->node == node && !a->huge_spans ? (end + HAK_SUPER_GRANULES - 1) / HAK_SUPER_GRANULES : 0;
}

/* The same of SuperSlabs of the node's span arenas. One that nobody has touched says nothing: it would cost
 * nothing on huge pages either. */
static bool look_at_spans(int pagemap, unsigned node, struct tally *tally)
{
	uint32_t all = 0, at = 0, seen = 0;
	hak_lock(&hak_huge_lock);
	struct hak_arena *first = hak_span_arenas;
	hak_unlock(&hak_huge_lock);
	for (struct hak_arena *a = first; a; a = a->next)
		all += supers(a, node);
	uint32_t step = all / LOOKS + 1;
	for (struct hak_arena *a = first; a; a = a->next) {
		uint32_t end = supers(a, node);
		for (; at < end; at += step) {
			struct tally super[SPANS + 1] = { { 0, 0 } };
			for (uint32_t part = 0; part < HAK_SUPER_GRANULES; part += PART)
				seen += look_at(pagemap, a, at * HAK_SUPER_GRANULES + part, super);
			if (super[RUNS].resident) {
				tally->claimed += super[RUNS].claimed;
				tally->resident += super[RUNS].resident;
			}
		}
		at -= end;
	}
	return !all || seen;
}

static void look(unsigned node)
{
	struct tally tally[SPANS + 1] = { { 0, 0 } };
	int pagemap = hak_sys_open("/proc/self/pagemap", O_RDONLY, 0); /* -1: no part can be read */
	bool slabs = look_at_slabs(pagemap, node, tally), spans = look_at_spans(pagemap, node, &tally[SPANS]);
	if (pagemap >= 0)
		hak_sys_close(pagemap);
	for (unsigned i = 0; i <= SPANS; i++)
		judge(i, tally[i]);
	if (!slabs || !spans)
		atomic_store_explicit(&blind, true, memory_order_relaxed);
}

/* It is time to look for the class. */
static bool due(unsigned i, uint32_t granules)
{
	uint32_t own = atomic_fetch_add_explicit(&known[i].fresh, granules, memory_order_relaxed),
		 all = atomic_fetch_add_explicit(&fresh_all, granules, memory_order_relaxed),
		 at = atomic_load_explicit(&look_all, memory_order_relaxed);
	if (all < at || own < atomic_load_explicit(&known[i].next_look, memory_order_relaxed) ||
	    !atomic_compare_exchange_strong_explicit(&look_all, &at, all + AGAIN_LEAST, memory_order_relaxed, memory_order_relaxed))
		return false;
	atomic_store_explicit(&known[i].next_look, own + own / AGAIN_PART, memory_order_relaxed);
	return true;
}

static unsigned whose(unsigned class)
{
	return class == HAK_TOUCHED_SPANS ? SPANS : class == HAK_TOUCHED_RUNS ? RUNS : hak_route_home(class);
}

bool hak_touched(unsigned class)
{
	return (class < HAK_CLASSES && is_whole(class)) || !hak_option_get(HAK_OPT_huge_proof) ||
	       atomic_load_explicit(&known[whose(class)].verdict, memory_order_relaxed) == WHOLLY ||
	       atomic_load_explicit(&blind, memory_order_relaxed) || !hak_reclaim_possible();
}

void hak_touched_ask(unsigned node, unsigned class, uint32_t granules)
{
	if (!due(whose(class), granules))
		return;
	atomic_store_explicit(&asked, node + 1, memory_order_relaxed);
	hak_reclaim_look();
}

bool hak_touched_claim(unsigned node, unsigned class, uint32_t count, bool huge, struct hak_run *run)
{
	bool pays = huge && hak_touched(class);
	if (!hak_pool_claim(node, count, class < HAK_CLASSES, pays, run))
		return false;
	if (huge && !pays && run->zero)
		hak_touched_ask(node, class, count);
	return true;
}

bool hak_touched_asked(void)
{
	/* acquire TOUCHED: who sees it cleared by a look sees that look */
	return atomic_load_explicit(&asked, memory_order_acquire) || atomic_load_explicit(&looking, memory_order_acquire);
}

void hak_touched_look(void)
{
	if (!atomic_load_explicit(&asked, memory_order_relaxed))
		return;
	atomic_store_explicit(&looking, true, memory_order_relaxed);
	/* release TOUCHED: looking before it, the verdicts after it */
	uint32_t node = atomic_exchange_explicit(&asked, 0, memory_order_acq_rel);
	look(node - 1);
	atomic_store_explicit(&looking, false, memory_order_release);
}
