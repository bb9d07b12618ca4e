/* SPDX-License-Identifier: MIT */
/*
 * Do blocks find their way: out of a heap and back, home from other threads, through
 * parked heaps to new ones, and EMPTY slabs from class to class? And does what the heaps
 * say they hold add up to what is mapped?
 */
#include "heap.h"

#include <pthread.h>

#include "clock.h"
#include "front.h"
#include "hakmem/hakmem.h"
#include "init.h"
#include "numa/engine.h"
#include "options.h"
#include "reclaim.h"
#include "stats.h"
#include "sys/sys.h"

#include "suite.h"

#define MANY 20000u
#define MIB ((size_t)1 << 20)

static void *blocks[MANY];

static struct hakmem_stats stats(void)
{
	struct hakmem_stats s;
	hak_stats_snapshot(&s);
	return s;
}

/* Everything that is free goes home, whoever holds it. */
static void settle(void)
{
	if (hak_heap_self != &hak_heap_none)
		hak_heap_empty(hak_heap_self);
	hak_reclaim_all(); /* parked heaps */
	if (hak_heap_self != &hak_heap_none)
		hak_heap_empty(hak_heap_self); /* what those sent home */
}

static void in_thread(void *(*run)(void *), void *arg)
{
	pthread_t t;
	void *fault;
	EXPECT(pthread_create(&t, NULL, run, arg) == 0, "no thread");
	pthread_join(t, &fault);
	EXPECT(!fault, "%s", (const char *)fault);
}

static uint64_t new_memory(void)
{
	struct hakmem_stats s = stats();
	return s.stages[HAK_STAGE_NEW] + s.stages[HAK_STAGE_UNUSED];
}

static uint64_t slab_requests(void)
{
	struct hakmem_stats s = stats();
	uint64_t n = 0;
	for (int i = HAK_STAGE_NEAR; i < HAK_STAGES; i++)
		n += s.stages[i];
	return n;
}

static void fill(size_t bytes, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		blocks[i] = hak_malloc(bytes);
		EXPECT(blocks[i], "no memory for block %u of %zu bytes", i, bytes);
		*(uint32_t *)blocks[i] = i;
	}
}

static void drain(uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		EXPECT(*(uint32_t *)blocks[i] == i, "block %u was handed out twice", i);
		hak_free(blocks[i]);
	}
}

/* What the heap counts as cached is what it noted of each class. Returns it, and adds what its magazines may hold. */
static size_t check_noted(const struct hak_heap *h, size_t *room)
{
	size_t noted = 0;
	for (unsigned c = 0; c < HAK_CLASSES; c++) {
		noted += (size_t)h->classes[c].noted * h->mags[c].stride;
		*room += (size_t)h->classes[c].cap * h->mags[c].stride;
	}
	EXPECT(h->cached == noted, "%zu cached, %zu noted", h->cached, noted);
	return noted;
}

/* The state of every list and counter of a heap with slabs, from those up. Its owner calls. */
static void check_heap(struct hak_heap *h)
{
	size_t room = 0;
	hak_lock(&h->lock);
	for (unsigned c = 0; c < HAK_STATIC_CLASSES; c++) {
		const struct hak_heap_class *k = &h->classes[c];
		uint32_t nfree = 0, slabs = 0;
		const struct hak_slab *prev = NULL;
		for (const struct hak_slab *s = k->head; s; prev = s, s = s->next) {
			uint32_t bits = 0;
			EXPECT(s->prev == prev && s->available && s->class == c, "list of class %u", c);
			uint32_t owner = hak_tag_heap(*hak_tag_of(s->base));
			EXPECT(owner == hak_heap_id(h), "slab of heap %u on the list of heap %u", owner, hak_heap_id(h));
			for (unsigned w = 0; w < hak_classes[c].words; w++)
				bits += (uint32_t)__builtin_popcountll(s->free_words[w]);
			EXPECT(bits == s->nfree && bits > 0, "slab of class %u: %u free, %u bits", c, s->nfree, bits);
			nfree += bits;
			slabs++;
		}
		EXPECT(k->tail == prev, "tail of class %u", c);
		EXPECT(k->nfree == nfree, "class %u: %u free, %u in slabs", c, k->nfree, nfree);
		EXPECT(slabs <= k->slabs, "class %u: %u slabs listed of %u", c, slabs, k->slabs);
		EXPECT(hak_heap_cached(h, c) <= k->cap, "magazine of class %u", c);
	}
	size_t cached = check_noted(h, &room);
	for (struct hak_heap *g = h->guests; g; g = g->next_guest)
		cached += check_noted(g, &room);
	EXPECT(h->all_cached == cached, "%zu cached, %zu in all", cached, h->all_cached);
	EXPECT(h->room == room, "room for %zu in magazines of %zu", h->room, room);
	hak_unlock(&h->lock);
}

