/* SPDX-License-Identifier: MIT */
/* Are limits read as written, does the hard one hold, and does the reclaimer hear of pressure? */
#include "limit.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "counters.h"
#include "front.h"
#include "init.h"
#include "options.h"
#include "reclaim.h"
#include "suite.h"
#include "sys/sys.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)

/* Files of a machine that is not this one; what is not among them is this one's. */
static struct {
	const char *path, *text;
} files[] = {
	{ "/proc/self/cgroup", "12:pids:/x\n0::/a/b\n" },
	{ "/sys/fs/cgroup/a/b/memory.max", "max\n" },
	{ "/sys/fs/cgroup/a/b/memory.high", "max\n" },
	{ "/sys/fs/cgroup/a/b/memory.current", "1000000\n" },
};
enum { CGROUP, MAX, HIGH, CURRENT, FILES };

static ssize_t (*real_read)(const char *path, char *buf, size_t cap);
static ssize_t read_fake(const char *path, char *buf, size_t cap)
{
	for (int i = 0; i < FILES; i++)
		if (strcmp(path, files[i].path) == 0) {
			strcpy(buf, files[i].text);
			return (ssize_t)strlen(buf);
		}
	return real_read(path, buf, cap);
}

static void fake_cgroup(void)
{
	real_read = hak_sys.read_file;
	hak_sys.read_file = read_fake;
}

static void limits(const char *soft, const char *hard)
{
	hak_option_strings[HAK_STR_soft_limit] = soft;
	hak_option_strings[HAK_STR_hard_limit] = hard;
	hak_limit_start();
}

START_TEST(sizes_are_read_as_they_are_written)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} rows[] = {
		{ "0", 0 }, { "1", 1 }, { "4096", 4096 }, { "1K", KIB }, { "512M", 512 * MIB }, { "3G", 3 * KIB * MIB },
		{ "2T", 2 * MIB * MIB }, { "50%", 500 }, { "100%", 1000 }, { "101%", 0 }, { "", 0 }, { "M", 0 },
		{ "1M ", 0 }, { " 1M", 0 }, { "-1", 0 }, { "1k", 0 }, { "1KB", 0 }, { "5%%", 0 }, { "0x10", 0 },
		{ "18446744073709551615", UINT64_MAX }, { "18446744073709551616", 0 }, { "99999999T", 0 },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		EXPECT(hak_limit_parse(rows[i].text, 1000) == rows[i].bytes, "%s: %llu", rows[i].text,
		       (unsigned long long)hak_limit_parse(rows[i].text, 1000));
}
END_TEST

START_TEST(a_share_is_one_of_the_cgroup)
{
	fake_cgroup();
	files[MAX].text = "67108864\n";
	limits(NULL, "50%");
	ck_assert(!hak_limit_take(33 * MIB));
	ck_assert(hak_limit_take(16 * MIB));
	hak_limit_give(16 * MIB);
}
END_TEST

/* Blocks of so many bytes until there is no more; frees them. Returns their sum. */
static uint64_t fill(size_t bytes)
{
	static void *blocks[8192];
	unsigned n = 0;
	while (n < 8192 && (blocks[n] = hak_malloc(bytes))) {
		memset(blocks[n], 1, bytes);
		n++;
	}
	for (unsigned i = 0; i < n; i++)
		hak_free(blocks[i]);
	return n * bytes;
}

START_TEST(the_hard_limit_holds_for_every_kind_of_block)
{
	static const size_t sizes[] = { 40000, 300 * KIB, 5 * MIB, 70 * MIB };
	suite_stay(); /* what was freed serves the node that it is of */
	limits(NULL, "256M");
	hak_option_values[HAK_OPT_decay_ms] = 3600000; /* what goes back a part at a time leaves gaps */
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		int status;
		pid_t pid = fork();
		if (pid == 0) {
			uint64_t first = fill(sizes[i]), again = fill(sizes[i]);
			/* nearly all of it, never more, and all of that once more */
			_exit(first > 256 * MIB ? 2 : first < 180 * MIB ? 3 : again + sizes[i] < first ? 4 : 0);
		}
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0, "blocks of %zu bytes: status %x", sizes[i], status);
	}
}
END_TEST

START_TEST(an_own_mapping_counts_while_it_is_there)
{
	limits(NULL, "256M");
	void *p = hak_malloc(100 * MIB);
	ck_assert_ptr_nonnull(p);
	ck_assert_ptr_null(hak_malloc(200 * MIB));
	void *q = hak_realloc(p, 200 * MIB);
	ck_assert_ptr_nonnull(q);
	ck_assert_ptr_null(hak_realloc(q, 300 * MIB));
	q = hak_realloc(q, 64 * MIB);
	p = hak_malloc(120 * MIB);
	ck_assert_ptr_nonnull(p);
	hak_free(p);
	hak_free(q);
	ck_assert_ptr_nonnull(hak_malloc(200 * MIB));
}
END_TEST

