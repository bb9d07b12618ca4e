/* SPDX-License-Identifier: MIT */
/* Are slabs there before they are asked for, for whoever needs them first, and does the health check
 * say what is amiss, and only that? */
#include "ace/prewarm.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ace/ace.h"
#include "ace/health.h"
#include "front.h"
#include "init.h"
#include "options.h"
#include "reclaim.h"

#include "suite.h"

static char said[65536];

static void start(void)
{
	hak_prewarm_start();
}

static void ask(const char *what)
{
	hak_option_strings[HAK_STR_prewarm] = what;
	suite_hear(start, said, sizeof said);
}

static struct hak_prewarmed figures(unsigned i)
{
	struct hak_prewarmed p = { .class = 0 };
	EXPECT(hak_prewarm_figures(i, &p), "there is no number %u", i);
	return p;
}

static uint64_t slabs_made(void)
{
	const uint64_t *s = hak_heap_self->stages;
	return s[HAK_STAGE_NEAR] + s[HAK_STAGE_EMPTY] + s[HAK_STAGE_UNUSED] + s[HAK_STAGE_NEW];
}

START_TEST(what_is_no_list_of_sizes_and_counts_gives_one_line_and_nothing)
{
	static const char *const bad[] = { "33K", "33K:", ":64", "33K:64,", ",33K:64", "33K:0", "0:64", "33K:64 ", "257K:1", "33G:1",
					   "5%:1", "1000:5%", "-1:4", "33K:64;9K:1", "33K:99999999999999999999", "64:1000000M",
					   "1:1,2:1,3:1,4:1,5:1,6:1,7:1,8:1,9:1,1:1,2:1,3:1,4:1,5:1,6:1,7:1,8:1" };
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct hak_prewarmed p;
		ask(bad[i]);
		char *end = strchr(said, '\n');
		EXPECT(end && !end[1] && strstr(said, "HAKMEM_PREWARM") && strstr(said, bad[i]), "%s: %s", bad[i], said);
		EXPECT(!hak_prewarm_due() && !hak_prewarm_figures(0, &p), "%s was not ignored", bad[i]);
	}
}
END_TEST

START_TEST(slabs_are_there_in_memory_and_serve_the_first_requests)
{
	suite_quiet();
	hak_free(hak_malloc(1));
	ask("33K:64,9000:100,1M:1");
	ck_assert_str_ne(said, ""); /* a run is no slab's block */
	ask("33K:64,9000:100");
	ck_assert_str_eq(said, "");
	ck_assert_uint_eq(figures(0).ready, 0);
	hak_prewarm_fill();
	hak_prewarm_fill(); /* once is enough */
	struct hak_prewarmed first = figures(0), second = figures(1);
	ck_assert_uint_ge(first.ready * hak_classes[first.class].capacity, 64);
	ck_assert_uint_eq(first.ready, first.wanted);
	ck_assert_uint_ge(second.ready * hak_classes[second.class].capacity, 100);
	struct hak_heap *stock = hak_heap_stock(hak_heap_self->node);
	const char *base = stock->classes[first.class].head->base;
	unsigned char there[2] = { 0, 0 };
	ck_assert_int_eq(mincore((void *)(uintptr_t)base, 2 * HAK_PAGE, there), 0);
	EXPECT(there[0] & there[1] & 1, "the slab is not in memory");
	uint64_t made = slabs_made();
	for (unsigned i = 0; i < 64; i++)
		memset(hak_malloc(33 * 1024), 1, 33 * 1024);
	for (unsigned i = 0; i < 100; i++)
		memset(hak_malloc(9000), 1, 9000);
	ck_assert_uint_eq(slabs_made(), made);
	ck_assert_uint_gt(figures(0).taken, 0);
	ck_assert_uint_gt(figures(1).taken, 0);
}
END_TEST

static void *take_some(void *arg)
{
	(void)arg;
	uint64_t before = figures(0).taken;
	for (unsigned i = 0; i < 8; i++)
		if (!hak_malloc(33 * 1024))
			return "no memory";
	return figures(0).taken > before ? NULL : "a thread did not get its slab";
}

START_TEST(threads_share_them_and_a_child_has_them_as_well)
{
	suite_quiet();
	hak_free(hak_malloc(1));
	ask("33K:64");
	hak_prewarm_fill();
	suite_threads(1, take_some);
	int status = -1;
	pid_t child = fork();
	if (child == 0)
		_exit(take_some(NULL) != NULL);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	ck_assert_ptr_null(take_some(NULL));
}
END_TEST