START_TEST(each_class_fills_and_drains_and_leaves_nothing)
{
	suite_quiet();
	for (unsigned c = 0; c < HAK_STATIC_CLASSES; c++) {
		size_t stride = hak_classes[c].stride;
		uint32_t n = (uint32_t)hak_min(MANY, hak_max(24, 8 * MIB / stride));
		fill(stride, 0, n);
		EXPECT(stats().live == n * stride, "class of %zu: live %zu, held %zu", stride, (size_t)stats().live, n * stride);
		check_heap(hak_heap_self);
		drain(0, n);
		EXPECT(stats().live == 0, "class of %zu: %zu live after all were freed", stride, (size_t)stats().live);
		check_heap(hak_heap_self);
		/* again, from what came back, in the other order */
		fill(stride, 0, n);
		for (uint32_t i = n; i-- > 0;)
			drain(i, i + 1);
		check_heap(hak_heap_self);
		settle();
		EXPECT(hak_heap_self->classes[c].slabs == 0, "class of %zu: %u slabs kept", stride, hak_heap_self->classes[c].slabs);
		EXPECT(stats().cached == 0, "class of %zu: %zu cached", stride, (size_t)stats().cached);
	}
	ck_assert_uint_eq(hak_nodes[0].live_bytes, 0);
}
END_TEST

START_TEST(live_bytes_are_exactly_what_is_held_at_every_moment)
{
	static size_t size[MANY];
	uint64_t seed = 11, held = 0;
	suite_quiet();
	for (int step = 0; step < 40000; step++) {
		uint32_t i = (uint32_t)(suite_random(&seed) % 2000);
		if (blocks[i]) {
			held -= size[i];
			hak_free(blocks[i]);
			blocks[i] = NULL;
		} else {
			size_t n = suite_random_size(&seed, 3 * MIB);
			blocks[i] = hak_malloc(n);
			EXPECT(blocks[i], "no memory");
			size[i] = hak_usable_size(blocks[i]);
			EXPECT(size[i] >= hak_route_good_size(n), "%zu bytes got %zu", n, size[i]);
			held += size[i];
		}
		if (step % 16 == 0)
			EXPECT(stats().live == held, "step %d: live %zu, held %zu", step, (size_t)stats().live, (size_t)held);
	}
	check_heap(hak_heap_self);
}
END_TEST

/* ---- other threads' blocks ----------------------------------------------------------- */

struct order {
	uint32_t from, to, step;
	size_t bytes;
};

static void *free_them(void *arg)
{
	struct order *o = arg;
	for (uint32_t i = o->from; i < o->to; i += o->step) {
		if (*(uint32_t *)blocks[i] != i)
			return "a block was handed out twice";
		hak_free(blocks[i]);
	}
	return NULL;
}

START_TEST(blocks_freed_elsewhere_come_home_all_of_them)
{
	static const size_t sizes[] = { 16, 64, 1000, 2048, 2049, 20000, 53248, 53249, 200000 };
	suite_quiet();
	for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
		uint32_t n = (uint32_t)hak_min(MANY, 16 * MIB / sizes[s]);
		struct order all = { 0, n, 1, 0 };
		uint64_t before = stats().remote_frees;
		fill(sizes[s], 0, n);
		in_thread(free_them, &all);
		settle();
		EXPECT(stats().live == 0, "%zu bytes: %zu still live", sizes[s], (size_t)stats().live);
		EXPECT(stats().remote_frees - before == n, "%zu bytes: %zu of %u came home", sizes[s],
		       (size_t)(stats().remote_frees - before), n);
		EXPECT(hak_heap_self->classes[hak_route_class(sizes[s])].slabs == 0, "%zu bytes: slabs kept", sizes[s]);
		check_heap(hak_heap_self);
	}
}
END_TEST

START_TEST(blocks_freed_elsewhere_are_used_again_without_new_memory)
{
	struct order all = { 0, 4000, 1, 0 };
	suite_quiet();
	fill(64, 0, 4000);
	in_thread(free_them, &all);
	fill(64, 0, 4000);
	uint64_t before = new_memory();
	for (int round = 0; round < 20; round++) {
		in_thread(free_them, &all);
		fill(64, 0, 4000);
	}
	/* the freeing threads' heap, parked in between, keeps none of them */
	ck_assert_uint_eq(new_memory(), before);
	drain(0, 4000);
}
END_TEST

START_TEST(a_thread_that_frees_little_makes_no_heap)
{
	struct order few = { 0, 10, 1, 0 }, many = { 10, 1000, 1, 0 };
	suite_quiet();
	fill(64, 0, 1000);
	uint32_t heaps = hak_heap_count();
	in_thread(free_them, &few);
	ck_assert_uint_eq(hak_heap_count(), heaps);
	in_thread(free_them, &many);
	ck_assert_uint_eq(hak_heap_count(), heaps + 1);
	settle();
	ck_assert_uint_eq(stats().live, 0);
}
END_TEST

/* Every second block of a slab is remote, the others are the owner's own frees. */
START_TEST(own_and_remote_frees_of_one_slab_meet)
{
	struct order odd = { 1, MANY, 2, 0 };
	suite_quiet();
	for (int round = 0; round < 4; round++) {
		fill(48, 0, MANY);
		in_thread(free_them, &odd);
		for (uint32_t i = 0; i < MANY; i += 2)
			drain(i, i + 1);
		check_heap(hak_heap_self);
	}
	settle();
	ck_assert_uint_eq(stats().live, 0);
	ck_assert_uint_eq(hak_heap_self->classes[HAK_CLASS_48].slabs, 0);
}
END_TEST

/* ---- threads that end ------------------------------------------------------------------ */

static void *fill_them(void *arg)
{
	struct order *o = arg;
	for (uint32_t i = o->from; i < o->to; i++) {
		blocks[i] = hak_malloc(o->bytes);
		if (!blocks[i])
			return "no memory";
		*(uint32_t *)blocks[i] = i;
	}
	for (uint32_t i = o->from; o->step && i < o->to; i += o->step) {
		hak_free(blocks[i]);
		blocks[i] = NULL;
	}
	return NULL;
}

