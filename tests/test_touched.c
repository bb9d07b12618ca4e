/* SPDX-License-Identifier: MIT */
/* Do large blocks lie on huge pages if the program fills them, and only then? */
#include "touched.h"

#include <errno.h>
#include <sys/resource.h>

#include "counters.h"
#include "front.h"
#include "heap.h"
#include "numa/node.h"
#include "options.h"
#include "reclaim.h"
#include "sys/sys.h"

#include "suite.h"

#define MIB ((size_t)1 << 20)
#define KIB ((size_t)1 << 10)

static bool on_huge_zone(const void *p)
{
	const struct hak_arena *a = hak_arena_of(p);
	return a->huge_spans || hak_granule_of((void *)(uintptr_t)p) >= a->huge_start;
}

/* The reclaimer has looked, if it was asked to. */
static void settle(void)
{
	if (!hak_touched_asked())
		return;
	for (int i = 0; i < 10000 && hak_touched_asked(); i++)
		usleep(1000);
	EXPECT(!hak_touched_asked(), "nobody looks");
}

/* Makes `bytes` of blocks and writes to `part` percent of each. Which share of them, in percent, lies in
 * the huge zone? */
static unsigned huge_share(size_t bytes, size_t size, unsigned part)
{
	unsigned huge = 0, count = (unsigned)(bytes / size);
	for (unsigned i = 0; i < count; i++) {
		char *p = hak_malloc(size);
		EXPECT(p, "no memory");
		memset(p, 1, size * part / 100);
		huge += on_huge_zone(p);
		settle();
	}
	return huge * 100 / count;
}

/* Past the bytes that lie on small pages in any heap. */
static void begin(void)
{
	suite_stay();
	hak_option_values[HAK_OPT_decay_ms] = 3600000;
	hak_option_values[HAK_OPT_ahead] = 0;
	hak_option_values[HAK_OPT_huge_price] = 0;
	hak_free(hak_malloc(64 * MIB)); /* so that the reclaimer starts */
	ck_assert_uint_le(huge_share((size_t)hak_option_get(HAK_OPT_huge_zone_kib) * KIB, 512, 100), 10);
}

START_TEST(small_blocks_lie_on_huge_pages_in_any_case)
{
	begin();
	ck_assert_uint_ge(huge_share(16 * MIB, 512, 1), 75);
}
END_TEST

START_TEST(large_blocks_that_are_filled_lie_on_huge_pages)
{
	begin();
	ck_assert_uint_ge(huge_share(24 * MIB, 60 * KIB, 100), 75);
	ck_assert_uint_ge(huge_share(24 * MIB, 20 * KIB, 100), 75);
	ck_assert_uint_ge(huge_share(64 * MIB, 700 * KIB, 100), 75);
}
END_TEST

START_TEST(large_blocks_of_which_a_part_is_used_do_not)
{
	begin();
	ck_assert_uint_eq(huge_share(24 * MIB, 60 * KIB, 40), 0);
	ck_assert_uint_eq(huge_share(24 * MIB, 20 * KIB, 40), 0);
	ck_assert_uint_eq(huge_share(24 * MIB, 700 * KIB, 40), 0);
}
END_TEST

START_TEST(each_class_for_itself)
{
	begin();
	huge_share(16 * MIB, 60 * KIB, 100);
	huge_share(16 * MIB, 30 * KIB, 10);
	huge_share(16 * MIB, 700 * KIB, 10);
	ck_assert_uint_ge(huge_share(8 * MIB, 60 * KIB, 100), 90);
	/* but for room in huge pages that are there anyhow */
	ck_assert_uint_le(huge_share(8 * MIB, 30 * KIB, 10), 25);
	ck_assert_uint_le(huge_share(8 * MIB, 700 * KIB, 10), 25);
}
END_TEST

/* A table that is allocated first and filled later. Of `more` bytes asked for then, how much lies on huge
 * pages, in percent? */
static unsigned share_after_filling(unsigned count, size_t size, size_t more)
{
	static char *held[400];
	begin();
	for (unsigned i = 0; i < count; i++) {
		EXPECT((held[i] = hak_malloc(size)), "no memory");
		settle();
	}
	ck_assert(!on_huge_zone(held[count - 1]));
	for (unsigned i = 0; i < count; i++)
		memset(held[i], 1, size);
	return huge_share(more, size, 100);
}

