/* SPDX-License-Identifier: MIT */
/*
 * Giving memory back. Granules that were EMPTY at two looks, half the decay time apart, and not
 * claimed in between, go to the kernel: in small-page zones any granule, in a huge zone whole SuperSlabs.
 * Free pages inside of slabs that are in use follow (holes.h).
 *
 *                 all of it EMPTY                       the kernel gives a new page
 *   huge page  ---------------------->  nothing there  ------------------------------>  huge page
 *       |                                    ^
 *       | half of it EMPTY: split            | all of it EMPTY: the guard is removed
 *       v                                    |
 *   small pages, one granule kept out of the pool, a guard page in it
 *       |
 *       `---> nearly full again: the guard is removed, and the pages are collapsed into a huge one
 *
 * A part of a huge page costs a split, and khugepaged would fill the hole in again: one guard page
 * anywhere in a SuperSlab prevents that, without a mapping of its own (MADV_GUARD_INSTALL).
 *
 * A range is taken out of the pool by the same CAS as a claim, so it belongs to the reclaimer
 * until it is put back as UNUSED, or as EMPTY if the kernel refused.
 */
#include "reclaim.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ace/health.h"
#include "ace/learn.h"
#include "ace/prewarm.h"
#include "clock.h"
#include "counters.h"
#include "hardened.h"
#include "heap.h"
#include "holes.h"
#include "limit.h"
#include "numa/engine.h"
#include "numa/huge.h"
#include "numa/node.h"
#include "numa/topology.h"
#include "options.h"
#include "price.h"
#include "probe.h"
#include "step.h"
#include "sys/sys.h"
#include "touched.h"

/* EMPTY bytes that start it in one thread; or bytes of arenas: what will be freed later
 * must find it running, since a free cannot start it */
#define START_BYTES ((uint64_t)64 << 20)
#define START_BYTES_THREADS ((uint64_t)2 << 20)
/* Arenas' bytes that start it where there are several nodes: it loads the topology. */
#define START_BYTES_NODES ((uint64_t)4 << 20)
#define QUIET_PASSES 1u
/* A huge page is split for 16 of its 32 granules: then more of it is waste than use. */
#define PART_LEAST 16u
/* ... and made whole again when so few of it are free. */
#define PART_HEALED 2u
/* A split costs some 1 ms of the reclaimer's time, so 64 are an eighth of a tick. */
#define SPLITS_A_TICK 64u
#define EPOCH 8u      /* passes */
#define BACK_LEAST 64u /* granules, 4 MiB: less is not worth a change */
#define SLOW_MOST 16u
#define LOOK_SECONDS 2 /* between looks at pressure, at most; and at the machine */
#define LOOK_IDLE_SECONDS 10 /* at several nodes, or at what threads have cached, when there is nothing at all */
#define OWN_ROOM_PART 16u
#define SOON_MS 5 /* what large blocks wait for, of which there are too many */
#define SPARE_LEAST 16u /* granules, 1 MiB: for less no idle process is woken up */

/* What is made ready ahead is this part at most of what the program has of the node. */
#define AHEAD_PART 32u
/* Two SuperSlabs begun within so long: the next will be, too, before what is ready for it decays. If
 * the program has hardly more than before, it only moves about in what it has. */
#define GROWTH_NS ((uint64_t)250000000)
#define GROWTH_BYTES (HAK_SUPER / 2)
/* The reclaimer wakes up and the kernel clears a few pages: as many are ready as are begun meanwhile, and one. */
#define READY_NS ((uint64_t)4000000)

/* REFUSED: by the system, after a raw fork, or not before the constructor */
enum { STATE_STOPPED, STATE_RUNNING, STATE_REFUSED };

struct hak_lock hak_reclaim_lock = HAK_LOCK_INIT(HAK_RANK_RECLAIM);
static _Atomic uint64_t noted;	  /* bytes that became EMPTY since the last pass */
static _Atomic uint32_t running = STATE_REFUSED;
static _Atomic uint32_t wake;	  /* futex: passes asked for */
static _Atomic uint32_t hurry;	  /* futex: what cannot wait for the next pass */