START_TEST(a_thousand_threads_one_after_the_other_need_one_heap)
{
	struct order o = { 0, 100, 1, 64 };
	suite_quiet();
	fill(64, 100, 200);
	uint32_t heaps = hak_heap_count();
	uint64_t mapped = 0;
	for (int i = 0; i < 1000; i++) {
		in_thread(fill_them, &o);
		if (i == 0)
			mapped = stats().mapped;
	}
	ck_assert_uint_eq(hak_heap_count(), heaps + 1);
	ck_assert_uint_eq(stats().mapped, mapped);
	drain(100, 200);
	settle();
	ck_assert_uint_eq(stats().live, 0);
}
END_TEST

START_TEST(what_an_ended_thread_left_half_full_is_adopted)
{
	struct order o = { 0, 10000, 2, 64 };
	suite_quiet();
	fill(1024, 10000, 10001); /* a heap of our own, without slabs of 64 */
	in_thread(fill_them, &o);
	uint64_t fresh = new_memory();
	fill(64, 15000, 19000);
	ck_assert_uint_eq(new_memory(), fresh);
	ck_assert_uint_gt(stats().stages[HAK_STAGE_ADOPTED], 0);
	check_heap(hak_heap_self);
	for (uint32_t i = 1; i < 10000; i += 2)
		drain(i, i + 1);
	drain(10000, 10001);
	drain(15000, 19000);
	settle();
	ck_assert_uint_eq(stats().live, 0);
	ck_assert_uint_eq(stats().cached, 0);
	check_heap(hak_heap_self);
	for (uint32_t id = 1; id <= hak_heap_count(); id++)
		check_heap(hak_heap_by_id(id));
	ck_assert_uint_eq(hak_nodes[0].live_bytes, 0);
}
END_TEST

START_TEST(a_parked_heap_gives_up_what_it_cached_when_memory_is_asked_back)
{
	struct order o = { 0, 5000, 1, 256 };
	suite_quiet();
	in_thread(fill_them, &o);
	ck_assert_uint_gt(stats().cached, 0);
	ck_assert_uint_gt(hak_reclaim_all(), 0);
	ck_assert_uint_eq(stats().cached, 0);
	ck_assert_uint_eq(hak_nodes[0].live_bytes, 0);
}
END_TEST

#define SLEEPERS 32u
#define SLEEPER_KIB 3072u /* slabs with a block of each size, which stays; each thread had 44 MiB */
#define GUEST_KIB 2560u
#define NOT_TAKEN_KIB 7168u /* of what was full last, 5 to 6.2 MiB */

static pthread_barrier_t asleep, morning;

static void *frees_all_and_sleeps(void *arg)
{
	enum { SIZES = 40, EACH = 256 };
	void *mine[SIZES * EACH];
	for (unsigned i = 0; i < SIZES * EACH; i++)
		mine[i] = hak_malloc(16 + (size_t)(i % SIZES) * 225);
	for (unsigned i = 0; i < SIZES * EACH; i++)
		hak_free(mine[i]);
	pthread_barrier_wait(&asleep);
	pthread_barrier_wait(&morning);
	return arg;
}

/* Returns the KiB of slabs a thread that are left. */
static unsigned sleep_over(void)
{
	pthread_t threads[SLEEPERS];
	suite_quiet();
	pthread_barrier_init(&asleep, NULL, SLEEPERS + 1);
	pthread_barrier_init(&morning, NULL, SLEEPERS + 1);
	for (unsigned i = 0; i < SLEEPERS; i++)
		ck_assert(!pthread_create(&threads[i], NULL, frees_all_and_sleeps, NULL));
	pthread_barrier_wait(&asleep);
	hak_engine_prepare(); /* as the reclaimer */
	hak_reclaim_all();
	unsigned left = (unsigned)(hak_nodes[0].live_bytes / 1024 / SLEEPERS);
	pthread_barrier_wait(&morning);
	for (unsigned i = 0; i < SLEEPERS; i++)
		pthread_join(threads[i], NULL);
	return left;
}

START_TEST(threads_that_freed_all_and_sleep_keep_little)
{
	suite_share(0);
	unsigned left = sleep_over();
	EXPECT(left <= (hak_engine_has_barrier() ? SLEEPER_KIB : NOT_TAKEN_KIB), "%u KiB a thread", left);
}
END_TEST

START_TEST(guests_that_freed_all_and_sleep_keep_less)
{
	suite_share(4);
	unsigned left = sleep_over();
	EXPECT(!hak_engine_has_barrier() || left <= GUEST_KIB, "%u KiB a thread", left);
}
END_TEST

/* As in a container, or a service of systemd's. */
START_TEST(a_filter_that_was_there_at_the_start_changes_nothing)
{
	suite_share(0);
	suite_filter();
	hak_engine_prepare();
	ck_assert(!hak_engine_has_barrier());
	hak_sys_seccomp_start();
	unsigned left = sleep_over();
	EXPECT(left <= (hak_engine_has_barrier() ? SLEEPER_KIB : NOT_TAKEN_KIB), "%u KiB a thread", left);
	ck_assert(hak_engine_has_barrier() || hak_sys.barrier());
}
END_TEST

static _Atomic unsigned barriers;
static struct hak_sys real;

static int count_barrier(void)
{
	barriers++;
	return real.barrier();
}

static int no_barrier(void)
{
	barriers++;
	return -1;
}

