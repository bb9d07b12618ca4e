/* SPDX-License-Identifier: MIT */
/* Timing fresh huge pages against small ones. */
#include "price.h"

#include <sys/mman.h>

#include "clock.h"
#include "counters.h"
#include "numa/arena.h"
#include "numa/engine.h"
#include "numa/node.h"
#include "options.h"
#include "reclaim.h"
#include "sys/sys.h"

/* A page that costs no more than twice what small pages for it would pays later: by the faults that
 * are not taken where it is filled in part, and by fewer misses of the TLB. */
#define DEAR_TIMES 2u
#define SAMPLE ((size_t)256 << 10) /* of small pages */
/* Until a dear page is tried again, doubling: one costs some 5 ms of the reclaimer's time. */
#define PAUSE_NS ((uint64_t)250000000)
#define PAUSE_MOST_NS ((uint64_t)8000000000)

enum { UNKNOWN, CHEAP, DEAR };

/* relaxed, both: hints */
static _Atomic uint8_t price;
static _Atomic uint32_t asked; /* a node and 1 */

/* the reclaimer's thread, under its lock */
static uint64_t due_ns, pause_ns, small_ns;

/* Memory lies where it is touched first: slabs on small pages may be touched by a thread that has moved. */
static bool is_unbound(void)
{
	/* relaxed: a hint */
	return atomic_load_explicit(&hak_node_count, memory_order_relaxed) > 1 &&
	       (!hak_node_may_bind() || hak_counted(bind_failures));
}

bool hak_price_pays(unsigned node)
{
	if (atomic_load_explicit(&price, memory_order_relaxed) == CHEAP || !hak_option_get(HAK_OPT_huge_price) ||
	    !hak_reclaim_possible() || is_unbound())
		return true;
	if (!atomic_load_explicit(&asked, memory_order_relaxed) &&
	    !atomic_exchange_explicit(&asked, node + 1, memory_order_relaxed))
		hak_reclaim_look();
	return false;
}

bool hak_price_asked(void)
{
	return atomic_load_explicit(&asked, memory_order_relaxed) != 0;
}

uint64_t hak_price_clock(void)
{
	return hak_clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* What page faults of small pages cost for as many bytes as a huge page has; 0: no memory for it. */
static uint64_t time_small(void)
{
	char *p = hak_sys_map(SAMPLE);
	if (!p)
		return 0;
	hak_sys.madvise_own(p, SAMPLE, MADV_NOHUGEPAGE);
	uint64_t begin = hak_price_clock();
	for (size_t at = 0; at < SAMPLE; at += HAK_PAGE)
		*(volatile char *)(p + at) = 1;
	uint64_t ns = hak_price_clock() - begin;
	hak_sys.munmap_own(p, SAMPLE);
	return ns * (HAK_SUPER / SAMPLE);
}

void hak_price_note(uint64_t ns)
{
	bool dear = small_ns && ns > DEAR_TIMES * small_ns;
	pause_ns = dear ? hak_min(hak_max(2 * pause_ns, PAUSE_NS), PAUSE_MOST_NS) : 0;
	due_ns = hak_now_ns() + pause_ns;
	hak_count(dear_pages, dear);
	atomic_store_explicit(&price, dear ? DEAR : CHEAP, memory_order_relaxed);
}

/* One huge page, for whoever needs it next. */
static void try_one(unsigned node)
{
	struct hak_run run;
	uint64_t ns = 0;
	if (hak_pool_claim(node, HAK_SUPER_GRANULES, true, true, &run)) {
		struct hak_engine_range range = { run.arena->base + (size_t)run.granule * HAK_GRANULE, HAK_SUPER, false };
		uint64_t begin = hak_price_clock();
		/* else its pages are there, or it is in the small zone */
		if (run.zero && hak_super_is_huge(run.arena, run.granule / HAK_SUPER_GRANULES))
			hak_engine_run(node, MADV_POPULATE_WRITE, &range, 1); /* on the node's CPUs, if memory is not bound */
		if (range.done) {
			ns = hak_price_clock() - begin;
			hak_count(populated, HAK_SUPER);
		}
		hak_pool_release(run.arena, run.granule, HAK_SUPER_GRANULES);
	}
	hak_price_note(ns);
}

void hak_price_look(void)
{
	uint32_t node = atomic_load_explicit(&asked, memory_order_relaxed);
	if (!node || (due_ns && hak_now_ns() < due_ns))
		return;
	small_ns = time_small();
	try_one(node - 1);
	atomic_store_explicit(&asked, 0, memory_order_relaxed);
}
