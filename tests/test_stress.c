/* SPDX-License-Identifier: MIT */
/*
 * Do many threads at once, sizes of every tier and hand-over between threads ever make a
 * block overlap another, get lost, or come out twice?
 *
 * Every block begins and ends with a pattern of its own, checked before it is freed, grown
 * or handed on. Threads end with blocks alive, which others free. In the end everything is
 * freed, and live must be 0. HAK_STRESS=N makes it N times as long.
 */
#include <pthread.h>
#include <unistd.h>

#include "front.h"
#include "hakmem/hakmem.h"
#include "heap.h"
#include "init.h"
#include "options.h"
#include "reclaim.h"
#include "route.h"
#include "stats.h"
#include "sys/sys.h"

#include "suite.h"

#define WORKERS 4
#define GENERATIONS 4 /* a worker's threads, one after the other */
#define OPS 60000u
#define HELD 400
#define SHELF 512
#define MIB ((size_t)1 << 20)

/* The first and last bytes of every block. */
struct stamp {
	uint64_t bytes, id;
};

static _Atomic(void *) shelf[SHELF];
static _Atomic uint64_t next_id = 1;
static _Atomic uint64_t ops_done;

static unsigned times(void)
{
	const char *s = getenv("HAK_STRESS");
	int n = s ? atoi(s) : 1;
	return n > 0 ? (unsigned)n : 1;
}

static void stamp(void *p, size_t bytes)
{
	/* relaxed: each number once, in whatever order */
	uint64_t id = atomic_fetch_add_explicit(&next_id, 1, memory_order_relaxed);
	struct stamp s = { bytes, id * 0x9e3779b97f4a7c15u };
	memcpy(p, &s, sizeof s);
	memcpy((char *)p + bytes - sizeof s, &s, sizeof s);
	/* between: what else a neighbour might overwrite, or leave in our memory */
	size_t middle = bytes - 2 * sizeof s;
	if (middle > 256)
		middle = 256;
	memset((char *)p + sizeof s, (int)(s.id >> 32 & 0xff), middle);
}

/* The block's size; dies if any of its pattern is not there. */
static size_t check(const void *p)
{
	struct stamp s, end;
	memcpy(&s, p, sizeof s);
	EXPECT(s.bytes >= 2 * sizeof s && s.bytes <= 100 * MIB && s.bytes <= hak_usable_size(p),
	       "%p: start overwritten: %zu bytes", p, (size_t)s.bytes);
	memcpy(&end, (const char *)p + s.bytes - sizeof s, sizeof s);
	EXPECT(end.bytes == s.bytes && end.id == s.id, "%p: end of %zu bytes overwritten", p, (size_t)s.bytes);
	size_t middle = s.bytes - 2 * sizeof s;
	for (size_t i = 0; i < middle && i < 256; i++)
		EXPECT(((const unsigned char *)p)[sizeof s + i] == (s.id >> 32 & 0xff), "%p: byte %zu of %zu overwritten", p,
		       i + sizeof s, (size_t)s.bytes);
	return s.bytes;
}

static void check_and_free(void *p)
{
	if (!p)
		return;
	check(p);
	memset(p, 0, sizeof(struct stamp)); /* a second check of it fails */
	hak_free(p);
}

static size_t random_bytes(uint64_t *seed)
{
	uint64_t r = suite_random(seed) % 1000;
	size_t most = r < 700 ? 1040 : r < 900 ? 50000 : r < 985 ? 250000 : r < 998 ? MIB : 5 * MIB;
	size_t n = r == 999 && suite_random(seed) % 16 == 0 ? 66 * MIB : suite_random_size(seed, most);
	return n < 2 * sizeof(struct stamp) ? 2 * sizeof(struct stamp) : n;
}

static void *allocate(uint64_t *seed, size_t bytes)
{
	unsigned char *p;
	switch (suite_random(seed) % 16) {
	case 0:
		p = hak_memalign((size_t)16 << suite_random(seed) % 10, bytes);
		break;
	case 1:
		p = hak_calloc(1, bytes);
		for (size_t i = 0; p && i < bytes; i += bytes > 8192 ? 509 : 1)
			EXPECT(p[i] == 0, "calloc of %zu bytes: byte %zu is %d", bytes, i, p[i]);
		break;
	default:
		p = hak_malloc(bytes);
	}
	EXPECT(p, "no memory for %zu bytes", bytes);
	stamp(p, bytes);
	return p;
}

static void *put_on_shelf(uint64_t *seed, void *p)
{
	return atomic_exchange(&shelf[suite_random(seed) % SHELF], p);
}

static void one_step(void **held, uint64_t *seed)
{
	void **slot = &held[suite_random(seed) % HELD];
	uint64_t what = suite_random(seed) % 100;
	if (!*slot) {
		*slot = allocate(seed, random_bytes(seed));
	} else if (what < 60) {
		check_and_free(*slot);
		*slot = NULL;
	} else if (what < 80) { /* swap with another thread's */
		check(*slot);
		*slot = put_on_shelf(seed, *slot);
	} else if (what < 95) {
		size_t old = check(*slot), bytes = random_bytes(seed);
		struct stamp before, after;
		memcpy(&before, *slot, sizeof before);
		char *p = hak_realloc(*slot, bytes);
		EXPECT(p, "no memory for %zu bytes", bytes);
		memcpy(&after, p, sizeof after);
		EXPECT(after.bytes == old && after.id == before.id, "realloc from %zu to %zu bytes lost its contents", old, bytes);
		if (bytes >= old)
			check(p);
		stamp(p, bytes);
		*slot = p;
	} else {
		check(*slot);
	}
}