START_TEST(without_a_barrier_they_keep_what_they_have_cached)
{
	suite_share(0);
	hak_sys.barrier = no_barrier;
	unsigned left = sleep_over();
	EXPECT(left > SLEEPER_KIB && left <= NOT_TAKEN_KIB, "%u KiB a thread", left);
	ck_assert(barriers > 0 || hak_sys_seccomp() != 0);
	settle();
	ck_assert_uint_eq(stats().cached, 0);
	ck_assert_uint_eq(hak_nodes[0].live_bytes, 0);
}
END_TEST

static void *frees_all_and_visits(void *all)
{
	for (void **p = all; *p; p++)
		hak_free(*p);
	hak_heap_flush(hak_heap_self);
	hak_heap_visit(hak_heap_by_id(1), 0);
	return NULL;
}

START_TEST(a_dynamic_class_that_becomes_another_one_is_counted_as_it_was)
{
	enum { DYN = HAK_STATIC_CLASSES, BLOCKS = 4000, STRIDE = 1936, OTHER = 50000 };
	static void *p[BLOCKS + 1];
	pthread_t t;
	unsigned n = 0;
	suite_quiet();
	suite_share(0);
	hak_free(hak_malloc(1));
	struct hak_heap *h = hak_heap_self;
	ck_assert_ptr_eq(h, hak_heap_by_id(1));
	hak_route_open(DYN, STRIDE);
	/* until a refill has noted some, and all of these are out */
	while (n < BLOCKS && !(h->classes[DYN].noted && !hak_heap_cached(h, DYN)))
		p[n++] = hak_malloc(STRIDE);
	ck_assert_uint_gt(h->classes[DYN].noted, 0);
	hak_route_close(DYN);
	pthread_create(&t, NULL, frees_all_and_visits, p);
	pthread_join(t, NULL);
	ck_assert_uint_eq(h->classes[DYN].slabs, 0);
	ck_assert_uint_gt(h->classes[DYN].noted, 0);
	hak_route_open(DYN, OTHER);
	while (h->uncache_at != DYN - 1) /* each slow path looks at one more class */
		hak_malloc(9000);
	while (h->uncache_at != DYN)
		hak_malloc(9000);
	ck_assert_uint_eq(h->classes[DYN].noted, 0);
	check_heap(h);
}
END_TEST

static _Atomic bool taken_enough;

/* Of few blocks, so that magazines run empty and full all the time; each is written whole. */
static void *allocates_meanwhile(void *number)
{
	enum { BLOCKS = 64 };
	unsigned char *mine[BLOCKS] = { 0 };
	size_t bytes[BLOCKS] = { 0 };
	uint64_t seed = 1 + (uintptr_t)number;
	const char *fault = NULL;
	while (!taken_enough && !fault)
		for (unsigned k = 0; k < 1000; k++) {
			uint64_t chance = suite_random(&seed);
			unsigned i = chance % BLOCKS;
			unsigned char sign = (unsigned char)(i + 64 * (uintptr_t)number);
			for (size_t at = 0; mine[i] && at < bytes[i]; at += 8)
				if (mine[i][at] != sign)
					fault = "a block was handed out twice";
			hak_free(mine[i]);
			bytes[i] = 16 * (1 + (chance >> 8) % 4) << 2 * ((chance >> 16) % 4);
			mine[i] = hak_malloc(bytes[i]);
			memset(mine[i], sign, bytes[i]);
		}
	for (unsigned i = 0; i < BLOCKS; i++)
		hak_free(mine[i]);
	return (void *)(uintptr_t)fault;
}

START_TEST(what_is_taken_from_threads_that_run_is_nobody_else_s)
{
	enum { THREADS = 3, TAKES = 10000 };
	pthread_t t[THREADS];
	void *fault;
	suite_quiet();
	real = hak_sys;
	hak_sys.barrier = count_barrier;
	hak_free(hak_malloc(1));
	hak_engine_prepare();
	for (uintptr_t i = 0; i < THREADS; i++)
		ck_assert(!pthread_create(&t[i], NULL, allocates_meanwhile, (void *)i));
	uint64_t end = hak_now_ns() + UINT64_C(10000000000);
	while (barriers < 2 * TAKES && hak_now_ns() < end && hak_engine_has_barrier())
		for (uint32_t id = 1; id <= hak_heap_count(); id++)
			hak_heap_visit(hak_heap_by_id(id), 0);
	taken_enough = true;
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(t[i], &fault);
		EXPECT(!fault, "%s", (char *)fault);
	}
	ck_assert(barriers > 100 || hak_sys_seccomp() != 0);
	settle();
	ck_assert_uint_eq(stats().live, 0);
	ck_assert_uint_eq(stats().cached, 0);
	ck_assert_uint_eq(hak_nodes[0].live_bytes, 0);
	for (uint32_t id = 1; id <= hak_heap_count(); id++)
		check_heap(hak_heap_by_id(id));
}
END_TEST

/* ---- threads beyond a few a CPU --------------------------------------------------------- */