START_TEST(what_is_filled_later_is_seen_when_more_is_asked_for)
{
	ck_assert_uint_ge(share_after_filling(400, 60 * KIB, 24 * MIB), 50);
}
END_TEST

/* Free blocks' pages that went back say nothing about what is filled. */
START_TEST(what_was_given_back_does_not_count)
{
	static char *held[100];
	unsigned class = hak_route_class(60 * KIB);
	begin();
	for (int i = 0; i < 100; i++) {
		EXPECT((held[i] = hak_malloc(60 * KIB)), "no memory");
		memset(held[i], 1, 60 * KIB);
	}
	hak_touched_ask(0, class, 10000);
	settle();
	ck_assert(!on_huge_zone(held[20]) && hak_touched(class));
	for (int i = 0; i < 100; i++)
		if (i % 4)
			hak_free(held[i]);
	hak_heap_return_cached(hak_heap_self);
	hak_reclaim_all();
	ck_assert_uint_gt(hak_counted(holes_released), 0);
	hak_touched_ask(0, class, 100000);
	settle();
	ck_assert(hak_touched(class));
}
END_TEST

START_TEST(the_first_blocks_above_1_mib_lie_on_huge_pages_unseen)
{
	begin();
	ck_assert_uint_eq(huge_share(30 * MIB, 3 * MIB, 1), 100);
}
END_TEST

START_TEST(later_ones_do_if_they_are_filled)
{
	begin();
	huge_share(60 * MIB, 3 * MIB, 100);
	ck_assert_uint_eq(huge_share(60 * MIB, 3 * MIB, 100), 100);
}
END_TEST

START_TEST(later_ones_of_which_a_part_is_used_do_not)
{
	begin();
	huge_share(45 * MIB, 3 * MIB, 30);
	ck_assert_uint_eq(huge_share(200 * MIB, 3 * MIB, 30), 0);
	/* and from 8 MiB on all */
	ck_assert_uint_eq(huge_share(200 * MIB, 8 * MIB, 10), 100);
}
END_TEST

/* What of them was touched nobody knows: the rest would cost huge pages. */
START_TEST(they_do_not_take_free_runs_on_huge_pages_either)
{
	begin();
	huge_share(45 * MIB, 3 * MIB, 30);
	hak_free(hak_malloc(60 * MIB));
	ck_assert_uint_eq(huge_share(100 * MIB, 3 * MIB, 30), 0);
}
END_TEST

/* The newest, and those that wait to be used. */
START_TEST(blocks_above_1_mib_of_which_nothing_is_used_say_nothing)
{
	char *p;
	begin();
	huge_share(42 * MIB, 3 * MIB, 30);
	ck_assert(!hak_touched(HAK_TOUCHED_SPANS));
	for (int i = 0; i < 40; i++) {
		EXPECT((p = hak_malloc(7 * MIB)), "no memory");
		settle();
		if (i % 2)
			memset(p, 1, 7 * MIB);
	}
	ck_assert(hak_touched(HAK_TOUCHED_SPANS));
}
END_TEST

START_TEST(blocks_above_1_mib_that_are_filled_later_are_seen)
{
	ck_assert_uint_ge(share_after_filling(64, 3 * MIB, 120 * MIB), 75);
}
END_TEST

START_TEST(blocks_on_small_pages_grow_there_up_to_a_size)
{
	char *p, *q;
	begin();
	huge_share(45 * MIB, 3 * MIB, 30);
	EXPECT((p = hak_malloc(3 * MIB)), "no memory");
	ck_assert(!on_huge_zone(p));
	memset(p, 7, 3 * MIB);
	ck_assert_ptr_eq(hak_realloc(p, 8 * MIB - HAK_GRANULE), p);
	EXPECT((q = hak_realloc(p, 8 * MIB)), "no memory");
	ck_assert(on_huge_zone(q));
	for (size_t i = 0; i < 3 * MIB; i++)
		EXPECT(q[i] == 7, "byte %zu is %d", i, q[i]);
}
END_TEST

