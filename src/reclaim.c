/* SPDX-License-Identifier: MIT */
/*
 * Giving memory back. EMPTY granules that stay EMPTY over two ticks of half the decay
 * time go to the kernel: in a huge zone only whole SuperSlabs (a part would lower RSS
 * and free nothing until the kernel splits the page), in small-page zones any granule.
 *
 * A range is taken out of the pool by the same CAS as a claim, so it belongs to the
 * reclaimer until it is put back as UNUSED, or as EMPTY if the kernel refused.
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
#include "numa/engine.h"
#include "numa/huge.h"
#include "numa/node.h"
#include "numa/topology.h"
#include "options.h"
#include "sys/sys.h"

/* EMPTY bytes that start it in one thread; or bytes of arenas: what will be freed later
 * must find it running, since a free cannot start it */
#define START_BYTES ((uint64_t)64 << 20)
#define START_BYTES_THREADS ((uint64_t)2 << 20)
/* Arenas' bytes that start it where there are several nodes: it loads the topology. */
#define START_BYTES_NODES ((uint64_t)4 << 20)
#define QUIET_PASSES 2u

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

static void put_back(const struct piece *piece, bool ok)
{
	struct hak_arena *a = piece->arena;
	uint32_t n = (uint32_t)__builtin_popcount(piece->mask);
	/* release POOL: the pages are gone before the granules are UNUSED */
	atomic_fetch_or_explicit(&a->super[piece->super], ok ? HAK_WORD(0, piece->mask) : HAK_WORD(piece->mask, 0),
				 memory_order_release);
	/* relaxed: a hint */
	atomic_fetch_add_explicit(&a->available, (int32_t)n, memory_order_relaxed);
	if (ok)
		hak_count(released, n * HAK_GRANULE);
}

/* All of a batch is of one kind of arena and, for slabs, of one node. */
static void flush_batch(void)
{
	if (!piece_count)
		return;
	const struct hak_arena *a = pieces[0].arena;
	bool spans = a->kind == HAK_ARENA_SPANS;
	hak_engine_run(spans ? HAK_ENGINE_NO_NODE : a->node, MADV_DONTNEED, ranges, range_count);
	/* the words of span arenas change under the huge lock */
	if (spans)
		hak_lock(&hak_huge_lock);
	for (uint32_t i = 0; i < piece_count; i++)
		put_back(&pieces[i], ranges[pieces[i].range].done);
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
		char *p = a->base + ((size_t)super * 32 + at) * HAK_GRANULE;
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

/* Takes what was EMPTY at the last look and still is, or (now) all that is, out of one SuperSlab.
 * True: something of it may become due later. */
static bool visit_super(struct hak_arena *a, uint32_t super, bool now)
{
	/* relaxed: the CAS decides */
	uint64_t word = atomic_load_explicit(&a->super[super], memory_order_relaxed);
	uint32_t empty = HAK_WORD_EMPTY(word);
	uint32_t victims = now ? empty : empty & a->seen[super];
	/* in SuperSlabs on huge pages all or nothing */
	bool huge = a->kind == HAK_ARENA_SPANS ||
		    super >= atomic_load_explicit(&a->huge_start, memory_order_relaxed) / 32;
	if (huge && (victims != empty || (empty | HAK_WORD_UNUSED(word)) != UINT32_MAX))
		victims = 0;
	a->seen[super] = empty;
	if (!victims)
		return empty != 0;
	/* whole huge pages: their UNUSED granules go along, they are resident as well */
	uint32_t take = huge ? UINT32_MAX : victims;
	/* acquire POOL */
	if (!atomic_compare_exchange_strong_explicit(&a->super[super], &word, word & ~HAK_WORD(take, take),
						     memory_order_acquire, memory_order_relaxed))
		return true;
	atomic_fetch_sub_explicit(&a->available, __builtin_popcount(take), memory_order_relaxed);
	a->seen[super] = 0;
	add_to_batch(a, super, take);
	return true;
}

static bool visit_arena(struct hak_arena *a, bool now)
{
	bool busy = false, spans = a->kind == HAK_ARENA_SPANS;
	uint32_t end = (atomic_load_explicit(&a->small_end, memory_order_relaxed) + 31) / 32;
	uint32_t start = atomic_load_explicit(&a->huge_start, memory_order_relaxed) / 32;
	for (uint32_t s = 0; s < HAK_ARENA_SUPERS; s++) {
		if (s >= end && s < start)
			continue;
		if (spans)
			hak_lock(&hak_huge_lock);
		busy |= visit_super(a, s, now);
		if (spans)
			hak_unlock(&hak_huge_lock);
		if (batch_is_full())
			flush_batch();
	}
	return busy;
}

/* Node after node, then the span arenas, which belong to none. */
static bool visit_arenas(bool now)
{
	bool busy = false;
	struct hak_arena *a;
	for (unsigned i = 0; i < HAK_NODES; i++) {
		/* acquire ARENAS: the newest arena's fields */
		for (a = atomic_load_explicit(&hak_nodes[i].arenas, memory_order_acquire); a; a = a->next)
			busy |= visit_arena(a, now);
		flush_batch();
	}
	hak_lock(&hak_huge_lock);
	a = hak_span_arenas;
	hak_unlock(&hak_huge_lock);
	for (; a; a = a->next)
		busy |= visit_arena(a, now);
	flush_batch();
	return busy;
}

/* Parked heaps give up all they cache; live ones the EMPTY slabs they do not use. */
static void visit_heaps(bool now)
{
	uint32_t count = hak_heap_count();
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
	for (uint32_t id = 1; id <= count; id++)
		hak_heap_release_empty(hak_heap_by_id(id), now ? 0 : QUIET_PASSES);
}

/* True: something may become due later. */
static bool pass_locked(bool now)
{
	atomic_store_explicit(&noted, 0, memory_order_relaxed);
	visit_heaps(now);
	return visit_arenas(now);
}

size_t hak_reclaim_all(void)
{
	uint64_t before = hak_counted(released);
	hak_lock(&hak_reclaim_lock);
	pass_locked(true);
	hak_unlock(&hak_reclaim_lock);
	return (size_t)(hak_counted(released) - before);
}

static void *reclaimer(void *arg)
{
	bool busy = true;
	(void)arg;
	pthread_setname_np(pthread_self(), "hakmem-reclaim");
	hak_topology_load();
	hak_engine_prepare();
	for (uint32_t idle = 0;; idle = busy ? 0 : idle + 1) {
		long tick = hak_option_get(HAK_OPT_decay_ms) / 2;
		struct timespec ts = { tick / 1000, tick % 1000 * 1000000 };
		/* EMPTY slabs of quiet heaps become due some passes after the last free;
		 * after that the thread sleeps until something is freed */
		uint32_t seen = atomic_load_explicit(&wake, memory_order_relaxed);
		if (idle > QUIET_PASSES + 1 && !atomic_load_explicit(&noted, memory_order_relaxed))
			syscall(SYS_futex, &wake, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
		nanosleep(&ts, NULL);
		hak_engine_prepare();
		hak_lock(&hak_reclaim_lock);
		busy = pass_locked(false);
		hak_unlock(&hak_reclaim_lock);
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