START_TEST(a_guest_uses_its_home_s_slabs_and_frees_its_blocks_without_sending_them)
{
	struct order half = { 0, MANY, 2, 64 }, own = { 0, MANY, 0, 64 };
	suite_share(1);
	suite_quiet();
	fill(64, 0, MANY);
	uint64_t fresh = new_memory();
	uint32_t slabs = hak_heap_self->classes[HAK_CLASS_64].slabs;
	in_thread(free_them, &half);
	ck_assert_uint_eq(hak_heap_count(), 2);
	ck_assert_ptr_eq(hak_heap_by_id(2)->home, hak_heap_self);
	ck_assert_uint_eq(hak_heap_by_id(2)->tag, hak_heap_self->tag);
	uint64_t before = stats().remote_frees; /* it had a heap */
	ck_assert_uint_le(before, 20);
	for (uint32_t i = 0; i < MANY; i += 2)
		fill(64, i, i + 1);
	/* but for what the guest has in its magazine, two slabs at most of it */
	ck_assert_uint_le(hak_heap_self->classes[HAK_CLASS_64].slabs, slabs + 2);
	drain(0, MANY);
	in_thread(fill_them, &own);
	ck_assert_uint_eq(hak_heap_count(), 2);
	EXPECT(new_memory() <= fresh + 2, "%zu new slabs", (size_t)(new_memory() - fresh));
	ck_assert_uint_eq(stats().live, MANY * 64);
	check_heap(hak_heap_self);
	drain(0, MANY);
	ck_assert_uint_eq(stats().remote_frees, before);
	ck_assert_uint_eq(stats().live, 0);
	settle();
	ck_assert_uint_eq(stats().cached, 0);
	ck_assert_uint_eq(hak_nodes[0].live_bytes, 0);
	check_heap(hak_heap_self);
}
END_TEST

/* Frees every second one of the blocks it was told of, and stays. */
static void *frees_and_stays(void *arg)
{
	void *fault = free_them(arg);
	pthread_barrier_wait(&asleep);
	pthread_barrier_wait(&morning);
	return fault;
}

START_TEST(the_slabs_of_a_home_stay_while_it_has_guests)
{
	struct order first = { 0, 10000, 2, 64 }, some = { 1, 1000, 2, 0 };
	pthread_t guest;
	suite_share(2);
	suite_quiet();
	pthread_barrier_init(&asleep, NULL, 2);
	pthread_barrier_init(&morning, NULL, 2);
	fill(1024, 10000, 10001);
	in_thread(fill_them, &first); /* the second home, parked again */
	struct hak_heap *home = hak_heap_by_id(2), *h[2];
	ck_assert_ptr_eq(home->home, home);
	for (int i = 0; i < 2; i++) /* a guest of each */
		h[i] = hak_heap_acquire(0);
	ck_assert_ptr_eq(h[0], home);
	ck_assert_ptr_eq(h[1]->home, hak_heap_self);
	struct hak_heap *second = hak_heap_acquire(0);
	ck_assert_ptr_eq(second->home, home);
	hak_heap_park(h[0]);
	hak_heap_park(second);
	hak_heap_park(h[1]);
	uint32_t slabs = home->classes[HAK_CLASS_64].slabs;
	fill(64, 15000, 19000);
	ck_assert_uint_eq(stats().stages[HAK_STAGE_ADOPTED], 0);
	ck_assert_uint_eq(home->classes[HAK_CLASS_64].slabs, slabs);
	/* a parked home goes to the next thread before a guest does */
	ck_assert(!pthread_create(&guest, NULL, frees_and_stays, &some));
	pthread_barrier_wait(&asleep);
	ck_assert(!home->parked && second->parked && h[1]->parked);
	pthread_barrier_wait(&morning);
	pthread_join(guest, NULL);
	for (uint32_t i = 1; i < 10000; i += 2)
		if (i >= 1000)
			drain(i, i + 1);
	drain(10000, 10001);
	drain(15000, 19000);
	settle();
	ck_assert_uint_eq(stats().live, 0);
	ck_assert_uint_eq(hak_nodes[0].live_bytes, 0);
	for (uint32_t id = 1; id <= 2; id++)
		check_heap(hak_heap_by_id(id));
}
END_TEST

START_TEST(without_a_limit_each_thread_has_slabs_of_its_own)
{
	struct hak_heap *h[20];
	suite_share(0);
	suite_quiet();
	for (int i = 0; i < 20; i++)
		ck_assert((h[i] = hak_heap_acquire(0)) && h[i]->home == h[i]);
}
END_TEST

static pthread_key_t late_key;
static _Atomic int late_rounds;

static void late(void *arg)
{
	if (late_rounds++ < 2) { /* sanitizers' own destructors run in the fourth round */
		pthread_setspecific(late_key, arg);
		return;
	}
	struct order o = { 0, 3000, 3, 100 };
	late_rounds = fill_them(&o) ? -1 : 100;
}

static void *ends_late(void *arg)
{
	hak_free(hak_malloc(10));
	pthread_setspecific(late_key, arg);
	return NULL;
}

/* Destructors of the program's keys run after ours: they must still allocate and free. */
START_TEST(destructors_after_ours_allocate_and_free_and_lose_nothing)
{
	suite_quiet();
	ck_assert_int_eq(pthread_key_create(&late_key, late), 0);
	fill(64, 5000, 5001);
	in_thread(ends_late, blocks);
	ck_assert_int_eq(late_rounds, 100);
	for (uint32_t i = 0; i < 3000; i++)
		if (i % 3)
			drain(i, i + 1);
	drain(5000, 5001);
	settle();
	ck_assert_uint_eq(stats().live, 0);
	ck_assert_uint_le(hak_heap_count(), 2);
}
END_TEST

/* ---- stages ----------------------------------------------------------------------------- */

