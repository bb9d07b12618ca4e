/* SPDX-License-Identifier: MIT */
/* Is every granule of a node claimed by one at a time, and are the cheapest claimed first? */
#include "numa/node.h"

#include <errno.h>
#include <sys/mman.h>

#include "options.h"
#include "reclaim.h"
#include "sys/sys.h"

#include "suite.h"

#define RUNS 3000u

static bool claim(uint32_t count, struct hak_run *run)
{
	return hak_pool_claim(0, count, hak_is_pow2(count), false, run);
}

static char *address(const struct hak_run *run)
{
	return run->arena->base + run->granule * HAK_GRANULE;
}

/* Claims granules and gives them back as UNUSED: a node with `supers` SuperSlabs, all fresh. */
static void make_room(uint32_t supers)
{
	struct hak_run run[64];
	for (uint32_t i = 0; i < supers; i++)
		EXPECT(claim(32, &run[i]), "no room");
	for (uint32_t i = 0; i < supers; i++)
		hak_pool_release(run[i].arena, run[i].granule, 32);
	hak_reclaim_all();
}

static int fit_slowly(uint32_t mask, uint32_t count, bool aligned)
{
	for (uint32_t at = 0; at + count <= 32; at += aligned ? count : 1) {
		uint32_t n = 0;
		while (n < count && mask >> (at + n) & 1)
			n++;
		if (n == count)
			return (int)at;
	}
	return -1;
}

START_TEST(a_run_is_found_in_a_mask_as_by_looking_at_each_place)
{
	uint64_t seed = 3;
	for (int i = 0; i < 300000; i++) {
		/* sparse, even and dense masks alike */
		uint32_t mask = (uint32_t)suite_random(&seed);
		if (i % 3 == 1)
			mask &= (uint32_t)suite_random(&seed);
		if (i % 3 == 2)
			mask |= (uint32_t)suite_random(&seed) | (uint32_t)suite_random(&seed);
		uint32_t count = 1 + (uint32_t)(suite_random(&seed) % 32);
		EXPECT(hak_mask_fit(mask, count, false) == fit_slowly(mask, count, false),
		       "mask %x, count %u: %d", mask, count, hak_mask_fit(mask, count, false));
		count = 1u << suite_random(&seed) % 6;
		EXPECT(hak_mask_fit(mask, count, true) == fit_slowly(mask, count, true),
		       "mask %x, count %u, aligned: %d", mask, count, hak_mask_fit(mask, count, true));
	}
	for (uint32_t count = 1; count <= 32; count++) {
		ck_assert_int_eq(hak_mask_fit(UINT32_MAX, count, false), 0);
		ck_assert_int_eq(hak_mask_fit(0, count, false), -1);
		if (count < 32)
			ck_assert_int_eq(hak_mask_fit(((1u << count) - 1) << (32 - count), count, false), (int)(32 - count));
	}
	ck_assert_int_eq(hak_mask_fit(UINT32_MAX, 32, true), 0);
	ck_assert_int_eq(hak_mask_fit(UINT32_MAX - 1, 32, true), -1);
}
END_TEST

static int fit_guarded_slowly(uint32_t mask, uint32_t closed, uint32_t count, bool aligned)
{
	for (uint32_t at = 0; at + count <= 32; at += aligned ? count : 1) {
		uint32_t n = 0;
		while (n < count && mask >> (at + n) & 1 && (closed >> (at + n) & 1) == (n == count - 1))
			n++;
		if (n == count)
			return (int)at;
	}
	return -1;
}

START_TEST(a_run_that_ends_in_a_guard_is_found_as_by_looking_at_each_place)
{
	uint64_t seed = 4;
	for (int i = 0; i < 300000; i++) {
		uint32_t mask = (uint32_t)(suite_random(&seed) | suite_random(&seed));
		uint32_t closed = (uint32_t)(suite_random(&seed) & suite_random(&seed) & suite_random(&seed));
		uint32_t count = 1 + (uint32_t)(suite_random(&seed) % 32);
		int at = hak_mask_fit_guarded(mask, closed, count, false);
		EXPECT(at == fit_guarded_slowly(mask, closed, count, false), "mask %x, closed %x, count %u: %d", mask, closed, count, at);
		count = 1u << suite_random(&seed) % 6;
		at = hak_mask_fit_guarded(mask, closed, count, true);
		EXPECT(at == fit_guarded_slowly(mask, closed, count, true), "mask %x, closed %x, count %u, aligned: %d", mask, closed, count, at);
	}
	ck_assert_int_eq(hak_mask_fit_guarded(UINT32_MAX, 1u << 31, 32, true), 0);
	ck_assert_int_eq(hak_mask_fit_guarded(UINT32_MAX, 0, 32, false), -1);
}
END_TEST

