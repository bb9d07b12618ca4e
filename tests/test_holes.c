/* SPDX-License-Identifier: MIT */
/* Free pages inside of slabs: do they go back, and nothing else? */
#include "holes.h"

#include <errno.h>
#include <sys/mman.h>
#include <time.h>

#include "counters.h"
#include "fast.h"
#include "front.h"
#include "heap.h"
#include "init.h"
#include "numa/arena.h"
#include "reclaim.h"
#include "suite.h"
#include "sys/sys.h"

#define BLOCKS 4096u

static unsigned char *block[BLOCKS];
static size_t size;

#define STEP 64u /* bytes: what is lost is lost by the page */

/* By the block's number and the byte's: what lies elsewhere than it should is seen. */
static unsigned char mark_of(unsigned i, size_t at)
{
	return (unsigned char)(1 + (i * 7 + at / STEP) % 255);
}

static void touch(unsigned i)
{
	block[i] = hak_malloc(size);
	EXPECT(block[i], "no memory");
	for (size_t at = 0; at < size; at += STEP)
		block[i][at] = mark_of(i, at);
}

static void drop(unsigned i)
{
	hak_free(block[i]);
	block[i] = NULL;
}

static void check_blocks(void)
{
	for (unsigned i = 0; i < BLOCKS; i++)
		for (size_t at = 0; block[i] && at < size; at += STEP)
			EXPECT(block[i][at] == mark_of(i, at), "block %u of %zu bytes, byte %zu", i, size, at);
}

static bool is_resident(const void *p)
{
	unsigned char there;
	EXPECT(mincore((void *)((uintptr_t)p & ~(uintptr_t)(HAK_PAGE - 1)), HAK_PAGE, &there) == 0, "mincore");
	return there & 1;
}

/* Each fourth block stays, and none is in a magazine. */
static void make_holes(size_t bytes)
{
	size = bytes;
	hak_fork_check(); /* links init.c */
	for (unsigned i = 0; i < BLOCKS; i++)
		touch(i);
	for (unsigned i = 0; i < BLOCKS; i++)
		if (i % 4)
			drop(i);
	hak_heap_return_cached(hak_heap_self);
}

static void drop_all(void)
{
	for (unsigned i = 0; i < BLOCKS; i++)
		if (block[i])
			drop(i);
	hak_heap_return_cached(hak_heap_self);
}

static void on_small_pages(void)
{
	suite_quiet();
	hak_option_values[HAK_OPT_thp] = 0;
}

/* The holes are free in the owner's eyes: no new slab is needed. */
static void fill_again(void)
{
	uint64_t slabs = hak_heap_self->slab_requests;
	for (unsigned i = 0; i < BLOCKS; i++)
		if (!block[i])
			touch(i);
	check_blocks();
	ck_assert_uint_eq(hak_heap_self->slab_requests, slabs);
}

/* Not resident are the pages of free blocks; so many KiB are, of the blocks' range. */
static uint64_t resident_kib(void)
{
	uint64_t kib = 0;
	for (unsigned i = 0; i < BLOCKS; i++)
		if (block[i])
			for (size_t at = 0; at < size; at += HAK_PAGE)
				kib += is_resident(block[i] + at) * HAK_PAGE / 1024;
	return kib;
}

START_TEST(free_blocks_of_whole_pages_go_back)
{
	on_small_pages();
	size = 8192;
	for (unsigned i = 0; i < BLOCKS; i++)
		touch(i);
	drop_all();
	make_holes(8192);
	uint64_t before = hak_counted(holes_released);
	size_t out = hak_heap_self->out;
	hak_reclaim_all();
	check_blocks();
	ck_assert_uint_eq(hak_heap_self->out, out);
	ck_assert_uint_eq(resident_kib(), BLOCKS / 4 * 8);
	/* but for those at a slab's end that were never used */
	ck_assert_uint_ge(hak_counted(holes_released) - before, (uint64_t)BLOCKS * 3 / 4 * 8192 * 9 / 10);
	fill_again();
}
END_TEST

static void no_size_loses_contents(size_t bytes)
{
	on_small_pages();
	make_holes(bytes);
	for (int again = 0; again < 3; again++) {
		hak_reclaim_all();
		check_blocks();
		for (unsigned i = again; i < BLOCKS; i += 3)
			if (!block[i])
				touch(i);
		for (unsigned i = 0; i < BLOCKS; i++)
			if (block[i] && i % 4)
				drop(i);
		check_blocks();
	}
	drop_all();
	hak_reclaim_all();
}