START_TEST(empty_slabs_serve_every_other_class_without_new_memory)
{
	suite_quiet();
	fill(64, 0, MANY); /* 1.2 MiB in 20 slabs */
	fill(64, 0, 0);
	drain(0, MANY);
	hak_heap_empty(hak_heap_self);
	uint64_t fresh = new_memory(), mapped = stats().mapped;
	for (unsigned c = 0; c < HAK_STATIC_CLASSES; c++) {
		if (hak_classes[c].granules > 4)
			continue;
		size_t stride = hak_classes[c].stride;
		uint64_t before = slab_requests();
		uint32_t n = (uint32_t)hak_min(MANY, MIB / 2 / stride);
		fill(stride, 0, n);
		EXPECT(slab_requests() > before, "class of %zu made no slab", stride);
		drain(0, n);
		hak_heap_empty(hak_heap_self);
	}
	ck_assert_uint_eq(new_memory(), fresh);
	ck_assert_uint_le(stats().mapped, mapped + MIB / 4); /* metadata */
	ck_assert_uint_gt(stats().stages[HAK_STAGE_NEAR] + stats().stages[HAK_STAGE_EMPTY], HAK_CLASSES);
}
END_TEST

START_TEST(in_steady_state_slabs_are_hardly_asked_for_and_superslabs_never)
{
	enum { SET = 8192, OPS = 1000000 };
	uint64_t seed = 17;
	suite_quiet();
	for (int i = 0; i < SET; i++)
		blocks[i] = hak_malloc(16 + suite_random(&seed) % 1025);
	for (int warm = 0; warm < 2; warm++) {
		uint64_t requests = slab_requests(), fresh = stats().stages[HAK_STAGE_NEW];
		for (int op = 0; op < OPS / 2; op++) {
			uint32_t i = (uint32_t)(suite_random(&seed) % SET);
			hak_free(blocks[i]);
			blocks[i] = hak_malloc(16 + suite_random(&seed) % 1025);
		}
		if (!warm)
			continue;
		ck_assert_uint_le(slab_requests() - requests, OPS / 1000);
		ck_assert_uint_eq(stats().stages[HAK_STAGE_NEW], fresh);
	}
}
END_TEST

START_TEST(the_stages_count_every_slab_that_was_found)
{
	suite_quiet();
	fill(4096, 0, 2000); /* 16 a slab */
	struct hakmem_stats s = stats();
	uint64_t made = 0;
	for (int i = HAK_STAGE_NEAR; i < HAK_STAGES; i++)
		made += s.stages[i];
	ck_assert_uint_eq(made, 2000 / 16);
	ck_assert_uint_eq(hak_heap_self->classes[HAK_CLASS_4096].slabs, 2000 / 16);
	drain(0, 2000);
}
END_TEST

START_TEST(one_empty_slab_of_a_class_stays_so_that_the_next_block_is_cheap)
{
	suite_quiet();
	fill(32768, 0, 1);
	uint64_t before = slab_requests();
	for (int i = 0; i < 1000; i++) {
		drain(0, 1);
		hak_free(hak_malloc(600));
		fill(32768, 0, 1);
	}
	ck_assert_uint_eq(slab_requests(), before + 1);
}
END_TEST

/* Builds and drops all blocks, with a rest after each 200. Returns how long it took, in ns. */
static uint64_t turn(useconds_t rest)
{
	uint64_t begin = hak_now_ns();
	for (uint32_t i = 0; i < 2 * MANY; i += 200) {
		if (i < MANY)
			fill(32, i, i + 200);
		else
			drain(i - MANY, i - MANY + 200);
		if (rest)
			usleep(rest);
	}
	return hak_now_ns() - begin;
}

START_TEST(magazines_grow_for_bulk_and_shrink_when_it_is_over)
{
	unsigned class = hak_route_class(32);
	suite_quiet();
	for (int i = 0; i < 4; i++)
		turn(500); /* for 200 blocks: not in bulk */
	struct hak_heap_class *k = &hak_heap_self->classes[class];
	uint32_t most = k->cap;
	ck_assert_uint_ge(most, 127);
	ck_assert_uint_lt(most, 1000);
	uint64_t ns = 0;
	for (int i = 0; i < 4; i++)
		ns += turn(0);
	/* a machine that takes longer for two calls does not do anything at once */
	if (ns / (8 * MANY) >= 250)
		return;
	ck_assert_uint_ge(k->cap, 4 * most);
	ck_assert_uint_le((size_t)k->cap * 32, (size_t)128 << 10);
	check_heap(hak_heap_self);
	for (int i = 0; i < 4; i++)
		turn(500);
	ck_assert_uint_le(k->cap, most);
	check_heap(hak_heap_self);
}
END_TEST

/* Blocks of 1 KiB, then free ones: what is left in the magazine at the end is of every slab. */
static void leave_class(uint32_t n, uint32_t a_slab)
{
	fill(1024, 0, n);
	for (int last = 0; last < 2; last++)
		for (uint32_t i = 0; i < n; i++)
			if ((i % a_slab == 0) == last)
				drain(i, i + 1);
}

/* Slow paths of another class, and of a third that is asked for once a round: blocks that its magazine held at
 * the worst moment, after the first round. */
