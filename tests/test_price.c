/* SPDX-License-Identifier: MIT */
/* Do slabs lie on huge pages where those are cheap, and on small ones where they are dear? */
#include "price.h"

#include <errno.h>
#include <sys/mman.h>
#include <time.h>

#include "counters.h"
#include "front.h"
#include "numa/arena.h"
#include "numa/judge.h"
#include "options.h"
#include "reclaim.h"
#include "suite.h"
#include "sys/sys.h"

#define MIB ((size_t)1 << 20)
#define DEAR_MS 1000 /* more than twice what small pages cost on a busy emulated machine */

static _Atomic int cost_ms; /* of a huge page, in CPU time */
static _Atomic bool refuses;

/* The page is made ready by its first touch, as in a kernel that does so at once. */
static int populate(void *addr, size_t bytes, int advice)
{
	if (advice != MADV_POPULATE_WRITE)
		return madvise(addr, bytes, advice);
	if (refuses) {
		errno = EINVAL;
		return -1;
	}
	uint64_t end = hak_price_clock() + (uint64_t)cost_ms * 1000000;
	while (hak_price_clock() < end)
		;
	return 0;
}

static void begin(int ms)
{
	cpu_set_t cpus;
	if (judge_cpus(0, &cpus)) /* the heap of another node has small pages first */
		sched_setaffinity(0, sizeof cpus, &cpus);
	cost_ms = ms;
	hak_sys.madvise = populate;
	hak_option_values[HAK_OPT_decay_ms] = 200; /* a look each 100 ms */
	hak_option_values[HAK_OPT_ahead] = 1;
	hak_option_values[HAK_OPT_huge_zone_kib] = 8192;
}

/* What it costs is known, as far as it was asked for. */
static void settle(void)
{
	for (int i = 0; i < 20000 && hak_price_asked(); i++)
		usleep(1000);
}

/* Makes so many bytes of small blocks. Which share of them, in percent, lies in the huge zone? */
static unsigned huge_share(size_t bytes)
{
	const size_t size = 512;
	unsigned huge = 0, count = (unsigned)(bytes / size);
	for (unsigned i = 0; i < count; i++) {
		char *p = hak_malloc(size);
		EXPECT(p, "no memory");
		huge += hak_granule_of(p) >= hak_arena_of(p)->huge_start;
		if (i % 2048 == 0 && cost_ms == 0)
			settle();
	}
	return huge * 100 / count;
}

START_TEST(cheap_ones_are_used)
{
	begin(0);
	huge_share(10 * MIB); /* on small pages in any heap */
	settle();
	ck_assert_uint_ge(huge_share(32 * MIB), 80);
	ck_assert_uint_eq(hak_counted(dear_pages), 0);
}
END_TEST

START_TEST(dear_ones_are_not)
{
	begin(DEAR_MS);
	huge_share(10 * MIB);
	settle();
	ck_assert_uint_ge(hak_counted(dear_pages), 1);
	/* but for those that were tried */
	ck_assert_uint_le(huge_share(32 * MIB), 25);
}
END_TEST

START_TEST(what_becomes_cheap_is_used_again)
{
	begin(DEAR_MS);
	huge_share(10 * MIB);
	settle();
	ck_assert_uint_ge(hak_counted(dear_pages), 1);
	cost_ms = 0;
	for (int i = 0; i < 100 && huge_share(MIB) < 100; i++)
		usleep(100000);
	ck_assert_uint_ge(huge_share(32 * MIB), 80);
}
END_TEST

/* Made ready ahead of the heap, and dear by now. */
START_TEST(what_becomes_dear_is_noticed)
{
	cpu_set_t cpus;
	begin(0);
	huge_share(10 * MIB);
	settle();
	ck_assert_uint_ge(huge_share(16 * MIB), 80);
	if (sched_getaffinity(0, sizeof cpus, &cpus) || CPU_COUNT(&cpus) < 2)
		return; /* nothing is made ready ahead */
	cost_ms = DEAR_MS;
	for (int i = 0; i < 1000 && !hak_counted(dear_pages); i++) {
		huge_share(4 * MIB);
		usleep(20000);
	}
	ck_assert_uint_ge(hak_counted(dear_pages), 1);
}
END_TEST

START_TEST(where_none_can_be_made_ready_they_are_used)
{
	begin(DEAR_MS);
	refuses = true;
	huge_share(10 * MIB);
	settle();
	ck_assert_uint_ge(huge_share(32 * MIB), 80);
}
END_TEST

START_TEST(without_the_option_they_are_used_whatever_they_cost)
{
	begin(DEAR_MS);
	hak_option_values[HAK_OPT_huge_price] = 0;
	hak_option_values[HAK_OPT_ahead] = 0;
	huge_share(10 * MIB);
	ck_assert_uint_ge(huge_share(32 * MIB), 80);
	ck_assert_uint_eq(hak_counted(dear_pages), 0);
}
END_TEST

START_TEST(without_a_reclaimer_they_are_used)
{
	begin(DEAR_MS);
	suite_quiet();
	huge_share(10 * MIB);
	ck_assert_uint_ge(huge_share(32 * MIB), 80);
}
END_TEST

SUITE("price", 60, CALM(cheap_ones_are_used), CALM(dear_ones_are_not), CALM(what_becomes_cheap_is_used_again),
      CALM(what_becomes_dear_is_noticed), CALM(where_none_can_be_made_ready_they_are_used),
      CALM(without_the_option_they_are_used_whatever_they_cost), CALM(without_a_reclaimer_they_are_used))