/* Granules that can be claimed. */
static uint64_t available(const struct hak_node *n)
{
	uint64_t sum = 0;
	for (struct hak_arena *a = n->arenas; a; a = a->next)
		for (uint32_t s = 0; s < HAK_ARENA_SUPERS; s++)
			sum += hak_popcount(HAK_WORD_EMPTY(a->super[s]) | HAK_WORD_UNUSED(a->super[s]));
	return sum;
}

START_TEST(claims_are_disjoint_stay_in_a_superslab_and_add_up)
{
	static struct hak_run runs[RUNS];
	static uint32_t counts[RUNS];
	static bool live[RUNS];
	struct hak_node *n = &hak_nodes[0];
	uint64_t seed = 5, held = 0;
	suite_quiet();
	for (uint32_t step = 0; step < 8 * RUNS; step++) {
		uint32_t i = (uint32_t)(suite_random(&seed) % RUNS);
		if (live[i]) {
			unsigned char *p = (unsigned char *)address(&runs[i]);
			for (uint32_t g = 0; g < counts[i]; g++)
				EXPECT(*(uint32_t *)(void *)(p + g * HAK_GRANULE) == i + 1, "granule of run %u taken twice", i);
			hak_pool_release(runs[i].arena, runs[i].granule, counts[i]);
			held -= counts[i];
			live[i] = false;
			continue;
		}
		uint32_t count = 1 + (uint32_t)(suite_random(&seed) % 32);
		bool aligned = suite_random(&seed) % 2, huge = suite_random(&seed) % 2;
		if (aligned)
			count = 1u << suite_random(&seed) % 6;
		EXPECT(hak_pool_claim(0, count, aligned, huge, &runs[i]), "no memory");
		uint32_t at = runs[i].granule;
		EXPECT(at / 32 == (at + count - 1) / 32, "granule %u, %u of them: over a SuperSlab's end", at, count);
		EXPECT(!aligned || at % count == 0, "granule %u, %u of them: not aligned", at, count);
		for (uint32_t g = 0; g < count; g++) {
			uint32_t *p = (uint32_t *)(void *)(address(&runs[i]) + g * HAK_GRANULE);
			EXPECT(!runs[i].zero || *p == 0, "said to be zero");
			*p = i + 1;
		}
		counts[i] = count;
		live[i] = true;
		held += count;
		EXPECT(n->live_bytes == held * HAK_GRANULE, "live bytes %zu, not %zu", (size_t)n->live_bytes,
		       (size_t)(held * HAK_GRANULE));
		EXPECT(n->mapped_bytes >= n->live_bytes, "more live than mapped");
	}
	for (uint32_t i = 0; i < RUNS; i++)
		if (live[i])
			hak_pool_release(runs[i].arena, runs[i].granule, counts[i]);
	ck_assert_uint_eq(n->live_bytes, 0);
	ck_assert_uint_eq(available(n) * HAK_GRANULE, n->mapped_bytes);
}
END_TEST

START_TEST(memory_is_unused_then_empty_then_after_release_unused_again)
{
	struct hak_run run;
	suite_quiet();
	make_room(2);
	ck_assert(claim(1, &run));
	ck_assert_int_eq(run.stage, HAK_STAGE_NEW);
	ck_assert(run.zero);
	ck_assert_int_eq(*address(&run), 0);
	memset(address(&run), 0xff, HAK_GRANULE);
	char *first = address(&run);
	hak_pool_release(run.arena, run.granule, 1);

	ck_assert(claim(1, &run));
	ck_assert_ptr_eq(address(&run), first);
	ck_assert_int_eq(run.stage, HAK_STAGE_EMPTY);
	ck_assert(!run.zero);
	hak_pool_release(run.arena, run.granule, 1);

	ck_assert_uint_eq(hak_reclaim_all(), HAK_GRANULE);
	ck_assert_uint_eq(hak_reclaim_all(), 0);
	ck_assert(claim(1, &run));
	ck_assert(run.zero);
	for (size_t i = 0; i < HAK_GRANULE; i++)
		EXPECT(address(&run)[i] == 0, "byte %zu is not zero after its release", i);
}
END_TEST

