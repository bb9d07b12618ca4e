/* SPDX-License-Identifier: MIT */
/* Is each request that was not served from where it should have been counted with its reason, and said
 * if asked, no more often than asked? */
#include "failure.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ace/learn.h"
#include "counters.h"
#include "front.h"
#include "limit.h"
#include "options.h"
#include "sys/sys.h"

#include "suite.h"

#define MIB ((size_t)1 << 20)

static char said[65536];

static unsigned lines(void)
{
	unsigned n = 0;
	for (const char *s = said; (s = strchr(s, '\n')); s++)
		n++;
	return n;
}

static void ask_for_a_class_below_one_with_room(void)
{
	ck_assert_ptr_nonnull(hak_malloc(40000));
	ck_assert_ptr_nonnull(hak_malloc(33296));
}

static void ask_for_another(void)
{
	ck_assert_ptr_nonnull(hak_malloc(25000));
}

START_TEST(a_slab_made_although_a_larger_class_had_room_is_a_threshold)
{
	suite_quiet();
	suite_hear(ask_for_a_class_below_one_with_room, said, sizeof said);
	ck_assert_uint_eq(hak_counted(failure_threshold), 1);
	ck_assert_str_eq(said, ""); /* not asked */
	hak_option_values[HAK_OPT_trace_failures] = 10;
	suite_hear(ask_for_another, said, sizeof said);
	ck_assert_str_eq(said, "hakmem: not served as it should be: threshold: 26624 bytes, the least with room is 138 %\n");
	ck_assert_uint_eq(hak_counted(failure_threshold), 2);
	suite_hear(ask_for_a_class_below_one_with_room, said, sizeof said); /* those have room now */
	ck_assert_str_eq(said, "");
}
END_TEST

START_TEST(a_block_lent_within_the_bound_is_no_failure)
{
	suite_quiet();
	hak_option_values[HAK_OPT_wmax_pool] = 160;
	hak_learn_start();
	ask_for_a_class_below_one_with_room();
	ck_assert_uint_eq(hak_counted(failure_threshold), 0);
}
END_TEST

static void build_drop_and_build(void)
{
	static void *blocks[2000];
	for (int round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 2000; i++)
			blocks[i] = hak_malloc(9000);
		for (unsigned i = 0; i < 2000; i++)
			hak_free(blocks[i]);
	}
}

START_TEST(a_slab_made_after_one_went_back_for_the_cap_is_a_cap)
{
	suite_quiet();
	for (int i = 0; i < 4; i++)
		hak_malloc(9000);
	ck_assert_uint_eq(hak_counted(failure_cap), 0);
	hak_option_values[HAK_OPT_trace_failures] = 2;
	suite_hear(build_drop_and_build, said, sizeof said);
	ck_assert_uint_gt(hak_counted(failure_cap), 4);
	ck_assert_ptr_nonnull(strstr(said, "hakmem: not served as it should be: cap: 9216 bytes, 1 slabs kept\n"));
	/* two a second, and there is a second's end in between at worst */
	ck_assert_uint_ge(lines(), 2);
	ck_assert_uint_le(lines(), 6);
}
END_TEST

static void ask_for_much(void)
{
	errno = 0;
	ck_assert_ptr_null(hak_malloc(100 * MIB));
	ck_assert_int_eq(errno, 0); /* interpose.c's to set */
}

START_TEST(what_the_hard_limit_refuses_is_a_budget)
{
	suite_quiet();
	hak_option_values[HAK_OPT_trace_failures] = 100;
	hak_option_strings[HAK_STR_hard_limit] = "64M";
	hak_limit_start();
	suite_hear(ask_for_much, said, sizeof said);
	ck_assert_uint_gt(hak_counted(failure_budget), 0);
	ck_assert_uint_eq(hak_counted(failure_map), 0);
	ck_assert_ptr_nonnull(strstr(said, "should be: budget: 104857600 bytes\n"));
	uint64_t before = hak_counted(failure_budget);
	hak_option_values[HAK_OPT_trace_failures] = 0;
	while (hak_malloc(1000))
		; /* arenas are refused as well */
	ck_assert_uint_gt(hak_counted(failure_budget), before);
}
END_TEST

static void *no_mmap(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	(void)addr, (void)bytes, (void)prot, (void)flags, (void)fd, (void)offset;
	errno = EPERM;
	return MAP_FAILED;
}

START_TEST(what_the_kernel_refuses_is_a_map_with_its_errno)
{
	suite_quiet();
	hak_option_values[HAK_OPT_trace_failures] = 100;
	hak_free(hak_malloc(1));
	hak_sys.mmap = no_mmap;
	suite_hear(ask_for_much, said, sizeof said);
	ck_assert_uint_gt(hak_counted(failure_map), 0);
	ck_assert_uint_eq(hak_counted(failure_errno), EPERM);
	ck_assert_uint_eq(hak_counted(failure_budget), 0);
	ck_assert_ptr_nonnull(strstr(said, "should be: map: 104857600 bytes, errno 1\n"));
	uint64_t before = hak_counted(failure_map);
	hak_option_values[HAK_OPT_trace_failures] = 0;
	while (hak_malloc(1000))
		;
	ck_assert_uint_gt(hak_counted(failure_map), before);
}
END_TEST

static void fail_often(void)
{
	for (int i = 0; i < 10000; i++)
		hak_failure(HAK_FAILURE_MAP, 4096, ENOMEM);
}

static void fail_once(void)
{
	hak_failure(HAK_FAILURE_MAP, 4096, ENOMEM);
}

START_TEST(a_flood_is_a_few_lines_and_the_next_one_says_how_many_were_left_out)
{
	hak_option_values[HAK_OPT_trace_failures] = 3;
	suite_hear(fail_often, said, sizeof said);
	ck_assert_uint_ge(lines(), 3);
	ck_assert_uint_le(lines(), 12);
	ck_assert_uint_eq(hak_counted(failure_map), 10000);
	usleep(1100000);
	suite_hear(fail_once, said, sizeof said);
	ck_assert_uint_eq(lines(), 1);
	ck_assert_ptr_nonnull(strstr(said, " more before it)\n"));
}
END_TEST

START_TEST(another_mapping_in_the_way_is_no_failure)
{
	hak_failure_map(4096, EEXIST);
	ck_assert_uint_eq(hak_counted(failure_map), 0);
}
END_TEST

SUITE("failure", 20,
      CALM(a_slab_made_although_a_larger_class_had_room_is_a_threshold),
      CALM(a_block_lent_within_the_bound_is_no_failure),
      CALM(a_slab_made_after_one_went_back_for_the_cap_is_a_cap),
      CALM(what_the_hard_limit_refuses_is_a_budget),
      CALM(what_the_kernel_refuses_is_a_map_with_its_errno),
      CALM(a_flood_is_a_few_lines_and_the_next_one_says_how_many_were_left_out),
      CALM(another_mapping_in_the_way_is_no_failure))