static void wake_up(_Atomic uint32_t *futex)
{
	/* relaxed: what there is to do is found under its own lock */
	atomic_fetch_add_explicit(futex, 1, memory_order_relaxed);
	syscall(SYS_futex, futex, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void hak_reclaim_note(size_t bytes)
{
	/* relaxed: a counter; its first byte after a pass ends an idle reclaimer's sleep. More is not
	 * asked of it then, and all threads read the line */
	bool runs = atomic_load_explicit(&running, memory_order_relaxed) == STATE_RUNNING;
	if (runs && atomic_load_explicit(&noted, memory_order_relaxed))
		return;
	if (atomic_fetch_add_explicit(&noted, bytes, memory_order_relaxed) == 0 && runs)
		wake_up(&wake);
}

void hak_reclaim_hurry(void)
{
	wake_up(&hurry);
}

void hak_reclaim_look(void)
{
	if (!hak_reclaim_running())
		return;
	wake_up(&wake);
	wake_up(&hurry);
}

#define AHEAD_NODES 64u /* a mask of them is one word; those from here on are policies', most often */

static _Atomic uint64_t begun_ns[AHEAD_NODES]; /* when the last SuperSlab was begun ... */
static _Atomic uint64_t begun_out[AHEAD_NODES]; /* ... what the program had then ... */
static _Atomic uint64_t begun_after[AHEAD_NODES]; /* ... and how many ns after the one before */
static _Atomic uint64_t growing;	       /* nodes that may need the next */
static _Atomic bool ahead;		       /* it is worth anything: set by the reclaimer */

/* How many huge pages may be ready for a program that has so much. */
static uint64_t most_ahead(uint64_t out)
{
	return hak_min(hak_option_get(HAK_OPT_ahead), out / (AHEAD_PART * HAK_SUPER));
}

void hak_reclaim_begun(unsigned node)
{
	/* relaxed, all of it: hints. What is missed costs a page fault */
	if (node >= AHEAD_NODES || !atomic_load_explicit(&ahead, memory_order_relaxed))
		return;
	uint64_t out = hak_node_out(node);
	uint64_t now = hak_now_ns(), last = atomic_exchange_explicit(&begun_ns[node], now, memory_order_relaxed);
	uint64_t had = atomic_exchange_explicit(&begun_out[node], out, memory_order_relaxed);
	atomic_store_explicit(&begun_after[node], now - last, memory_order_relaxed);
	if (now - last < GROWTH_NS && out >= had + GROWTH_BYTES && most_ahead(out) && !hak_node_policy(node) &&
	    !(atomic_fetch_or_explicit(&growing, (uint64_t)1 << node, memory_order_relaxed) >> node & 1))
		wake_up(&hurry);
}

/* ---- batches ---------------------------------------------------------------------- */

/*
 * What was taken out of the pool and goes to the engine in one go; under the reclaimer's lock.
 * Neighbours are one range. While a batch is on its way its memory is nobody's, so it is bounded:
 * 64 MiB of small pages take some 3 ms (doc/reclaim-study.md), of huge ones a tenth of that.
 */
#define BATCH_PIECES 256u
#define BATCH_BYTES ((size_t)64 << 20)

struct piece {
	struct hak_arena *arena;
	uint32_t super, mask; /* granules in a row */
	uint32_t range;
};

static struct piece pieces[BATCH_PIECES];
static struct hak_engine_range ranges[BATCH_PIECES];
static uint32_t piece_count, range_count;
static size_t batch_bytes;
static HAK_TLS bool giving; /* this thread holds the reclaimer's lock and gives back */

/* The words of span arenas change under the huge lock. It is not held where madvise is called, which a library may
 * watch that asks for memory. */
static void lock_words(const struct hak_arena *a)
{
	if (a->kind == HAK_ARENA_SPANS)
		hak_lock(&hak_huge_lock);
}

static void unlock_words(const struct hak_arena *a)
{
	if (a->kind == HAK_ARENA_SPANS)
		hak_unlock(&hak_huge_lock);
}

static void put_back(struct hak_arena *a, uint32_t super, uint32_t mask, bool ok)
{
	HAK_STEP(S6);
	/* the pages are gone before the granules are UNUSED */
	uint64_t bits = ok ? HAK_WORD(0, mask) : HAK_WORD(mask, 0);
	if (a->kind == HAK_ARENA_SLABS) {
		hak_super_put(a, super, bits);
	} else {
		lock_words(a);
		/* relaxed: under the huge lock */
		atomic_fetch_or_explicit(&a->super[super], bits, memory_order_relaxed);
		hak_huge_words_changed(a, super, 1);
		unlock_words(a);
	}
}

/* Takes granules out of the pool: the word is `to` if it was `word`. False: somebody was faster. Under its lock. */
static bool change_word(struct hak_arena *a, uint32_t super, uint64_t word, uint64_t to)
{
	/* acquire POOL */
	if (!atomic_compare_exchange_strong_explicit(&a->super[super], &word, to, memory_order_acquire,
						     memory_order_relaxed))
		return false;
	if (a->kind == HAK_ARENA_SPANS)
		hak_huge_words_changed(a, super, 1);
	return true;
}

static char *granule_at(const struct hak_arena *a, uint32_t super, uint32_t granule)
{
	return a->base + ((size_t)super * HAK_SUPER_GRANULES + granule) * HAK_GRANULE;
}

/* Before Linux 6.13 it has none. */
static bool kernel_has_guards(void)
{
	static bool known, has; /* under the reclaimer's lock */
	void *page = known ? NULL : hak_sys_map(HAK_PAGE);
	if (page) {
		has = hak_sys.madvise_own(page, HAK_PAGE, MADV_GUARD_INSTALL) == 0;
		known = true;
		hak_sys.munmap_own(page, HAK_PAGE);
	}
	return has;
}

/* Puts a guard page into a granule of the mask, whose contents nobody needs: one at an end of the free row, so
 * that a large block may still have the rest of it and of the next SuperSlab's. Refused: the
 * kernel has none, or the memory is locked, and will not go back either. */
static void install_guard(struct hak_arena *a, uint32_t super, uint32_t mask)
{
	uint32_t granule = (uint32_t)(mask & 1 ? 31 - __builtin_clz(mask) : __builtin_ctz(mask));
	if (hak_sys.madvise(granule_at(a, super, granule), HAK_PAGE, MADV_GUARD_INSTALL))
		return;
	a->guard[super] = (uint8_t)(granule + 1);
	hak_count(guards, 1);
}

/* The granule that is kept out of the pool, as a mask. */
static uint32_t kept_granule(const struct hak_arena *a, uint32_t super)
{
	return a->guard[super] ? 1u << (a->guard[super] - 1) : 0;
}

static bool remove_guard(struct hak_arena *a, uint32_t super)
{
	if (hak_sys.madvise(granule_at(a, super, a->guard[super] - 1u), HAK_PAGE, MADV_GUARD_REMOVE))
		return false;
	a->guard[super] = 0;
	hak_count(guards, -1);
	return true;
}

/* If all of a split SuperSlab is UNUSED but the granule with the guard: the next touch of it shall
 * give a huge page again, for which the kernel must drop its empty page table as well. */
static void make_whole(struct hak_arena *a, uint32_t super)
{
	uint32_t kept = kept_granule(a, super), all = hak_super_mapped(a, super);
	lock_words(a);
	bool ours = change_word(a, super, HAK_WORD(0, all & ~kept), 0);
	unlock_words(a);
	if (!ours)
		return;
	hak_holes_gone(a, super);
	bool removed = remove_guard(a, super);
	bool zero = !removed || hak_sys.madvise(granule_at(a, super, 0), hak_popcount(all) * HAK_GRANULE, MADV_DONTNEED) == 0;
	put_back(a, super, removed ? all : all & ~kept, zero);
}

/* Nearly all of a split SuperSlab is in use: its small pages are made a huge one. */
static void make_dense(struct hak_arena *a, uint32_t super)
{
	uint32_t kept = kept_granule(a, super);
	if (!remove_guard(a, super))
		return;
	/* EMPTY: it may have kept its contents, if the kernel refused to drop them */
	put_back(a, super, kept, false);
	/* refused: khugepaged will find it */
	hak_count(collapses, hak_sys.madvise(granule_at(a, super, 0), HAK_SUPER, MADV_COLLAPSE) == 0);
}

/* Hardened mode's: they would keep the kernel from huge pages there, or be mappings without any memory.
 * What stays closed is so noted, and opened by who claims it. */
static void open_guards(void)
{
	for (uint32_t i = 0; i < piece_count; i++) {
		struct piece p = pieces[i];
		uint32_t first = p.super * HAK_SUPER_GRANULES + (uint32_t)__builtin_ctz(p.mask);
		hak_hardened_claimed(p.arena, first, (uint32_t)hak_popcount(p.mask), false);
	}
}

/*
 * All of a batch is of one kind of arena and, for slabs, of one node. split: it is parts of huge
 * pages. MADV_DONTNEED alone would lower RSS and free nothing until the kernel is short of memory;
 * MADV_COLD before it makes the kernel split the page at once. The guard comes first: khugepaged may
 * come between any two of the calls.
 */
static void flush_batch(bool split)
{
	if (!piece_count)
		return;
	struct hak_arena *a = pieces[0].arena;
	uint32_t node = a->kind == HAK_ARENA_SPANS ? HAK_ENGINE_NO_NODE : a->node;
	if (hak_arena_guard)
		open_guards();
	if (split) {
		for (uint32_t i = 0; i < piece_count; i++)
			if (!pieces[i].arena->guard[pieces[i].super])
				install_guard(pieces[i].arena, pieces[i].super, pieces[i].mask);
		hak_engine_run(node, MADV_COLD, ranges, range_count);
	}
	hak_engine_run(node, MADV_DONTNEED, ranges, range_count);
	for (uint32_t i = 0; i < piece_count; i++) {
		uint32_t super = pieces[i].super;
		a = pieces[i].arena;
		uint32_t kept = kept_granule(a, super) & pieces[i].mask;
		bool done = ranges[pieces[i].range].done;
		hak_count(splits, split && done && (kept || !a->guard[super]));
		if (done) {
			size_t bytes = (size_t)hak_popcount(pieces[i].mask) * HAK_GRANULE;
			hak_count(released, bytes);
			HAK_PROBE(give_back, a->base + super * HAK_SUPER, bytes);
			a->given[super] |= pieces[i].mask & ~kept;
		}
		put_back(a, super, pieces[i].mask & ~kept, done);
		if (a->guard[super])
			make_whole(a, super);
	}
	piece_count = range_count = 0;
	batch_bytes = 0;
}

/* Adds the mask's granules, which are ours, to the batch, row by row. There is room. */
static void add_to_batch(struct hak_arena *a, uint32_t super, uint32_t mask)
{
	while (mask) {
		uint32_t at = (uint32_t)__builtin_ctz(mask);
		uint32_t n = ~(mask >> at) ? (uint32_t)__builtin_ctz(~(mask >> at)) : 32;
		uint32_t row = hak_run_mask(n, at);
		char *p = granule_at(a, super, at);
		struct hak_engine_range *last = range_count ? &ranges[range_count - 1] : NULL;
		if (last && last->addr + last->bytes == p)
			last->bytes += n * HAK_GRANULE;
		else
			ranges[range_count++] = (struct hak_engine_range){ p, n * HAK_GRANULE, false };
		pieces[piece_count++] = (struct piece){ a, super, row, range_count - 1 };
		batch_bytes += n * HAK_GRANULE;
		mask &= ~row;
	}
}

static bool batch_is_full(void)
{
	/* a SuperSlab has 16 rows at most */
	return piece_count + HAK_SUPER_GRANULES / 2 > BATCH_PIECES || batch_bytes >= BATCH_BYTES;
}

/* ---- choosing --------------------------------------------------------------------- */

/* How much is asked for. */
enum urge {
	URGE_DUE, /* what has been EMPTY at two looks */
	URGE_ALL, /* all that is EMPTY, and of huge pages what is worth splitting them */
	URGE_LAST, /* every EMPTY granule, whatever it costs */
};

struct pass {
	enum urge urge;
	bool forget;	 /* a new epoch of the governor: what was given back is no longer lately */
	bool every;	 /* slabs are looked at whether they became loose or not */
	bool granules;	 /* those alone, no holes in slabs */
	bool busy;	 /* something may become due by itself */
	uint64_t spare;	 /* granules that stay EMPTY: what pressure could still take */
	uint32_t splits; /* huge pages that may still be split */
	uint64_t back;	 /* granules that were given back lately and are in use again */
	struct hak_holes_pass holes;
};

/* Takes free granules out of the pool and adds them to the batch. False: somebody was faster. */
static bool take(struct hak_arena *a, uint32_t super, uint64_t word, uint32_t mask)
{
	HAK_STEP(S5);
	if (!change_word(a, super, word, word & ~HAK_WORD(mask, mask)))
		return false;
	atomic_store_explicit(&a->seen[super], 0, memory_order_relaxed);
	add_to_batch(a, super, mask);
	return true;
}

/*
 * One SuperSlab. On small pages, and where a huge page was split, any granule goes back. A huge page goes
 * whole; whether its parts are worth it is noted for later in the pass.
 */
static void visit_super(struct hak_arena *a, uint32_t super, struct pass *pass)
{
	bool split = false;
	lock_words(a);
	HAK_STEP(S4);
	/* relaxed: the CAS decides */
	uint64_t word = atomic_load_explicit(&a->super[super], memory_order_relaxed);
	uint32_t empty = HAK_WORD_EMPTY(word), unused = HAK_WORD_UNUSED(word);
	uint32_t seen = atomic_load_explicit(&a->seen[super], memory_order_relaxed);
	uint32_t stable = pass->urge == URGE_DUE ? empty & seen : empty;
	bool zone = a->huge_spans || hak_super_is_huge(a, super);
	bool huge = zone && !a->guard[super] && !hak_holes_guarded(a, super);
	pass->back += hak_popcount(a->given[super] & ~unused);
	a->given[super] = pass->forget ? 0 : a->given[super] & unused;
	/* what was EMPTY before and is not due will not be, unless it changes */
	pass->busy |= (empty & ~seen) != 0;
	atomic_store_explicit(&a->seen[super], empty, memory_order_relaxed);
	a->part[super] = 0;
	pass->spare += hak_popcount(empty & ~stable) + (huge ? hak_popcount(stable) : 0);
	if (huge && (empty | unused) == UINT32_MAX) {
		/* its UNUSED granules go along: they are resident as well */
		if (empty && stable == empty)
			pass->busy |= !take(a, super, word, UINT32_MAX);
	} else if (huge) {
		a->part[super] = stable;
	} else if (stable) {
		pass->busy |= !take(a, super, word, stable);
	} else {
		split = a->guard[super] && !empty;
	}
	unlock_words(a);
	if (!split)
		return;
	if (hak_popcount(unused) * HAK_GRANULE_PAGES + hak_holes_pages(a, super) <= PART_HEALED * HAK_GRANULE_PAGES)
		make_dense(a, super);
	else
		make_whole(a, super); /* it was refused before */
}

/* Splits a huge page whose EMPTY part is large enough, and gives that part back. */
static void split_super(struct hak_arena *a, uint32_t super, struct pass *pass)
{
	lock_words(a);
	/* relaxed: the CAS decides */
	uint64_t word = atomic_load_explicit(&a->super[super], memory_order_relaxed);
	uint32_t part = a->part[super] & HAK_WORD_EMPTY(word);
	/* of large blocks' SuperSlabs, full but for a granule or two, each request that fails would split all */
	bool any = pass->urge == URGE_LAST && a->kind == HAK_ARENA_SLABS;
	uint32_t least = any ? 1 : PART_LEAST * HAK_GRANULE_PAGES;
	/* for the holes in its slabs, a free granule takes the guard */
	uint32_t holes = !pass->granules && (part | HAK_WORD_UNUSED(word)) ? hak_holes_found(a, super) : 0;
	bool worth = hak_popcount(part) * HAK_GRANULE_PAGES + holes >= least &&
		     (pass->urge == URGE_LAST || kernel_has_guards());
	if (worth && !pass->splits)
		pass->busy = true;
	else if (worth && take(a, super, word, part | HAK_WORD_UNUSED(word)))
		pass->splits--;
	unlock_words(a);
}

static void visit_arena(struct hak_arena *a, struct pass *pass,
			void (*visit)(struct hak_arena *a, uint32_t super, struct pass *pass))
{
	uint32_t end = (atomic_load_explicit(&a->small_end, memory_order_relaxed) + 31) / 32;
	uint32_t start = atomic_load_explicit(&a->huge_start, memory_order_relaxed) / 32;
	for (uint32_t s = 0; s < HAK_ARENA_SUPERS; s++) {
		if (s >= end && s < start)
			continue;
		visit(a, s, pass);
		if (batch_is_full())
			flush_batch(visit == split_super);
	}
}

static void look_for_holes(struct hak_arena *a, uint32_t super, struct pass *pass)
{
	hak_holes_look(a, super, &pass->holes);
}

static void give_holes(struct hak_arena *a, uint32_t super, struct pass *pass)
{
	hak_holes_give(a, super, &pass->holes);
}

/* Node after node, whole SuperSlabs first; then the span arenas, which belong to no node. */
static void visit_arenas(struct pass *pass)
{
	struct hak_arena *a, *first;
	for (unsigned i = 0; i < HAK_NODES; i++) {
		/* acquire ARENAS: the newest arena's fields */
		first = atomic_load_explicit(&hak_nodes[i].arenas, memory_order_acquire);
		for (a = first; a && !pass->granules; a = a->next)
			visit_arena(a, pass, look_for_holes);
		for (a = first; a; a = a->next)
			visit_arena(a, pass, visit_super);
		flush_batch(false);
		for (a = first; a; a = a->next)
			visit_arena(a, pass, split_super);
		flush_batch(true);
		for (a = first; a && !pass->granules; a = a->next)
			visit_arena(a, pass, give_holes);
		hak_holes_flush();
	}
	hak_lock(&hak_huge_lock);
	first = hak_span_arenas;
	hak_unlock(&hak_huge_lock);
	for (a = first; a; a = a->next)
		visit_arena(a, pass, visit_super);
	flush_batch(false);
	for (a = first; a; a = a->next)
		visit_arena(a, pass, split_super);
	flush_batch(true);
}

/* Parked heaps give up all they cache. */
static void visit_parked_heaps(void)
{
	for (unsigned i = 0; i < HAK_NODES; i++) {
		struct hak_heap *all = NULL, *h;
		while ((h = hak_heap_unpark(i))) {
			hak_heap_empty(h);
			h->park_next = all;
			all = h;
		}
		while ((h = all)) {
			all = h->park_next;
			hak_heap_park(h);
		}
	}
}

static void note_empty(struct hak_arena *a, void *arg)
{
	(void)arg;
	for (uint32_t s = 0; s < HAK_ARENA_SUPERS; s++)
		a->part[s] = HAK_WORD_EMPTY(atomic_load_explicit(&a->super[s], memory_order_relaxed));
}

static void note_quiet(struct hak_arena *a, void *arg)
{
	(void)arg;
	for (uint32_t s = 0; s < HAK_ARENA_SUPERS; s++) {
		uint64_t word = atomic_load_explicit(&a->super[s], memory_order_relaxed);
		atomic_fetch_or_explicit(&a->seen[s], HAK_WORD_EMPTY(word) & ~a->part[s], memory_order_relaxed);
	}
}

/* Live heaps give up the EMPTY slabs that they do not use. Those have been EMPTY for as long as
 * other granules must be: they count as seen. relaxed: what a thread frees meanwhile does too */
static bool visit_live_heaps(enum urge urge, bool again)
{
	uint32_t quiet = urge == URGE_DUE ? QUIET_PASSES : 0;
	bool pending = false;
	hak_arena_each(note_empty, NULL);
	/* guests before their homes, which get what those had cached */
	for (uint32_t id = hak_heap_count(); id >= 1; id--)
		if (again)
			hak_heap_release_empty(hak_heap_by_id(id), quiet);
		else
			pending |= hak_heap_visit(hak_heap_by_id(id), quiet);
	hak_arena_each(note_quiet, NULL);
	return pending;
}

static void enter(void)
{
	hak_lock(&hak_reclaim_lock);
	giving = true;
}

static void leave(void)
{
	giving = false;
	hak_unlock(&hak_reclaim_lock);
}

static void run(struct pass *pass)
{
	enter();
	/* relaxed: what is freed from here on is noted for the next pass */
	atomic_store_explicit(&noted, 0, memory_order_relaxed);
	visit_parked_heaps();
	pass->busy |= visit_live_heaps(pass->urge, false);
	if (hak_holes_free_guards())
		visit_live_heaps(pass->urge, true);
	pass->holes = (struct hak_holes_pass){ .due = pass->urge == URGE_DUE, .all = pass->every, .epoch = pass->forget || pass->every,
		.split = kernel_has_guards() || pass->urge == URGE_LAST, .left = &pass->splits };
	visit_arenas(pass);
	if (pass->forget)
		hak_holes_epoch();
	pass->back += hak_holes_back() / HAK_GRANULE;
	pass->busy |= pass->holes.busy;
	pass->busy |= hak_price_asked();
	pass->busy |= hak_own_give_back(pass->urge == URGE_DUE ? HAK_OWN_OLD : HAK_OWN_ALL);
	leave();
}

static size_t reclaim_now(enum urge urge)
{
	/* pages inside of slabs are no room for a request that fails */
	struct pass pass = { .urge = urge, .splits = UINT32_MAX, .every = true, .granules = urge == URGE_LAST };
	uint64_t before = hak_counted(released);
	if (giving) /* a hook on madvise that asks for memory, when there is none */
		return 0;
	run(&pass);
	return (size_t)(hak_counted(released) - before);
}

size_t hak_reclaim_all(void)
{
	return reclaim_now(URGE_ALL);
}

size_t hak_reclaim_last(void)
{
	return reclaim_now(URGE_LAST);
}

/* ---- ahead of need ---------------------------------------------------------------- */

static void set_ahead(bool worth)
{
	/* relaxed: a hint */
	atomic_store_explicit(&ahead, worth && hak_option_get(HAK_OPT_ahead), memory_order_relaxed);
}

/* The first wholly free SuperSlab of the node's huge zones that is UNUSED; NULL: none. *ready: how many are
 * EMPTY, whose pages are there. */
static struct hak_arena *find_unready(unsigned node, uint32_t *super, uint32_t *ready)
{
	struct hak_arena *found = NULL;
	*ready = 0;
	/* acquire ARENAS: the newest arena's fields */
	for (struct hak_arena *a = atomic_load_explicit(&hak_nodes[node].arenas, memory_order_acquire); a; a = a->next)
		for (uint32_t s = atomic_load_explicit(&a->huge_start, memory_order_relaxed) / 32; s < HAK_ARENA_SUPERS; s++) {
			/* relaxed: the CAS decides */
			uint64_t word = atomic_load_explicit(&a->super[s], memory_order_relaxed);
			*ready += HAK_WORD_EMPTY(word) == UINT32_MAX;
			if (HAK_WORD_UNUSED(word) == UINT32_MAX && !found) {
				found = a;
				*super = s;
			}
		}
	return found;
}

/* Makes the pages of an UNUSED SuperSlab. False: not possible. */
static bool populate_super(unsigned node, struct hak_arena *a, uint32_t super)
{
	uint64_t word = HAK_WORD(0, UINT32_MAX);
	/* acquire POOL */
	if (!atomic_compare_exchange_strong_explicit(&a->super[super], &word, 0, memory_order_acquire,
						     memory_order_relaxed))
		return true; /* somebody was faster */
	atomic_store_explicit(&a->seen[super], 0, memory_order_relaxed);
	struct hak_engine_range range = { granule_at(a, super, 0), HAK_SUPER, false };
	uint64_t begin = hak_price_clock();
	hak_engine_run(node, MADV_POPULATE_WRITE, &range, 1);
	hak_count(populated, range.done ? HAK_SUPER : 0);
	if (range.done)
		hak_price_note(hak_price_clock() - begin);
	put_back(a, super, UINT32_MAX, !range.done);
	return range.done;
}

/* Who claims a SuperSlab finds its pages there. Put back as EMPTY, so that it is preferred, and goes
 * back to the kernel by itself if nobody comes. The zone grows ahead as well: the thread that did it
 * would wait for this one, which holds the address space's lock for as long as the kernel makes pages. */
static void populate(unsigned node)
{
	/* relaxed: a threshold */
	uint64_t out = hak_node_out(node);
	uint64_t pace = atomic_load_explicit(&begun_after[node], memory_order_relaxed);
	uint32_t enough = (uint32_t)hak_min(most_ahead(out), 1 + READY_NS / (pace + 1));
	uint32_t super = 0, ready;
	for (uint32_t tries = 0; tries <= enough; tries++) {
		struct hak_arena *a = find_unready(node, &super, &ready);
		if (ready >= enough || (!a && !hak_pool_grow_huge(node)))
			return;
		if (a && !populate_super(node, a, super)) { /* before Linux 5.14, or memory is short: not until the next pass */
			set_ahead(false);
			return;
		}
	}
}

static void populate_growing(void)
{
	/* relaxed: what is missed costs a page fault */
	uint64_t nodes = atomic_exchange_explicit(&growing, 0, memory_order_relaxed);
	for (; nodes; nodes &= nodes - 1)
		populate((unsigned)__builtin_ctzll(nodes));
}

/* Another CPU must do it: on the only one the program would wait as long, and for more. */
static bool has_cpus(void)
{
	cpu_set_t mask;
	/* refused: more CPUs than fit */
	return hak_sys.getaffinity(sizeof mask, &mask) || CPU_COUNT(&mask) > 1;
}

/* ---- the thread ------------------------------------------------------------------- */

/*
 * The governor: memory that is taken again right after it was given back cost two trips to the
 * kernel for nothing. Each EPOCH of passes it compares: where more than half came back, the looks
 * become rarer, twice as rare each time; where less than an eighth did, denser again.
 */
static uint32_t govern(uint32_t slow, const struct pass *pass)
{
	static uint64_t gave_before, back;
	uint64_t gave = hak_counted(released) / HAK_GRANULE;
	back += pass->back;
	if (!pass->forget)
		return slow;
	uint64_t given = gave - gave_before, returned = back;
	gave_before = gave;
	back = 0;
	if (returned >= BACK_LEAST && returned > given / 2)
		return (uint32_t)hak_min(slow * 2, SLOW_MOST);
	return returned > given / 8 ? slow : (uint32_t)hak_max(slow / 2, 1);
}

/* What own mappings may hold that nobody uses: a sixteenth of the memory there is for the process; and
 * nothing where address space is limited, since the program's own mappings need it as well. */
static void set_room(void)
{
	struct rlimit space;
	bool limited = getrlimit(RLIMIT_AS, &space) || space.rlim_cur != RLIM_INFINITY;
	hak_own_set_room(limited ? 0 : hak_limit_memory() / OWN_ROOM_PART);
}

static struct timespec later(struct timespec t, long ms)
{
	t.tv_nsec += ms % 1000 * 1000000;
	t.tv_sec += ms / 1000 + t.tv_nsec / (long)HAK_NS_PER_S;
	t.tv_nsec %= (long)HAK_NS_PER_S;
	return t;
}

static bool is_before(struct timespec a, struct timespec b)
{
	return a.tv_sec < b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec < b.tv_nsec);
}

/* Sleeps for so long, and does what cannot wait. */
static void rest_for(long ms)
{
	struct timespec now, end, until;
	clock_gettime(CLOCK_MONOTONIC, &now);
	end = later(now, ms);
	while (is_before(now, end)) {
		/* relaxed: a call that is missed is made up for by the next pass */
		uint32_t seen = atomic_load_explicit(&hurry, memory_order_relaxed);
		long wait = hak_learn_look();
		hak_health_look();
		hak_touched_look();
		enter();
		if (hak_own_give_back(HAK_OWN_OVER))
			wait = SOON_MS;
		hak_price_look();
		populate_growing();
		leave();
		until = later(now, wait);
		syscall(SYS_futex, &hurry, FUTEX_WAIT_BITSET_PRIVATE, seen, wait && is_before(until, end) ? &until : &end,
			NULL, FUTEX_BITSET_MATCH_ANY);
		clock_gettime(CLOCK_MONOTONIC, &now);
	}
}

/* Between passes. True: memory is short, at which it looks whatever the decay time. */
static bool rest(long ms)
{
	bool pressed;
	do {
		long part = (long)hak_min(ms, LOOK_SECONDS * 1000);
		rest_for(part);
		ms -= part;
		pressed = hak_limit_is_pressed();
	} while (ms > 0 && !pressed);
	return pressed;
}

/* CPUs and memory may come and go. */
static void look_at_machine(void)
{
	static time_t due;
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (now.tv_sec < due)
		return;
	due = now.tv_sec + LOOK_SECONDS;
	hak_topology_load();
}

static bool threaded(void)
{
	/* relaxed: a hint; parked heaps count, which is as well */
	return hak_heap_count() > 1;
}

/* Is there so much to do that the reclaimer may load libraries for it? relaxed, all of it: thresholds */
static bool large(void)
{
	uint64_t grown = atomic_load_explicit(&hak_arena_grown, memory_order_relaxed);
	return grown >= (hak_node_several() ? START_BYTES_NODES : START_BYTES) ||
	       atomic_load_explicit(&noted, memory_order_relaxed) >= (threaded() ? START_BYTES_THREADS : START_BYTES);
}

/* What makes giving back faster, and follows the machine. Where the reclaimer runs for other reasons it
 * waits until there is enough to give back. */
static void prepare(void)
{
	static bool prepared;
	if (!prepared && !large())
		return;
	prepared = true;
	look_at_machine();
	hak_engine_prepare();
}

/* Nothing is due. Sleeps until something is freed; while there is something that pressure could
 * take, or nodes that could come and go, with a look at it now and then. True: memory is short. */
static bool doze(uint32_t seen, bool spare)
{
	const struct timespec look = { spare ? LOOK_SECONDS : LOOK_IDLE_SECONDS, 0 };
	bool threads = threaded() && hak_engine_has_barrier(), looks = spare || threads || hak_node_several();
	time_t slept = 0;
	/* relaxed: a wake-up that is missed by a moment is found by the futex */
	while (atomic_load_explicit(&wake, memory_order_relaxed) == seen &&
	       !atomic_load_explicit(&noted, memory_order_relaxed)) {
		syscall(SYS_futex, &wake, FUTEX_WAIT_PRIVATE, seen, looks ? &look : NULL, NULL, 0);
		prepare();
		if (spare && hak_limit_is_pressed())
			return true;
		if (threads && (slept += look.tv_sec) >= LOOK_IDLE_SECONDS) /* they may have cached something and gone to sleep */
			break;
	}
	return false;
}

static void *reclaimer(void *arg)
{
	uint32_t slow = 1, idle = 0;
	struct pass pass = { .busy = true };
	(void)arg;
	pthread_setname_np(pthread_self(), "hakmem-reclaim");
	/* some filters kill for calls that they do not know */
	if (!hak_sys_filtered())
		hak_sys_stand_apart();
	hak_prewarm_fill();
	hak_touched_look(); /* a heap that grows fast waits for all three */
	hak_learn_look();
	prepare();
	enter();
	hak_price_look(); /* on the node's CPUs, once those are known */
	leave();
	set_room();
	bool more_cpus = has_cpus();
	set_ahead(more_cpus);
	for (uint32_t passes = 1;; passes++) {
		long tick = hak_option_get(HAK_OPT_decay_ms) / 2 * (long)slow;
		uint32_t seen = atomic_load_explicit(&wake, memory_order_relaxed);
		/* EMPTY slabs of quiet heaps become due some passes after the last free */
		bool pressed = idle > QUIET_PASSES + 1 && doze(seen, pass.spare >= SPARE_LEAST);
		if (!pressed)
			pressed = rest(tick);
		prepare();
		pass = (struct pass){ .urge = pressed ? URGE_LAST : URGE_DUE,
				      .splits = pressed ? UINT32_MAX : SPLITS_A_TICK,
				      .forget = passes % EPOCH == 0 };
		hak_count(pressed, pressed);
		set_ahead(more_cpus && !pressed);
		run(&pass);
		idle = pass.busy ? 0 : idle + 1;
		slow = pressed ? 1 : govern(slow, &pass);
	}
	return NULL;
}

void hak_reclaim_poke(void)
{
	uint32_t stopped = STATE_STOPPED;
	if (hak_likely(atomic_load_explicit(&running, memory_order_relaxed)) || !hak_option_get(HAK_OPT_reclaim) ||
	    (!large() && !hak_prewarm_due() && !hak_touched_asked() && !hak_price_asked()))
		return;
	/* relaxed: the thread that is started sees what its starter did */
	if (atomic_compare_exchange_strong_explicit(&running, &stopped, STATE_RUNNING, memory_order_relaxed,
						    memory_order_relaxed) &&
	    (!hak_sys_may_try(hak_sys_seccomp()) || hak_sys.thread_start(reclaimer, NULL))) {
		atomic_store_explicit(&running, STATE_REFUSED, memory_order_relaxed);
		hak_prewarm_fill();
	}
}

void hak_reclaim_ready(void)
{
	/* relaxed: one thread, or such that were started by a constructor before ours */
	atomic_store_explicit(&running, STATE_STOPPED, memory_order_relaxed);
}

void hak_reclaim_forked(bool again)
{
	hak_own_set_room(0);
	/* a raw fork may have come in the middle of a pass: what was on its way stays out, in the child */
	piece_count = range_count = 0;
	batch_bytes = 0;
	hak_holes_forked();
	atomic_store_explicit(&ahead, false, memory_order_relaxed);
	/* relaxed: the child has one thread */
	atomic_store_explicit(&running, again ? STATE_STOPPED : STATE_REFUSED, memory_order_relaxed);
}

bool hak_reclaim_possible(void)
{
	/* relaxed: a hint */
	return hak_option_get(HAK_OPT_reclaim) && atomic_load_explicit(&running, memory_order_relaxed) != STATE_REFUSED;
}

bool hak_reclaim_running(void)
{
	return atomic_load_explicit(&running, memory_order_relaxed) == STATE_RUNNING;
}
