/* SPDX-License-Identifier: MIT */
/*
 * Giving memory back. Granules that were EMPTY at two looks, half the decay time apart, and not
 * claimed in between, go to the kernel: in small-page zones any granule, in a huge zone whole SuperSlabs.
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
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "counters.h"
#include "heap.h"
#include "limit.h"
#include "numa/engine.h"
#include "numa/huge.h"
#include "numa/node.h"
#include "numa/topology.h"
#include "options.h"
#include "probe.h"
#include "sys/sys.h"

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
#define LOOK_SECONDS 2 /* between looks at pressure, when there is nothing else to do */
#define SPARE_LEAST 16u /* granules, 1 MiB: for less no idle process is woken up */

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* REFUSED: by the system, after a raw fork, or not before the constructor */
enum { STATE_STOPPED, STATE_RUNNING, STATE_REFUSED };

struct hak_lock hak_reclaim_lock = HAK_LOCK_INIT(HAK_RANK_RECLAIM);
static _Atomic uint64_t noted;	  /* bytes that became EMPTY since the last pass */
static _Atomic uint32_t running = STATE_REFUSED;
static _Atomic uint32_t wake;	  /* futex: passes asked for */

void hak_reclaim_note(size_t bytes)
{
	/* relaxed: a counter; its first byte after a pass ends an idle reclaimer's sleep */
	if (atomic_fetch_add_explicit(&noted, bytes, memory_order_relaxed) == 0 &&
	    atomic_load_explicit(&running, memory_order_relaxed) == STATE_RUNNING) {
		atomic_fetch_add_explicit(&wake, 1, memory_order_relaxed);
		syscall(SYS_futex, &wake, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	}
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
static bool no_guards; /* the kernel has none (before Linux 6.13) */

static void put_back(struct hak_arena *a, uint32_t super, uint32_t mask, bool ok)
{
	/* the pages are gone before the granules are UNUSED */
	hak_super_put(a, super, ok ? HAK_WORD(0, mask) : HAK_WORD(mask, 0));
	/* relaxed: a hint */
	atomic_fetch_add_explicit(&a->available, __builtin_popcount(mask), memory_order_relaxed);
}

static char *granule_at(const struct hak_arena *a, uint32_t super, uint32_t granule)
{
	return a->base + ((size_t)super * HAK_SUPER_GRANULES + granule) * HAK_GRANULE;
}

/* Puts a guard page into the first granule of the mask. The granule, or 0 if that is refused. */
static uint32_t install_guard(struct hak_arena *a, uint32_t super, uint32_t mask)
{
	uint32_t granule = (uint32_t)__builtin_ctz(mask);
	if (hak_sys.madvise(granule_at(a, super, granule), HAK_PAGE, MADV_GUARD_INSTALL)) {
		no_guards = true;
		return 0;
	}
	a->guard[super] = (uint8_t)(granule + 1);
	hak_count(guards, 1);
	return 1u << granule;
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
	uint32_t kept = 1u << (a->guard[super] - 1);
	uint64_t word = HAK_WORD(0, ~kept);
	/* acquire POOL */
	if (!atomic_compare_exchange_strong_explicit(&a->super[super], &word, 0, memory_order_acquire,
						     memory_order_relaxed))
		return;
	atomic_fetch_sub_explicit(&a->available, (int32_t)HAK_SUPER_GRANULES - 1, memory_order_relaxed);
	bool ok = remove_guard(a, super);
	if (ok)
		hak_sys.madvise(granule_at(a, super, 0), HAK_SUPER, MADV_DONTNEED);
	put_back(a, super, ok ? UINT32_MAX : ~kept, true);
}

/* Nearly all of a split SuperSlab is in use: its small pages are made a huge one. */
static void make_dense(struct hak_arena *a, uint32_t super)
{
	uint32_t kept = 1u << (a->guard[super] - 1);
	if (!remove_guard(a, super))
		return;
	put_back(a, super, kept, true);
	/* refused: khugepaged will find it */
	hak_count(collapses, hak_sys.madvise(granule_at(a, super, 0), HAK_SUPER, MADV_COLLAPSE) == 0);
}

/*
 * All of a batch is of one kind of arena and, for slabs, of one node. split: it is parts of huge
 * pages. MADV_DONTNEED alone would lower RSS and free nothing until the kernel is short of memory;
 * MADV_COLD before it makes the kernel split the page at once.
 */
static void flush_batch(bool split)
{
	if (!piece_count)
		return;
	struct hak_arena *a = pieces[0].arena;
	bool spans = a->kind == HAK_ARENA_SPANS;
	uint32_t node = spans ? HAK_ENGINE_NO_NODE : a->node;
	if (split)
		hak_engine_run(node, MADV_COLD, ranges, range_count);
	hak_engine_run(node, MADV_DONTNEED, ranges, range_count);
	/* the words of span arenas change under the huge lock */
	if (spans)
		hak_lock(&hak_huge_lock);
	for (uint32_t i = 0; i < piece_count; i++) {
		uint32_t super = pieces[i].super, kept = 0;
		a = pieces[i].arena;
		bool done = ranges[pieces[i].range].done;
		if (split && done && !a->guard[super]) {
			kept = install_guard(a, super, pieces[i].mask);
			hak_count(splits, 1);
		}
		if (done) {
			size_t bytes = (size_t)__builtin_popcount(pieces[i].mask) * HAK_GRANULE;
			hak_count(released, bytes);
			HAK_PROBE(give_back, a->base + super * HAK_SUPER, bytes);
			a->given[super] |= pieces[i].mask & ~kept;
		}
		put_back(a, super, pieces[i].mask & ~kept, done);
		if (a->guard[super])
			make_whole(a, super);
	}
	if (spans)
		hak_unlock(&hak_huge_lock);
	piece_count = range_count = 0;
	batch_bytes = 0;
}

/* Adds the mask's granules, which are ours, to the batch, row by row. There is room. */
static void add_to_batch(struct hak_arena *a, uint32_t super, uint32_t mask)
{
	while (mask) {
		uint32_t at = (uint32_t)__builtin_ctz(mask);
		uint32_t n = ~(mask >> at) ? (uint32_t)__builtin_ctz(~(mask >> at)) : 32;
		uint32_t row = (n == 32 ? UINT32_MAX : (1u << n) - 1) << at;
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
	bool busy;	 /* something may become due by itself */
	uint64_t spare;	 /* granules that stay EMPTY: what pressure could still take */
	uint32_t splits; /* huge pages that may still be split */
	uint64_t back;	 /* granules that were given back lately and are in use again */
};

/* Takes free granules out of the pool and adds them to the batch. False: somebody was faster. */
static bool take(struct hak_arena *a, uint32_t super, uint64_t word, uint32_t mask)
{
	/* acquire POOL */
	if (!atomic_compare_exchange_strong_explicit(&a->super[super], &word, word & ~HAK_WORD(mask, mask),
						     memory_order_acquire, memory_order_relaxed))
		return false;
	/* relaxed: a hint */
	atomic_fetch_sub_explicit(&a->available, __builtin_popcount(mask), memory_order_relaxed);
	atomic_store_explicit(&a->seen[super], 0, memory_order_relaxed);
	add_to_batch(a, super, mask);
	return true;
}

/*
 * One SuperSlab. On small pages, and where a huge page was split, any granule goes back. A huge
 * page goes whole; whether its parts are worth it is noted for later in the pass.
 */
static void visit_super(struct hak_arena *a, uint32_t super, struct pass *pass)
{
	/* relaxed: the CAS decides */
	uint64_t word = atomic_load_explicit(&a->super[super], memory_order_relaxed);
	uint32_t empty = HAK_WORD_EMPTY(word), unused = HAK_WORD_UNUSED(word);
	uint32_t seen = atomic_load_explicit(&a->seen[super], memory_order_relaxed);
	uint32_t stable = pass->urge == URGE_DUE ? empty & seen : empty;
	bool zone = a->kind == HAK_ARENA_SPANS ||
		    super >= atomic_load_explicit(&a->huge_start, memory_order_relaxed) / 32;
	bool huge = zone && !a->guard[super];
	pass->back += (uint32_t)__builtin_popcount(a->given[super] & ~unused);
	a->given[super] = pass->forget ? 0 : a->given[super] & unused;
	/* what was EMPTY before and is not due will not be, unless it changes */
	pass->busy |= (empty & ~seen) != 0;
	atomic_store_explicit(&a->seen[super], empty, memory_order_relaxed);
	a->part[super] = 0;
	pass->spare += (uint32_t)__builtin_popcount(empty & ~stable) + (huge ? (uint32_t)__builtin_popcount(stable) : 0);
	if (huge && (empty | unused) == UINT32_MAX) {
		/* its UNUSED granules go along: they are resident as well */
		if (empty && stable == empty)
			pass->busy |= !take(a, super, word, UINT32_MAX);
	} else if (huge) {
		if (a->kind == HAK_ARENA_SLABS)
			a->part[super] = stable;
	} else if (stable) {
		pass->busy |= !take(a, super, word, stable);
	} else if (zone && !empty) {
		if (__builtin_popcount(unused) <= (int)PART_HEALED)
			make_dense(a, super);
		else
			make_whole(a, super); /* it was refused before */
	}
}

/* Splits a huge page whose EMPTY part is large enough, and gives that part back. */
static void split_super(struct hak_arena *a, uint32_t super, struct pass *pass)
{
	/* relaxed: the CAS decides */
	uint64_t word = atomic_load_explicit(&a->super[super], memory_order_relaxed);
	uint32_t part = a->part[super] & HAK_WORD_EMPTY(word);
	uint32_t least = pass->urge == URGE_LAST ? 1 : PART_LEAST;
	if ((uint32_t)__builtin_popcount(part) < least || (no_guards && pass->urge != URGE_LAST))
		return;
	if (!pass->splits) {
		pass->busy = true;
		return;
	}
	if (take(a, super, word, part | HAK_WORD_UNUSED(word)))
		pass->splits--;
}

static void visit_arena(struct hak_arena *a, struct pass *pass,
			void (*visit)(struct hak_arena *a, uint32_t super, struct pass *pass))
{
	bool spans = a->kind == HAK_ARENA_SPANS;
	uint32_t end = (atomic_load_explicit(&a->small_end, memory_order_relaxed) + 31) / 32;
	uint32_t start = atomic_load_explicit(&a->huge_start, memory_order_relaxed) / 32;
	for (uint32_t s = 0; s < HAK_ARENA_SUPERS; s++) {
		if (s >= end && s < start)
			continue;
		if (spans)
			hak_lock(&hak_huge_lock);
		visit(a, s, pass);
		if (spans)
			hak_unlock(&hak_huge_lock);
		if (batch_is_full())
			flush_batch(visit == split_super);
	}
}

/* Node after node, whole SuperSlabs first; then the span arenas, which belong to no node. */
static void visit_arenas(struct pass *pass)
{
	struct hak_arena *a, *first;
	for (unsigned i = 0; i < HAK_NODES; i++) {
		/* acquire ARENAS: the newest arena's fields */
		first = atomic_load_explicit(&hak_nodes[i].arenas, memory_order_acquire);
		for (a = first; a; a = a->next)
			visit_arena(a, pass, visit_super);
		flush_batch(false);
		for (a = first; a; a = a->next)
			visit_arena(a, pass, split_super);
		flush_batch(true);
	}
	hak_lock(&hak_huge_lock);
	first = hak_span_arenas;
	hak_unlock(&hak_huge_lock);
	for (a = first; a; a = a->next)
		visit_arena(a, pass, visit_super);
	flush_batch(false);
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
static void visit_live_heaps(enum urge urge)
{
	uint32_t count = hak_heap_count();
	hak_arena_each(note_empty, NULL);
	for (uint32_t id = 1; id <= count; id++)
		hak_heap_release_empty(hak_heap_by_id(id), urge == URGE_DUE ? QUIET_PASSES : 0);
	hak_arena_each(note_quiet, NULL);
}

static void run(struct pass *pass)
{
	hak_lock(&hak_reclaim_lock);
	/* relaxed: what is freed from here on is noted for the next pass */
	atomic_store_explicit(&noted, 0, memory_order_relaxed);
	visit_parked_heaps();
	visit_live_heaps(pass->urge);
	visit_arenas(pass);
	hak_unlock(&hak_reclaim_lock);
}

static size_t reclaim_now(enum urge urge)
{
	struct pass pass = { .urge = urge, .splits = UINT32_MAX };
	uint64_t before = hak_counted(released);
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

/* Nothing is due. Sleeps until something is freed; while there is something that pressure could
 * take, with a look at it now and then. True: memory is short. */
static bool doze(uint32_t seen, bool spare)
{
	const struct timespec look = { LOOK_SECONDS, 0 };
	/* relaxed: a wake-up that is missed by a moment is found by the futex */
	while (atomic_load_explicit(&wake, memory_order_relaxed) == seen &&
	       !atomic_load_explicit(&noted, memory_order_relaxed)) {
		syscall(SYS_futex, &wake, FUTEX_WAIT_PRIVATE, seen, spare ? &look : NULL, NULL, 0);
		if (spare && hak_limit_is_pressed())
			return true;
	}
	return false;
}

static void *reclaimer(void *arg)
{
	uint32_t slow = 1, idle = 0;
	struct pass pass = { .busy = true };
	(void)arg;
	pthread_setname_np(pthread_self(), "hakmem-reclaim");
	hak_topology_load();
	hak_engine_prepare();
	for (uint32_t passes = 1;; passes++) {
		long tick = hak_option_get(HAK_OPT_decay_ms) / 2 * (long)slow;
		struct timespec ts = { tick / 1000, tick % 1000 * 1000000 };
		uint32_t seen = atomic_load_explicit(&wake, memory_order_relaxed);
		/* EMPTY slabs of quiet heaps become due some passes after the last free */
		bool pressed = idle > QUIET_PASSES + 1 && doze(seen, pass.spare >= SPARE_LEAST);
		if (!pressed) {
			nanosleep(&ts, NULL);
			pressed = hak_limit_is_pressed();
		}
		hak_engine_prepare();
		pass = (struct pass){ .urge = pressed ? URGE_LAST : URGE_DUE,
				      .splits = pressed ? UINT32_MAX : SPLITS_A_TICK,
				      .forget = passes % EPOCH == 0 };
		hak_count(pressed, pressed);
		run(&pass);
		idle = pass.busy ? 0 : idle + 1;
		slow = pressed ? 1 : govern(slow, &pass);
	}
	return NULL;
}

static bool threaded(void)
{
	/* relaxed: a hint; parked heaps count, which is as well */
	return hak_heap_count() > 1;
}

/* relaxed, all of it: thresholds */
static bool due(void)
{
	uint64_t grown = atomic_load_explicit(&hak_arena_grown, memory_order_relaxed);
	bool nodes = atomic_load_explicit(&hak_node_count, memory_order_relaxed) > 1;
	return grown >= (nodes ? START_BYTES_NODES : START_BYTES) ||
	       atomic_load_explicit(&noted, memory_order_relaxed) >= (threaded() ? START_BYTES_THREADS : START_BYTES);
}

void hak_reclaim_poke(void)
{
	uint32_t stopped = STATE_STOPPED;
	if (hak_likely(atomic_load_explicit(&running, memory_order_relaxed)) || !hak_option_get(HAK_OPT_reclaim) ||
	    !due())
		return;
	/* relaxed: the thread that is started sees what its starter did */
	if (atomic_compare_exchange_strong_explicit(&running, &stopped, STATE_RUNNING, memory_order_relaxed,
						    memory_order_relaxed) &&
	    (!hak_topology_may_try() || hak_sys.thread_start(reclaimer, NULL)))
		atomic_store_explicit(&running, STATE_REFUSED, memory_order_relaxed);
}

void hak_reclaim_ready(void)
{
	/* relaxed: one thread, or such that were started by a constructor before ours */
	atomic_store_explicit(&running, STATE_STOPPED, memory_order_relaxed);
}

void hak_reclaim_forked(bool again)
{
	/* relaxed: the child has one thread */
	atomic_store_explicit(&running, again ? STATE_STOPPED : STATE_REFUSED, memory_order_relaxed);
}

bool hak_reclaim_running(void)
{
	return atomic_load_explicit(&running, memory_order_relaxed) == STATE_RUNNING;
}