/* As for locked memory. */
static int no_dontneed(void *addr, size_t bytes, int advice)
{
	if (advice != MADV_DONTNEED)
		return madvise(addr, bytes, advice);
	errno = EINVAL;
	return -1;
}

START_TEST(what_the_kernel_refused_to_take_is_not_called_zero)
{
	struct hak_run run;
	suite_quiet();
	hak_sys.madvise = no_dontneed;
	ck_assert(claim(1, &run));
	memset(address(&run), 0xff, HAK_GRANULE);
	hak_pool_release(run.arena, run.granule, 1);
	ck_assert_uint_eq(hak_reclaim_all(), 0);
	ck_assert(claim(1, &run));
	ck_assert(!run.zero);
	ck_assert_int_eq(run.stage, HAK_STAGE_EMPTY);
}
END_TEST

START_TEST(empty_granules_go_before_unused_and_dense_superslabs_before_sparse)
{
	struct hak_run full[2][32], run;
	suite_quiet();
	make_room(3);
	for (int s = 0; s < 2; s++)
		for (int i = 0; i < 32; i++)
			ck_assert(claim(1, &full[s][i]));
	ck_assert_ptr_ne(full[0][0].arena->base + full[0][0].granule / 32 * HAK_SUPER,
			 full[1][0].arena->base + full[1][0].granule / 32 * HAK_SUPER);
	/* 5 free in the first, 2 in the second; the third is all UNUSED */
	for (int i = 10; i < 15; i++)
		hak_pool_release(full[0][i].arena, full[0][i].granule, 1);
	for (int i = 20; i < 22; i++)
		hak_pool_release(full[1][i].arena, full[1][i].granule, 1);
	for (int i = 0; i < 7; i++) {
		ck_assert(claim(1, &run));
		ck_assert_int_eq(run.stage, HAK_STAGE_EMPTY);
		ck_assert_uint_eq(run.granule / 32, full[i < 2][0].granule / 32);
	}
	ck_assert(claim(1, &run));
	ck_assert_int_eq(run.stage, HAK_STAGE_NEW);
	ck_assert(claim(1, &run));
	ck_assert_int_eq(run.stage, HAK_STAGE_UNUSED);
}
END_TEST

#define PACKED 32u /* SuperSlabs */

START_TEST(claims_pack_dense_superslabs_so_that_sparse_ones_become_free)
{
	static struct hak_run runs[PACKED * 32];
	uint32_t live = 0;
	uint64_t seed = 9;
	suite_quiet();
	while (live < PACKED * 32)
		ck_assert(hak_pool_claim(0, 1, true, true, &runs[live++]));
	while (live > PACKED * 32 / 4) {
		uint32_t i = (uint32_t)(suite_random(&seed) % live);
		hak_pool_release(runs[i].arena, runs[i].granule, 1);
		runs[i] = runs[--live];
	}
	ck_assert_uint_eq(hak_node_supers(0), PACKED);
	for (int step = 0; step < 20000; step++) {
		struct hak_run *run = &runs[suite_random(&seed) % live];
		hak_pool_release(run->arena, run->granule, 1);
		ck_assert(hak_pool_claim(0, 1, true, true, run));
	}
	/* a quarter is the least */
	ck_assert_uint_le(hak_node_supers(0), PACKED / 4 + 2);
}
END_TEST

/* Searches find all room: what a word has room for is noted at its order or above. */
static bool room_is_noted(void)
{
	for (struct hak_arena *a = hak_nodes[0].arenas; a; a = a->next)
		for (uint32_t s = 0; s < HAK_ARENA_SUPERS; s++)
			for (unsigned kind = 0; kind < HAK_ROOMS; kind++) {
				uint32_t mask = hak_room_mask(a->super[s], hak_super_is_huge(a, s), kind);
				bool noted = !mask;
				for (unsigned o = mask ? hak_room_order(mask) : 0; o < HAK_ROOM_ORDERS; o++)
					noted |= (a->orders[kind] >> o & 1) && (a->room[kind][o][s / 64] >> s % 64 & 1);
				if (!noted)
					return false;
			}
	return true;
}