START_TEST(blocks_of_every_class_keep_their_contents)
{
	for (unsigned c = 0; c < HAK_STATIC_CLASSES; c += 5)
		if (hak_classes[c].stride <= 16384)
			no_size_loses_contents(hak_classes[c].stride);
}
END_TEST

START_TEST(what_went_back_is_counted_once)
{
	on_small_pages();
	make_holes(8192);
	hak_reclaim_all();
	uint64_t before = hak_counted(released);
	ck_assert_uint_gt(before, 0);
	hak_reclaim_all();
	ck_assert_uint_eq(hak_counted(released), before);
}
END_TEST

START_TEST(without_the_option_they_stay)
{
	on_small_pages();
	hak_option_values[HAK_OPT_holes] = 0;
	make_holes(8192);
	hak_reclaim_all();
	ck_assert_uint_eq(hak_counted(holes_released), 0);
}
END_TEST

static int refuse_to_drop(void *addr, size_t bytes, int advice)
{
	if (advice == MADV_DONTNEED) {
		errno = EINVAL;
		return -1;
	}
	return madvise(addr, bytes, advice);
}

START_TEST(what_the_kernel_refuses_stays_and_is_used_again)
{
	on_small_pages();
	hak_sys.madvise = hak_sys.madvise_own = refuse_to_drop;
	make_holes(8192);
	hak_reclaim_all();
	ck_assert_uint_eq(hak_counted(holes_released), 0);
	fill_again();
}
END_TEST

/* ---- when ---- */

static void touch_run(int i)
{
	static void *kept[400];
	kept[i] = hak_malloc(300 << 10);
	EXPECT(kept[i], "no memory");
}

static bool wait_for_more_than(uint64_t holes, int ms)
{
	for (; ms > 0 && hak_counted(holes_released) <= holes; ms -= 10)
		usleep(10000);
	return hak_counted(holes_released) > holes;
}

/* The blocks of one slab: whole pages of them are free, and one is taken and freed again all the time. */
START_TEST(a_slab_that_is_taken_from_is_left_alone)
{
	suite_stay();
	hak_option_values[HAK_OPT_thp] = 0;
	hak_option_values[HAK_OPT_decay_ms] = 400;
	size = 16; /* so many in a slab that those do not make it loose again */
	hak_fork_check();
	for (int i = 0; i < 400; i++) /* the reclaimer starts with what arenas have grown by */
		touch_run(i);
	ck_assert(hak_reclaim_running());
	for (unsigned i = 0; i < BLOCKS; i++)
		touch(i);
	for (unsigned i = 0; i < BLOCKS; i++)
		if (i / 256 % 4)
			drop(i);
	hak_heap_return_cached(hak_heap_self);
	struct timespec begin, now;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do { /* longer than the looks that come soon after a mark */
		hak_free(hak_malloc(size));
		hak_heap_return_cached(hak_heap_self);
		usleep(1000);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - begin.tv_sec < 4);
	ck_assert_uint_eq(hak_counted(holes_released), 0);
	/* and once it rests */
	ck_assert(wait_for_more_than(0, 20000));
	check_blocks();
}
END_TEST

/* ---- huge pages ---- */

static uint64_t all_mapped, all_unused;

static void count_granules(struct hak_arena *a, void *arg)
{
	(void)arg;
	for (uint32_t s = atomic_load_explicit(&a->huge_start, memory_order_relaxed) / 32; s < HAK_ARENA_SUPERS; s++) {
		all_mapped += 32;
		all_unused += hak_popcount(HAK_WORD_UNUSED(atomic_load_explicit(&a->super[s], memory_order_relaxed)));
	}
}

static void on_huge_pages(void)
{
	suite_quiet();
	hak_option_values[HAK_OPT_huge_zone_kib] = 0;
	hak_option_values[HAK_OPT_huge_proof] = 0;
	hak_option_values[HAK_OPT_ahead] = 0;
}