/* Asked twice: an event of the machine's own pressure is there once in two seconds at most. */
static bool presses(void)
{
	hak_limit_is_pressed();
	return hak_limit_is_pressed();
}

START_TEST(the_cgroups_limits_press_at_nine_tenths)
{
	fake_cgroup();
	limits(NULL, NULL);
	ck_assert(!presses());
	files[HIGH].text = "1111120\n";
	ck_assert(!presses());
	files[HIGH].text = "1111110\n";
	ck_assert(presses());
	files[HIGH].text = "max\n";
	files[MAX].text = "1000001\n";
	ck_assert(presses());
	files[CGROUP].text = "1:memory:/v1\n";
	ck_assert(!presses());
}
END_TEST

START_TEST(the_soft_limit_presses)
{
	limits("1K", NULL);
	ck_assert(presses());
	limits("1000T", NULL);
	ck_assert(!presses());
}
END_TEST

START_TEST(a_bad_limit_is_none)
{
	limits("many", "1Q");
	ck_assert(hak_limit_take(UINT64_C(1) << 60));
	ck_assert(!presses());
}
END_TEST

/* Descriptors of a PSI trigger that this process has. */
START_TEST(the_trigger_is_opened_once_and_again_if_it_was_closed)
{
	int status;
	limits(NULL, NULL);
	hak_fork_check(); /* links init.c: fork's handlers */
	hak_limit_is_pressed();
	int have = suite_descriptors("pressure");
	ck_assert_int_le(have, 1); /* 0: this kernel has no PSI */
	hak_limit_is_pressed();
	ck_assert_int_eq(suite_descriptors("pressure"), have);
	pid_t pid = fork();
	if (pid == 0) {
		/* it was the parent's */
		int inherited = suite_descriptors("pressure");
		syscall(SYS_close_range, 3, ~0u, 0);
		int mine = open("/dev/null", O_RDONLY);
		for (int i = 0; i < 20; i++) {
			hak_limit_is_pressed();
			if (suite_descriptors("pressure") != have && i < 5)
				_exit(3);
			if (fcntl(mine, F_GETFD) < 0)
				_exit(4); /* a file of the program's own was closed */
			syscall(SYS_close_range, mine + 1, ~0u, 0);
		}
		_exit(inherited ? 2 : 0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

/* What a tick would leave: parts of huge pages that are too small to be worth a split. */
START_TEST(under_pressure_the_reclaimer_gives_every_empty_granule_back)
{
	enum { RUNS = 48 };
	void *run[RUNS];
	limits("1K", NULL);
	hak_option_values[HAK_OPT_decay_ms] = 50;
	hak_option_values[HAK_OPT_huge_zone_kib] = 0;
	hak_option_values[HAK_OPT_huge_price] = 0;
	hak_option_values[HAK_OPT_huge_proof] = 0;
	hak_free(hak_malloc(64 * MIB - 1)); /* so that the reclaimer starts */
	for (int i = 0; i < RUNS; i++)
		memset(run[i] = hak_malloc(320 * KIB), 1, 320 * KIB);
	for (int i = 0; i < RUNS; i += 6)
		hak_free(run[i]); /* 5 granules of each 32 */
	for (int i = 0; i < 400 && hak_counted(splits) < RUNS / 6; i++)
		usleep(10000);
	ck_assert(hak_reclaim_running());
	ck_assert_uint_gt(hak_counted(pressed), 0);
	ck_assert_uint_ge(hak_counted(splits), RUNS / 6);
}
END_TEST

START_TEST(pressure_does_not_wait_for_a_long_decay)
{
	limits("1K", NULL);
	hak_option_values[HAK_OPT_decay_ms] = 3600000;
	hak_free(hak_malloc(64 * MIB - 1)); /* so that the reclaimer starts */
	void *p = hak_malloc(4 * MIB);
	memset(p, 1, 4 * MIB);
	hak_free(p);
	for (int i = 0; i < 2000 && hak_counted(released) < 4 * MIB; i++)
		usleep(10000);
	ck_assert(hak_reclaim_running());
	ck_assert_uint_ge(hak_counted(released), 4 * MIB);
}
END_TEST

SUITE("limit", 60, CALM(sizes_are_read_as_they_are_written), CALM(a_share_is_one_of_the_cgroup),
      CALM(the_hard_limit_holds_for_every_kind_of_block), CALM(an_own_mapping_counts_while_it_is_there),
      CALM(the_cgroups_limits_press_at_nine_tenths), CALM(the_soft_limit_presses), CALM(a_bad_limit_is_none),
      CALM(the_trigger_is_opened_once_and_again_if_it_was_closed),
      CALM(under_pressure_the_reclaimer_gives_every_empty_granule_back),
      CALM(pressure_does_not_wait_for_a_long_decay))