START_TEST(the_order_of_room_is_that_of_its_longest_run)
{
	uint64_t seed = 5;
	for (int i = 0; i < 300000; i++) {
		uint32_t mask = (uint32_t)suite_random(&seed), longest = 0;
		if (i % 2)
			mask |= (uint32_t)suite_random(&seed);
		for (uint32_t at = 0, run = 0; at < 32; at++) {
			run = mask >> at & 1 ? run + 1 : 0;
			longest = hak_max(longest, run);
		}
		EXPECT(!mask || hak_room_order(mask) + 1 == longest, "mask %x", mask);
	}
	ck_assert_uint_eq(hak_room_order(UINT32_MAX), 31);
	for (unsigned length = 1; length < 32; length++)
		ck_assert_uint_eq(hak_room_order(UINT32_MAX >> (32 - length)), length - 1);
}
END_TEST

START_TEST(a_run_is_found_beyond_many_superslabs_that_have_none)
{
	static struct hak_run single[PACKED][32];
	struct hak_run run;
	suite_quiet();
	for (uint32_t s = 0; s < PACKED; s++)
		for (int i = 0; i < 32; i++)
			ck_assert(hak_pool_claim(0, 1, true, true, &single[s][i]));
	for (uint32_t s = 0; s < PACKED; s++)
		for (int i = 0; i < 32; i += 2)
			hak_pool_release(single[s][i].arena, single[s][i].granule, 1);
	/* the search was through with those of the lowest addresses long before this one */
	struct hak_run *last = single[0];
	ck_assert_uint_gt(last[0].granule, single[PACKED - 1][0].granule);
	for (int i = 9; i < 15; i += 2)
		hak_pool_release(last[i].arena, last[i].granule, 1);
	ck_assert(hak_pool_claim(0, 7, false, true, &run));
	ck_assert_int_eq(run.stage, HAK_STAGE_EMPTY);
	ck_assert_uint_eq(run.granule, last[8].granule);
	/* and when it has gone there is none; whatever was looked at stays known */
	ck_assert(hak_pool_claim(0, 7, false, true, &run));
	ck_assert_int_eq(run.stage, HAK_STAGE_NEW);
	ck_assert(room_is_noted());
	for (uint32_t i = 0; i < PACKED * 16 - 4; i++) {
		ck_assert(hak_pool_claim(0, 1, true, true, &run));
		ck_assert_int_eq(run.stage, HAK_STAGE_EMPTY);
	}
}
END_TEST

START_TEST(near_claims_take_empty_granules_of_their_superslab_only)
{
	struct hak_run run[32], near;
	suite_quiet();
	make_room(2);
	for (int i = 0; i < 32; i++)
		ck_assert(claim(1, &run[i]));
	uint32_t super = run[0].granule / 32;
	ck_assert(!hak_pool_claim_near(run[0].arena, super, 1, true, &near));
	hak_pool_release(run[3].arena, run[3].granule, 1);
	ck_assert(!hak_pool_claim_near(run[0].arena, super, 2, true, &near));
	ck_assert(hak_pool_claim_near(run[0].arena, super, 1, true, &near));
	ck_assert_uint_eq(near.granule, run[3].granule);
	ck_assert_int_eq(near.stage, HAK_STAGE_NEAR);
	ck_assert(!near.zero);
	/* a wholly EMPTY one is left to be released */
	for (int i = 0; i < 32; i++)
		hak_pool_release(run[i].arena, run[i].granule, 1);
	ck_assert(!hak_pool_claim_near(run[0].arena, super, 1, true, &near));
	/* UNUSED ones are not near */
	hak_reclaim_all();
	ck_assert(claim(1, &run[0]));
	ck_assert(!hak_pool_claim_near(run[0].arena, run[0].granule / 32, 1, true, &near));
}
END_TEST

START_TEST(a_run_is_extended_into_free_granules_of_its_superslab)
{
	struct hak_run run, wall, more;
	suite_quiet();
	make_room(2);
	ck_assert(claim(4, &run));
	ck_assert(claim(4, &wall));
	ck_assert_uint_eq(wall.granule, run.granule + 4);
	uint64_t live = hak_nodes[0].live_bytes;
	ck_assert(!hak_pool_extend(run.arena, run.granule + 4, 1, &more));
	hak_pool_release(wall.arena, wall.granule, 3); /* its last one stays */
	ck_assert(!hak_pool_extend(run.arena, run.granule + 4, 4, &more));
	ck_assert(hak_pool_extend(run.arena, run.granule + 4, 3, &more));
	ck_assert(!more.zero && more.stage == HAK_STAGE_EMPTY && more.granule == run.granule + 4);
	ck_assert_uint_eq(hak_nodes[0].live_bytes, live);
	ck_assert(!hak_pool_extend(run.arena, run.granule + 4, 1, &more));
	/* what follows lies in the next SuperSlab, if it is free or not */
	uint32_t last = (run.granule | 31) + 1;
	ck_assert(hak_pool_extend(wall.arena, wall.granule + 4, last - wall.granule - 4, &more));
	ck_assert(more.zero && more.stage == HAK_STAGE_UNUSED);
	ck_assert(!hak_pool_extend(wall.arena, last, 1, &more));
	hak_pool_release(run.arena, run.granule, last - run.granule);
	ck_assert(!hak_pool_extend(run.arena, last - 1, 2, &more));
}
END_TEST