static uint32_t go_on(unsigned rounds, size_t now_and_then)
{
	void *some[MANY / 20];
	uint32_t least = UINT32_MAX;
	for (unsigned r = 0; r < rounds; r++) {
		for (unsigned i = 0; i < MANY / 20; i++)
			some[i] = hak_malloc(512);
		for (unsigned i = 0; i < MANY / 20; i++)
			hak_free(some[i]);
		if (r && now_and_then)
			least = (uint32_t)hak_min(least, hak_heap_cached(hak_heap_self, hak_route_class(now_and_then)));
		for (int i = 0; i < 200 && now_and_then; i++)
			some[i] = hak_malloc(now_and_then);
		for (int i = 0; i < 200 && now_and_then; i++)
			hak_free(some[i]);
	}
	return least;
}

START_TEST(a_class_that_the_program_has_left_gives_up_its_magazine_and_its_slabs)
{
	unsigned class = hak_route_class(1024);
	uint32_t a_slab = hak_classes[class].capacity, n = 30 * a_slab;
	suite_quiet();
	leave_class(n, a_slab);
	struct hak_heap_class *k = &hak_heap_self->classes[class];
	ck_assert_uint_ge(k->slabs, 29);
	ck_assert_uint_ge(hak_heap_cached(hak_heap_self, class), 30);
	go_on(300, 0);
	ck_assert_uint_eq(hak_heap_cached(hak_heap_self, class), 0);
	ck_assert_uint_eq(k->slabs, 0);
	check_heap(hak_heap_self);
}
END_TEST

START_TEST(a_class_that_is_asked_for_now_and_then_keeps_its_magazine)
{
	suite_quiet();
	ck_assert_uint_ge(go_on(300, 1024), 50);
}
END_TEST

START_TEST(a_class_with_blocks_in_use_in_every_slab_keeps_its_magazine)
{
	unsigned class = hak_route_class(1024);
	uint32_t a_slab = hak_classes[class].capacity, n = 30 * a_slab;
	suite_quiet();
	fill(1024, 0, n);
	for (uint32_t i = 0; i < n; i++)
		if (i % 16 == 1)
			drain(i, i + 1);
	uint32_t cached = hak_heap_cached(hak_heap_self, class);
	ck_assert_uint_gt(cached, 10);
	go_on(300, 0);
	ck_assert_uint_eq(hak_heap_cached(hak_heap_self, class), cached);
	for (uint32_t i = 0; i < n; i++)
		if (i % 16 != 1)
			drain(i, i + 1);
}
END_TEST

#define LARGE 48

/* Builds and drops blocks of a size a few times; bytes that the class's magazine holds if it is full. */
static size_t held_of(size_t size)
{
	void *block[LARGE];
	unsigned class = hak_route_class(size);
	for (int round = 0; round < 6; round++) {
		for (int i = 0; i < LARGE; i++)
			block[i] = hak_malloc(size);
		for (int i = 0; i < LARGE; i++)
			hak_free(block[i]);
	}
	return (size_t)hak_heap_self->classes[class].cap * hak_classes[class].stride;
}

START_TEST(magazines_of_large_blocks_hold_more_where_few_sizes_are_in_use)
{
	suite_quiet();
	ck_assert_uint_gt(held_of(200000), 2 * MIB);
	ck_assert_uint_le(held_of(200000), 4 * MIB);
	size_t more = 0;
	for (size_t size = 20000; size <= 256 << 10; size += size / 9) {
		size_t held = held_of(size);
		more += held > MIB ? held - MIB : 0;
	}
	ck_assert_uint_gt(hak_heap_self->room, 12 * MIB);
	ck_assert_uint_le(more, 12 * MIB);
	check_heap(hak_heap_self);
}
END_TEST

/* ---- sums -------------------------------------------------------------------------------- */

/* Bytes that /proc/self/maps shows under hakmem's names, writable ones. */
static size_t mapped_by_name(void)
{
	char line[512], perms[8];
	unsigned long from, to;
	size_t sum = 0;
	FILE *f = fopen("/proc/self/maps", "re");
	EXPECT(f, "no /proc");
	while (fgets(line, sizeof line, f))
		if (sscanf(line, "%lx-%lx %7s", &from, &to, perms) == 3 && perms[1] == 'w' && strstr(line, "[anon:hakmem"))
			sum += to - from;
	fclose(f);
	return sum;
}

START_TEST(the_statistics_say_what_the_kernel_says_is_mapped)
{
	suite_quiet();
	fill(64, 0, MANY);
	void *large[] = { hak_malloc(100000), hak_malloc(MIB), hak_malloc(5 * MIB), hak_malloc(70 * MIB) };
	size_t named = mapped_by_name();
	if (!named) /* a kernel without CONFIG_ANON_VMA_NAME shows no names */
		return;
	struct hakmem_stats s = stats();
	/* tables whose mappings carry no name: the window's, and one page for fork */
	ck_assert_uint_le(named, s.mapped);
	ck_assert_uint_le(s.mapped - named, 256 * HAK_PAGE);
	for (int i = 0; i < 4; i++)
		hak_free(large[i]);
	drain(0, MANY);
}
END_TEST

START_TEST(live_cached_and_free_are_never_more_than_mapped)
{
	uint64_t seed = 23;
	suite_quiet();
	for (int step = 0; step < 100000; step++) {
		uint32_t i = (uint32_t)(suite_random(&seed) % MANY);
		if (blocks[i]) {
			hak_free(blocks[i]);
			blocks[i] = NULL;
		} else {
			blocks[i] = hak_malloc(suite_random_size(&seed, 40000));
		}
		if (step % 100 == 0) {
			struct hakmem_stats s = stats();
			EXPECT(s.live + s.cached + s.metadata <= s.mapped, "step %d: %zu + %zu + %zu > %zu", step,
			       (size_t)s.live, (size_t)s.cached, (size_t)s.metadata, (size_t)s.mapped);
		}
	}
}
END_TEST