/* What a thread holds when it ends goes to the shelf; what was there it frees first. */
static void *generation(void *arg)
{
	void *held[HELD] = { NULL };
	uint64_t seed = (uintptr_t)arg * 0x2545f4914f6cdd1du + 1;
	unsigned ops = OPS / GENERATIONS * times();
	for (unsigned op = 0; op < ops; op++) {
		one_step(held, &seed);
		if (op % 4096 == 4095)
			hak_heap_empty(hak_heap_self); /* as hakmem_thread_idle() does */
		if (op % 10000 == 9999)
			hak_reclaim_all();
	}
	for (size_t i = 0; i < HELD; i++)
		if (held[i])
			check_and_free(put_on_shelf(&seed, held[i]));
	atomic_fetch_add(&ops_done, ops);
	return NULL;
}

static void *worker(void *arg)
{
	for (uintptr_t g = 0; g < GENERATIONS; g++) {
		pthread_t t;
		EXPECT(pthread_create(&t, NULL, generation, (void *)((uintptr_t)arg * GENERATIONS + g + 1)) == 0, "no thread");
		pthread_join(t, NULL);
	}
	return NULL;
}

static void settle(void)
{
	for (int i = 0; i < 2; i++) { /* one heap's frees may be another's blocks */
		if (hak_heap_self != &hak_heap_none)
			hak_heap_empty(hak_heap_self);
		hak_reclaim_all();
	}
}

static void nothing_is_left(void)
{
	struct hakmem_stats s;
	for (size_t i = 0; i < SHELF; i++)
		check_and_free(atomic_exchange(&shelf[i], NULL));
	settle();
	hak_stats_snapshot(&s);
	EXPECT(s.live == 0, "%zu bytes were lost", (size_t)s.live);
	EXPECT(s.cached == 0, "%zu bytes stayed in magazines", (size_t)s.cached);
	EXPECT(s.failed == 0 && s.fallbacks == 0 && s.foreign_frees == 0, "%zu failed, %zu fallbacks, %zu foreign",
	       (size_t)s.failed, (size_t)s.fallbacks, (size_t)s.foreign_frees);
	for (unsigned i = 0; i < HAK_NODES; i++)
		EXPECT(hak_nodes[i].live_bytes == 0, "node %u: %zu bytes of granules were lost", i, (size_t)hak_nodes[i].live_bytes);
	for (uint32_t id = 1; id <= hak_heap_count(); id++)
		for (unsigned c = 0; c < HAK_CLASSES; c++)
			EXPECT(hak_heap_by_id(id)->classes[c].slabs == 0, "heap %u keeps a slab of class %u", id, c);
}

static void run(void)
{
	suite_threads(WORKERS, worker);
	ck_assert_uint_eq(ops_done, (uint64_t)WORKERS * (OPS / GENERATIONS) * GENERATIONS * times());
	nothing_is_left();
	/* each generation's heap served the next one */
	ck_assert_uint_le(hak_heap_count(), 2 * WORKERS + 1);
}

START_TEST(nothing_overlaps_is_lost_or_doubled)
{
	hak_option_values[HAK_OPT_reclaim] = 0;
	run();
}
END_TEST

START_TEST(nor_while_the_reclaimer_gives_memory_back_all_the_time)
{
	hak_option_values[HAK_OPT_decay_ms] = 0;
	run();
}
END_TEST

START_TEST(nor_with_the_smallest_magazines_and_huge_zones_from_the_start)
{
	hak_option_values[HAK_OPT_magazine_kib] = 64;
	hak_option_values[HAK_OPT_huge_zone_kib] = 0;
	hak_option_values[HAK_OPT_huge_price] = 0;
	hak_option_values[HAK_OPT_decay_ms] = 1;
	run();
}
END_TEST

START_TEST(nor_when_all_threads_share_one_heap_s_slabs)
{
	suite_share(1);
	hak_option_values[HAK_OPT_decay_ms] = 1;
	run();
}
END_TEST

/* ---- one allocates, others free ---------------------------------------------------------------- */

#define RING 1024u
static _Atomic(void *) ring[RING];

static void *consume(void *arg)
{
	uint64_t seed = (uintptr_t)arg + 3;
	unsigned ops = OPS * times();
	for (unsigned freed = 0; freed < ops;) {
		void *p = atomic_exchange(&ring[suite_random(&seed) % RING], NULL);
		if (!p)
			continue;
		check_and_free(p);
		freed++;
	}
	return NULL;
}

START_TEST(a_producer_and_its_consumers_reach_a_steady_state)
{
	pthread_t t[2];
	uint64_t seed = 41, mapped = 0;
	struct hakmem_stats s;
	hak_option_values[HAK_OPT_reclaim] = 0;
	for (uintptr_t i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, consume, (void *)i), 0);
	for (unsigned i = 0; i < 2 * OPS * times();) {
		size_t n = 32 + suite_random(&seed) % 3000;
		void *p = hak_malloc(n), *empty = NULL;
		EXPECT(p, "no memory");
		stamp(p, n);
		while (!atomic_compare_exchange_strong(&ring[suite_random(&seed) % RING], &empty, p))
			empty = NULL;
		i++;
		if (i == OPS / 2) {
			hak_stats_snapshot(&s);
			mapped = s.mapped;
		}
	}
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	hak_stats_snapshot(&s);
	ck_assert_uint_le(s.mapped, 2 * mapped + 4 * MIB);
	nothing_is_left();
}
END_TEST

SUITE("stress", 60.0 * times(),
      CALM(nothing_overlaps_is_lost_or_doubled),
      CALM(nor_while_the_reclaimer_gives_memory_back_all_the_time),
      CALM(nor_with_the_smallest_magazines_and_huge_zones_from_the_start),
      CALM(nor_when_all_threads_share_one_heap_s_slabs),
      CALM(a_producer_and_its_consumers_reach_a_steady_state))