/* Runs that grow into the same granules from many threads. */
static _Atomic uint32_t extended;
static struct hak_run head;

static void *extend(void *arg)
{
	struct hak_run more;
	for (uint32_t i = 0; i < 27; i++)
		if (hak_pool_extend(head.arena, head.granule + 4 + i, 1, &more))
			atomic_fetch_add(&extended, 1);
	return arg && head.granule % 32 ? "the run does not begin a SuperSlab" : NULL;
}

START_TEST(granules_that_many_extend_into_go_to_one_each)
{
	suite_quiet();
	ck_assert(hak_pool_claim(0, 32, true, false, &head));
	hak_pool_release(head.arena, head.granule, 32);
	ck_assert(claim(4, &head));
	suite_threads(8, extend);
	ck_assert_uint_eq(extended, 27);
}
END_TEST

START_TEST(the_huge_zone_lies_apart_and_begins_with_whole_superslabs)
{
	struct hak_run small, huge;
	suite_quiet();
	ck_assert(hak_pool_claim(0, 1, true, false, &small));
	ck_assert(hak_pool_claim(0, 1, true, true, &huge));
	ck_assert_ptr_eq(small.arena, huge.arena);
	ck_assert_uint_lt(small.granule, small.arena->small_end);
	ck_assert_uint_ge(huge.granule, small.arena->huge_start);
	ck_assert_uint_eq(small.arena->huge_start % 32, 0);
	ck_assert_int_eq(huge.stage, HAK_STAGE_NEW);
}
END_TEST

START_TEST(the_huge_zone_grows_ahead_of_claims)
{
	struct hak_run run;
	suite_quiet();
	ck_assert(claim(1, &run));
	uint32_t before = run.arena->huge_start, ahead;
	ck_assert(hak_pool_grow_huge(0));
	ahead = run.arena->huge_start;
	ck_assert_uint_le(ahead, before - 32);
	ck_assert_uint_eq(HAK_WORD_UNUSED(run.arena->super[ahead / 32]), UINT32_MAX);
	/* a claim needs no growth of its own */
	ck_assert(hak_pool_claim(0, 32, true, true, &run));
	ck_assert_uint_eq(run.granule, ahead);
	ck_assert_uint_eq(run.arena->huge_start, ahead);
}
END_TEST

/* ---- failing growth ---------------------------------------------------------------- */

static int failures;

static void *no_mmap(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	(void)addr, (void)bytes, (void)prot, (void)flags, (void)fd, (void)offset;
	failures++;
	errno = ENOMEM;
	return MAP_FAILED;
}

START_TEST(a_claim_fails_when_the_kernel_refuses_and_succeeds_when_it_no_longer_does)
{
	struct hak_run run[64], one;
	int held = 0;
	suite_quiet();
	ck_assert(claim(1, &one));
	hak_sys.mmap = no_mmap;
	ck_assert(!hak_pool_grow_huge(0));
	while (held < 64 && claim(1, &run[held]))
		held++;
	ck_assert_int_lt(held, 64);
	ck_assert_int_gt(failures, 0);
	for (int i = 0; i < held; i++)
		hak_pool_release(run[i].arena, run[i].granule, 1);
	/* what was there can still be had */
	for (int i = 0; i < held; i++)
		ck_assert(claim(1, &run[i]));
	ck_assert(!claim(1, &run[held]));
	hak_sys.mmap = mmap;
	for (int i = held; i < 64; i++)
		ck_assert(claim(1, &run[i]));
	ck_assert_uint_eq(hak_nodes[0].live_bytes, 65 * HAK_GRANULE);
}
END_TEST