/* Blocks of 4 KiB: their slabs are full granules, so no granule of a SuperSlab in use is free. */
static bool split_for_holes(void)
{
	on_huge_pages();
	make_holes(4096);
	hak_reclaim_all();
	check_blocks();
	return hak_counted(splits) > 0; /* else the machine has no guard pages */
}

START_TEST(a_huge_page_is_split_for_holes)
{
	if (!split_for_holes())
		return;
	ck_assert_uint_eq(hak_counted(guards), hak_counted(splits));
	ck_assert_uint_ge(hak_counted(holes_released), (uint64_t)BLOCKS * 4096 / 2);
	/* what is free is used again, but for the block that has the guard in it */
	for (unsigned i = 0; i < BLOCKS; i++)
		if (!block[i])
			touch(i);
	check_blocks();
}
END_TEST

START_TEST(a_huge_page_that_fills_again_is_made_whole)
{
	if (!split_for_holes())
		return;
	for (unsigned i = 0; i < BLOCKS; i++)
		if (!block[i])
			touch(i);
	uint64_t guards = hak_counted(guards);
	hak_reclaim_all();
	/* of all but the last, which the blocks do not fill */
	EXPECT(hak_counted(guards) <= 1 && hak_counted(collapses) + 1 >= guards, "%zu guards, %zu before",
	       (size_t)hak_counted(guards), (size_t)guards);
	check_blocks();
}
END_TEST

START_TEST(all_of_it_free_takes_the_guards_away)
{
	if (!split_for_holes())
		return;
	drop_all();
	hak_reclaim_all();
	hak_reclaim_all();
	ck_assert_uint_eq(hak_counted(guards), 0);
	hak_arena_each(count_granules, NULL);
	ck_assert_uint_eq(all_unused, all_mapped);
	for (unsigned i = 0; i < BLOCKS; i++)
		touch(i);
	check_blocks();
}
END_TEST

/* ---- while others work ---- */

#define OWN 600u

static _Atomic bool over;

static void *works(void *arg)
{
	uint64_t state = (uintptr_t)arg + 1;
	static const char *const lost = "a block has changed";
	struct {
		unsigned char *p;
		size_t n;
	} own[OWN] = { { NULL, 0 } };
	while (!over) {
		/* up, and down to a tenth */
		for (unsigned phase = 0; phase < 2; phase++)
			for (unsigned k = 0; k < OWN; k++) {
				unsigned i = (unsigned)(suite_random(&state) % OWN);
				if (own[i].p) {
					if (own[i].p[0] != (unsigned char)i || own[i].p[own[i].n - 1] != (unsigned char)i)
						return (void *)(uintptr_t)lost;
					hak_free(own[i].p);
					own[i].p = NULL;
				}
				if (phase && k % 10)
					continue;
				own[i].n = suite_random_size(&state, 64 << 10);
				own[i].p = hak_malloc(own[i].n);
				memset(own[i].p, (int)i, own[i].n);
			}
	}
	for (unsigned i = 0; i < OWN; i++)
		hak_free(own[i].p);
	return NULL;
}

static void *gives_back(void *arg)
{
	struct timespec begin, now;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		hak_reclaim_all();
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - begin.tv_sec < 4);
	over = true;
	return (void)arg, NULL;
}

static void *either(void *arg)
{
	return arg ? works(arg) : gives_back(arg);
}

static void all_at_once(void)
{
	hak_fork_check();
	suite_threads(4, either);
	ck_assert_uint_gt(hak_counted(holes_released), 0);
}

START_TEST(threads_never_lose_a_byte)
{
	on_small_pages();
	all_at_once();
}
END_TEST

START_TEST(threads_never_lose_a_byte_on_huge_pages)
{
	on_huge_pages();
	all_at_once();
}
END_TEST

SUITE("holes", 120, CALM(free_blocks_of_whole_pages_go_back), CALM(blocks_of_every_class_keep_their_contents),
      CALM(what_went_back_is_counted_once), CALM(without_the_option_they_stay),
      CALM(what_the_kernel_refuses_stays_and_is_used_again), CALM(a_slab_that_is_taken_from_is_left_alone),
      CALM(a_huge_page_is_split_for_holes), CALM(a_huge_page_that_fills_again_is_made_whole),
      CALM(all_of_it_free_takes_the_guards_away), CALM(threads_never_lose_a_byte),
      CALM(threads_never_lose_a_byte_on_huge_pages))