static ssize_t refused(int fd, uint64_t at, void *buf, size_t bytes)
{
	(void)fd, (void)at, (void)buf, (void)bytes;
	errno = EACCES;
	return -1;
}

START_TEST(where_nothing_can_be_seen_they_lie_on_huge_pages)
{
	hak_sys.read_at = refused;
	begin();
	ck_assert_uint_ge(huge_share(16 * MIB, 60 * KIB, 1), 75);
	ck_assert_uint_ge(huge_share(16 * MIB, 700 * KIB, 1), 75);
	ck_assert_uint_ge(huge_share(160 * MIB, 3 * MIB, 1), 75);
}
END_TEST

START_TEST(where_no_file_can_be_opened_they_lie_on_huge_pages)
{
	struct rlimit limit, none;
	begin(); /* the reclaimer, which starts only where it can read /proc */
	ck_assert(!getrlimit(RLIMIT_NOFILE, &limit));
	none = (struct rlimit){ 0, limit.rlim_max };
	ck_assert(!setrlimit(RLIMIT_NOFILE, &none));
	unsigned share = huge_share(16 * MIB, 60 * KIB, 1);
	ck_assert(!setrlimit(RLIMIT_NOFILE, &limit)); /* LeakSanitizer opens files at the end */
	ck_assert_uint_ge(share, 75);
}
END_TEST

START_TEST(without_the_option_all_lie_on_huge_pages)
{
	hak_sys.read_at = NULL; /* a call would crash */
	hak_option_values[HAK_OPT_huge_proof] = 0;
	begin();
	ck_assert_uint_ge(huge_share(16 * MIB, 60 * KIB, 1), 90);
}
END_TEST

START_TEST(where_nobody_looks_they_lie_on_huge_pages)
{
	suite_quiet();
	begin();
	ck_assert_uint_ge(huge_share(16 * MIB, 60 * KIB, 1), 90);
}
END_TEST

START_TEST(a_heap_that_asks_starts_the_reclaimer)
{
	char *p;
	hak_option_values[HAK_OPT_huge_zone_kib] = 0;
	for (size_t i = 0; i < 8 * MIB; i += 60 * KIB) {
		EXPECT((p = hak_malloc(60 * KIB)), "no memory");
		memset(p, 1, 60 * KIB);
	}
	for (int i = 0; i < 10000 && (!hak_reclaim_running() || hak_touched_asked()); i++)
		usleep(1000);
	ck_assert(hak_reclaim_running());
	ck_assert(!hak_touched_asked());
}
END_TEST

START_TEST(without_huge_pages_nothing_is_asked)
{
	hak_sys.read_at = NULL; /* as above */
	hak_option_values[HAK_OPT_thp] = 0;
	begin();
	ck_assert_uint_eq(huge_share(16 * MIB, 60 * KIB, 100), 0);
}
END_TEST

SUITE("touched", 30, CALM(what_was_given_back_does_not_count), CALM(small_blocks_lie_on_huge_pages_in_any_case), CALM(large_blocks_that_are_filled_lie_on_huge_pages),
      CALM(large_blocks_of_which_a_part_is_used_do_not), CALM(each_class_for_itself),
      CALM(the_first_blocks_above_1_mib_lie_on_huge_pages_unseen), CALM(later_ones_do_if_they_are_filled),
      CALM(later_ones_of_which_a_part_is_used_do_not), CALM(they_do_not_take_free_runs_on_huge_pages_either), CALM(blocks_above_1_mib_that_are_filled_later_are_seen),
      CALM(blocks_above_1_mib_of_which_nothing_is_used_say_nothing),
      CALM(blocks_on_small_pages_grow_there_up_to_a_size),
      CALM(what_is_filled_later_is_seen_when_more_is_asked_for), CALM(where_nothing_can_be_seen_they_lie_on_huge_pages),
      CALM(where_no_file_can_be_opened_they_lie_on_huge_pages), CALM(without_the_option_all_lie_on_huge_pages),
      CALM(where_nobody_looks_they_lie_on_huge_pages), CALM(a_heap_that_asks_starts_the_reclaimer),
      CALM(without_huge_pages_nothing_is_asked))