START_TEST(they_outlive_decay_and_go_back_when_everything_must)
{
	suite_quiet();
	hak_free(hak_malloc(1));
	ask("33K:64");
	hak_prewarm_fill();
	struct hak_heap *stock = hak_heap_stock(hak_heap_self->node);
	unsigned class = figures(0).class;
	for (unsigned pass = 0; pass < 10; pass++)
		hak_heap_visit(stock, 1);
	ck_assert_uint_eq(stock->classes[class].slabs, figures(0).ready);
	hak_reclaim_all();
	ck_assert_uint_eq(stock->classes[class].slabs, 0);
	ck_assert_ptr_nonnull(hak_malloc(33 * 1024));
	ck_assert_uint_eq(figures(0).taken, 0);
}
END_TEST

/* ---- health ------------------------------------------------------------------------------ */

static uint64_t now_ms = 1000;

static void judge(void)
{
	hak_health_judge(now_ms += 1000);
}

/* So much was asked of the class, of which a part needed new slabs. */
static void window(unsigned class, uint64_t asked, uint64_t made)
{
	hak_ace_totals[class].asked_kib += asked;
	hak_ace_totals[class].made_kib += made;
	suite_hear(judge, said, sizeof said);
}

START_TEST(a_class_that_keeps_missing_is_named_once_and_one_that_does_not_never)
{
	unsigned class = hak_route_static_class(33296);
	for (unsigned i = 0; i < 3; i++) {
		window(class, 10000, 9000);
		EXPECT(!*said, "after %u windows: %s", i + 1, said);
	}
	window(class, 100, 100); /* too little to judge by */
	ck_assert_str_eq(said, "");
	window(class, 10000, 9000);
	ck_assert_str_eq(said, "hakmem: health: blocks of 36864 bytes keep missing: only 9 % came from slabs that were there\n");
	window(class, 10000, 9000);
	ck_assert_str_eq(said, "");
	/* it recovers, and fails again */
	window(class, 10000, 100);
	for (unsigned i = 0; i < 4; i++)
		window(class, 10000, 9000);
	ck_assert_str_ne(said, "");
	for (unsigned i = 0; i < 20; i++) {
		window(class + 1, 10000, i % 3 ? 9000 : 100);
		EXPECT(!*said, "it did not keep missing: %s", said);
	}
}
END_TEST

START_TEST(hits_and_misses_are_counted_by_class)
{
	static void *blocks[1000];
	suite_quiet();
	unsigned class = hak_route_static_class(9000);
	for (unsigned i = 0; i < 1000; i++)
		blocks[i] = hak_malloc(9000);
	uint64_t missed = hak_health_class(class).missed_kib;
	ck_assert_uint_gt(missed, 8000);
	/* every other block goes and comes: their slabs are there */
	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < 1000; i += 2)
			hak_free(blocks[i]);
		for (unsigned i = 0; i < 1000; i += 2)
			blocks[i] = hak_malloc(9000);
	}
	ck_assert_uint_lt(hak_health_class(class).missed_kib, missed + 1000);
	ck_assert_uint_gt(hak_health_class(class).hit_kib, 8000);
	ck_assert_uint_eq(hak_health_class(class + 8).missed_kib, 0);
}
END_TEST

START_TEST(slabs_that_nobody_uses_are_named_after_a_while_or_at_exit)
{
	suite_quiet();
	hak_free(hak_malloc(1));
	ask("33K:64,9000:100");
	hak_prewarm_fill();
	ck_assert_ptr_nonnull(hak_malloc(9000));
	suite_hear(hak_health_exit, said, sizeof said);
	ck_assert_str_eq(said, ""); /* not asked */
	hak_option_values[HAK_OPT_ace_health] = 1;
	suite_hear(judge, said, sizeof said);
	ck_assert_str_eq(said, ""); /* too early */
	now_ms += 60000;
	suite_hear(judge, said, sizeof said);
	ck_assert_ptr_nonnull(strstr(said, "hakmem: health: blocks of 36864 bytes: none of "));
	ck_assert_ptr_null(strstr(said, "9216"));
	suite_hear(hak_health_exit, said, sizeof said);
	ck_assert_str_eq(said, ""); /* once */
}
END_TEST

SUITE("prewarm", 30,
      CALM(what_is_no_list_of_sizes_and_counts_gives_one_line_and_nothing),
      CALM(slabs_are_there_in_memory_and_serve_the_first_requests),
      CALM(threads_share_them_and_a_child_has_them_as_well),
      CALM(they_outlive_decay_and_go_back_when_everything_must),
      CALM(a_class_that_keeps_missing_is_named_once_and_one_that_does_not_never),
      CALM(hits_and_misses_are_counted_by_class),
      CALM(slabs_that_nobody_uses_are_named_after_a_while_or_at_exit))