/* The program's own mappings may lie in an arena's slot: growth stops there. */
START_TEST(growth_ends_where_another_mapping_begins)
{
	struct hak_run run[600];
	suite_quiet();
	ck_assert(claim(1, &run[0]));
	struct hak_arena *a = run[0].arena;
	char *in_the_way = a->base + 256 * HAK_GRANULE;
	void *got = mmap(in_the_way, HAK_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	ck_assert_ptr_eq(got, in_the_way);
	for (int i = 1; i < 600; i++) {
		EXPECT(claim(1, &run[i]), "claim %d", i);
		char *p = address(&run[i]);
		EXPECT(p + HAK_GRANULE <= in_the_way || p >= in_the_way + HAK_PAGE, "claim %d over the mapping", i);
		*p = 1;
	}
}
END_TEST

/* ---- threads ----------------------------------------------------------------------- */

#define WORKERS 4
#define HELD 40

static _Atomic unsigned char owner_of[HAK_ARENA_GRANULES];

static struct hak_run held_by[WORKERS][HELD];
static uint32_t counts_by[WORKERS][HELD];

static bool let_go(const struct hak_run *run, uint32_t count, uintptr_t who)
{
	for (uint32_t g = 0; g < count; g++)
		if (atomic_exchange(&owner_of[run->granule + g], 0) != who)
			return false;
	hak_pool_release(run->arena, run->granule, count);
	return true;
}

static void *work(void *arg)
{
	struct hak_run *held = held_by[(uintptr_t)arg];
	uint32_t *counts = counts_by[(uintptr_t)arg];
	uintptr_t who = (uintptr_t)arg + 1; /* 0: nobody's */
	uint64_t seed = who * 77;
	for (int step = 0; step < 30000; step++) {
		uint32_t i = (uint32_t)(suite_random(&seed) % HELD);
		if (counts[i]) {
			if (!let_go(&held[i], counts[i], who))
				return "granule lost its owner";
			counts[i] = 0;
			continue;
		}
		uint32_t count = 1u << suite_random(&seed) % 4;
		if (!hak_pool_claim(0, count, true, who % 2, &held[i]))
			return "no memory";
		for (uint32_t g = 0; g < count; g++)
			if (atomic_exchange(&owner_of[held[i].granule + g], (unsigned char)who))
				return "granule claimed twice";
		counts[i] = count;
		if (step % 3000 == 0)
			hak_reclaim_all();
	}
	return NULL;
}

START_TEST(threads_never_claim_the_same_granule_and_lose_none)
{
	suite_quiet();
	suite_threads(WORKERS, work);
	ck_assert(room_is_noted());
	for (uintptr_t w = 0; w < WORKERS; w++)
		for (uint32_t i = 0; i < HELD; i++)
			ck_assert(!counts_by[w][i] || let_go(&held_by[w][i], counts_by[w][i], w + 1));
	ck_assert(room_is_noted());
	ck_assert_uint_eq(hak_nodes[0].live_bytes, 0);
	ck_assert_ptr_null(hak_nodes[0].arenas->next);
	int64_t guards = 0; /* of SuperSlabs that were split are out of the pool */
	for (uint32_t s = 0; s < HAK_ARENA_SUPERS; s++)
		guards += hak_nodes[0].arenas->guard[s] != 0;
	ck_assert_uint_eq((available(&hak_nodes[0]) + guards) * HAK_GRANULE, hak_nodes[0].mapped_bytes);
}
END_TEST

SUITE("pool", 30,
      CALM(a_run_is_found_in_a_mask_as_by_looking_at_each_place),
      CALM(a_run_that_ends_in_a_guard_is_found_as_by_looking_at_each_place),
      CALM(claims_are_disjoint_stay_in_a_superslab_and_add_up),
      CALM(memory_is_unused_then_empty_then_after_release_unused_again),
      CALM(what_the_kernel_refused_to_take_is_not_called_zero),
      CALM(empty_granules_go_before_unused_and_dense_superslabs_before_sparse),
      CALM(claims_pack_dense_superslabs_so_that_sparse_ones_become_free),
      CALM(the_order_of_room_is_that_of_its_longest_run),
      CALM(a_run_is_found_beyond_many_superslabs_that_have_none),
      CALM(near_claims_take_empty_granules_of_their_superslab_only),
      CALM(a_run_is_extended_into_free_granules_of_its_superslab), CALM(granules_that_many_extend_into_go_to_one_each),
      CALM(the_huge_zone_lies_apart_and_begins_with_whole_superslabs),
      CALM(the_huge_zone_grows_ahead_of_claims),
      CALM(a_claim_fails_when_the_kernel_refuses_and_succeeds_when_it_no_longer_does),
      CALM(growth_ends_where_another_mapping_begins),
      CALM(threads_never_claim_the_same_granule_and_lose_none))