/* ---- crimes that only the slab can see ----------------------------------------------------- */

/*
 * A block is in the magazine twice. The first comes home, its slab becomes EMPTY and is
 * given away, and another class hands out a block at the same address: the second must
 * not be taken for it.
 */
START_TEST(a_double_free_is_caught_even_when_its_slab_has_gone_to_another_class)
{
	enum { CLASS = HAK_CLASS_4096, PER = 16 };
	uint32_t other = 2 * PER;
	suite_quiet();
	fill(4096, 0, 30 * PER);
	for (uint32_t i = 20 * PER; i < 30 * PER; i++)
		hak_free(blocks[i]); /* the magazine grows to its full size */
	struct hak_heap *h = hak_heap_self;
	hak_heap_empty(h);
	uint32_t cap = h->classes[CLASS].cap;
	ck_assert_uint_ge(cap, 2 * PER);
	struct hak_arena *a = hak_arena_of(blocks[0]);
	uint32_t g = hak_granule_of(blocks[0]);
	ck_assert_uint_eq(a->slabs[g].class, CLASS);
	ck_assert_uint_eq(a->slabs[g].nfree, 0);
	/* so that an EMPTY slab is not the class's last */
	hak_free(blocks[other++]);
	for (uint32_t i = 0; i < PER; i++)
		hak_free(blocks[i]);
	while (hak_heap_cached(h, CLASS) < cap - 2)
		hak_free(blocks[other++]);
	hak_free(blocks[0]);
	hak_free(blocks[other++]);
	ck_assert_uint_eq(hak_heap_cached(h, CLASS), cap);
	hak_free(blocks[other++]); /* half of it goes home, with the slab's 16 */
	ck_assert_uint_eq(*hak_tag_of(blocks[0]), 0);
	/* another class takes the granule and hands out the block at its start */
	void **mine = NULL;
	for (uint32_t i = 0; !mine && i < 4096; i++) {
		void **p = hak_malloc(256);
		if (p == blocks[0])
			mine = p;
	}
	ck_assert_ptr_nonnull(mine);
	fprintf(stderr, "expected: ");
	hak_heap_empty(h); /* dies here */
}
END_TEST

START_TEST(a_remote_double_free_is_caught_when_its_slab_is_gone)
{
	struct order one = { 0, 1, 1, 0 };
	suite_quiet();
	fill(4096, 0, 40);
	in_thread(free_them, &one);
	for (uint32_t i = 1; i < 40; i++)
		hak_free(blocks[i]);
	settle();
	ck_assert_uint_eq(*hak_tag_of(blocks[0]), 0);
	fprintf(stderr, "expected: ");
	in_thread(free_them, &one);
}
END_TEST

SUITE("heap", 30,
      CALM(each_class_fills_and_drains_and_leaves_nothing),
      CALM(live_bytes_are_exactly_what_is_held_at_every_moment),
      CALM(blocks_freed_elsewhere_come_home_all_of_them),
      CALM(blocks_freed_elsewhere_are_used_again_without_new_memory),
      CALM(a_thread_that_frees_little_makes_no_heap),
      CALM(own_and_remote_frees_of_one_slab_meet),
      CALM(a_thousand_threads_one_after_the_other_need_one_heap),
      CALM(what_an_ended_thread_left_half_full_is_adopted),
      CALM(a_parked_heap_gives_up_what_it_cached_when_memory_is_asked_back),
      CALM(threads_that_freed_all_and_sleep_keep_little),
      CALM(guests_that_freed_all_and_sleep_keep_less),
      CALM(without_a_barrier_they_keep_what_they_have_cached),
      CALM(a_filter_that_was_there_at_the_start_changes_nothing),
      CALM(a_dynamic_class_that_becomes_another_one_is_counted_as_it_was),
      CALM(what_is_taken_from_threads_that_run_is_nobody_else_s),
      CALM(a_guest_uses_its_home_s_slabs_and_frees_its_blocks_without_sending_them),
      CALM(the_slabs_of_a_home_stay_while_it_has_guests),
      CALM(without_a_limit_each_thread_has_slabs_of_its_own),
      CALM(destructors_after_ours_allocate_and_free_and_lose_nothing),
      CALM(empty_slabs_serve_every_other_class_without_new_memory),
      CALM(in_steady_state_slabs_are_hardly_asked_for_and_superslabs_never),
      CALM(the_stages_count_every_slab_that_was_found),
      CALM(one_empty_slab_of_a_class_stays_so_that_the_next_block_is_cheap),
      CALM(magazines_grow_for_bulk_and_shrink_when_it_is_over),
      CALM(a_class_that_the_program_has_left_gives_up_its_magazine_and_its_slabs),
      CALM(a_class_that_is_asked_for_now_and_then_keeps_its_magazine),
      CALM(a_class_with_blocks_in_use_in_every_slab_keeps_its_magazine),
      CALM(magazines_of_large_blocks_hold_more_where_few_sizes_are_in_use),
      CALM(the_statistics_say_what_the_kernel_says_is_mapped),
      CALM(live_cached_and_free_are_never_more_than_mapped),
      DIES(a_double_free_is_caught_even_when_its_slab_has_gone_to_another_class, SIGABRT),
      DIES(a_remote_double_free_is_caught_when_its_slab_is_gone, SIGABRT))
