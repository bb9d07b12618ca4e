/* SPDX-License-Identifier: MIT */
/*
 * Do the statistics add up, as a snapshot, as a table and as JSON, and can they be taken at
 * any time?
 */
#include "stats.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "counters.h"
#include "fresh.h"
#include "front.h"
#include "hakmem/hakmem.h"
#include "heap.h"
#include "numa/node.h"
#include "numa/own.h"
#include "options.h"
#include "reclaim.h"
#include "record.h"
#include "route.h"

#include "suite.h"

#define MIB ((size_t)1 << 20)

static char text[65536];

static void use_all_tiers(void)
{
	static const size_t sizes[] = { 10, 100, 1000, 5000, 50000, 100000, 500000, 3 * MIB, 70 * MIB };
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		for (int k = 0; k < 20; k++) {
			void *p = hak_malloc(sizes[i]);
			EXPECT(p, "no memory");
			*(char *)p = 1;
			if (k || sizes[i] > 4 * MIB)
				hak_free(p);
		}
	}
	hak_free(hak_malloc(70 * MIB));
}

/* ---- the table --------------------------------------------------------------------------- */

static void read_table(void)
{
	FILE *f = tmpfile();
	EXPECT(f, "no file");
	int fd = fileno(f);
	hak_stats_table(hak_stats_to_fd, &fd);
	rewind(f);
	text[fread(text, 1, sizeof text - 1, f)] = 0;
	fclose(f);
}

/* The number in the row that begins with name; -1 if there is none. */
static long row(const char *from, const char *name)
{
	for (const char *line = from; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		size_t n = strlen(name);
		while (*line == ' ')
			line++;
		if (!strncmp(line, name, n) && line[n] == ' ')
			return strtol(line + n, NULL, 10);
	}
	return -1;
}

START_TEST(the_first_table_adds_up_to_what_is_mapped)
{
	suite_quiet();
	use_all_tiers();
	void *own = hak_malloc(80 * MIB);
	read_table();
	const char *first = strchr(text, '\n');
	long slabs = row(first, "slabs and runs"), spans = row(first, "span arenas"), own_kib = row(first, "own mappings"),
	     metadata = row(first, "metadata"), total = row(first, "total mapped");
	ck_assert_int_gt(slabs, 0);
	ck_assert_int_gt(spans, 0);
	ck_assert_int_eq(own_kib, 80 * 1024);
	ck_assert_int_gt(metadata, 0);
	ck_assert_int_eq(slabs + spans + own_kib + metadata, total);
	struct hakmem_stats s;
	hak_stats_snapshot(&s);
	ck_assert_int_eq(total, (long)(s.mapped / 1024));
	hak_free(own);
}
END_TEST

START_TEST(the_table_says_what_each_tier_holds)
{
	suite_quiet();
	void *p[] = { hak_malloc(1000), hak_malloc(20480), hak_malloc(100000), hak_malloc(700000), hak_malloc(5 * MIB) };
	read_table();
	ck_assert_int_eq(row(text, "pool live"), (long)hak_usable_size(p[1]) / 1024);
	ck_assert_int_eq(row(text, "l25 live"), (long)(hak_usable_size(p[2]) + hak_usable_size(p[3])) / 1024);
	ck_assert_int_eq(row(text, "huge live"), 5 * 1024);
	ck_assert_int_eq(row(text, "tiny live"), (long)hak_usable_size(p[0]) / 1024);
	ck_assert_int_eq(row(text, "fallbacks"), 0);
	ck_assert_int_eq(row(text, "failed requests"), 0);
	ck_assert_int_eq(row(text, "heaps"), 1);
	for (size_t i = 0; i < sizeof p / sizeof *p; i++)
		hak_free(p[i]);
}
END_TEST

START_TEST(resident_memory_is_what_was_touched)
{
	suite_quiet();
	char *p = hak_malloc(700000); /* a run of the node */
	read_table();
	long before = row(text, "resident");
	memset(p, 1, 700000);
	read_table();
	ck_assert_int_ge(row(text, "resident") - before, 700000 / 1024 - 8);
	ck_assert_int_le(row(text, "resident"), row(strstr(text, "node 0"), "mapped"));
	hak_free(p);
}
END_TEST

/* ---- JSON ----------------------------------------------------------------------------------- */

/* A strict reader of the JSON subset without escapes; each returns where it ended, NULL: no JSON. */
static const char *json_value(const char *s, int depth);

static const char *json_string(const char *s)
{
	if (*s++ != '"')
		return NULL;
	while (*s && *s != '"' && *s != '\\' && *s >= ' ')
		s++;
	return *s == '"' ? s + 1 : NULL;
}

static const char *json_list(const char *s, char end, int depth)
{
	if (*++s == end)
		return s + 1;
	for (;;) {
		if (end == '}') {
			s = json_string(s);
			if (!s || *s++ != ':')
				return NULL;
		}
		s = json_value(s, depth + 1);
		if (!s)
			return NULL;
		if (*s == end)
			return s + 1;
		if (*s++ != ',')
			return NULL;
	}
}

static const char *json_value(const char *s, int depth)
{
	if (depth > 20)
		return NULL;
	if (*s == '{')
		return json_list(s, '}', depth);
	if (*s == '[')
		return json_list(s, ']', depth);
	if (*s == '"')
		return json_string(s);
	if (*s == '0')
		return s + 1;
	if (*s < '1' || *s > '9')
		return NULL;
	return s + strspn(s, "0123456789");
}

/* The value of "key": from here on; -1 if there is none. */
static int64_t value_of(const char *from, const char *key)
{
	char quoted[64];
	snprintf(quoted, sizeof quoted, "\"%s\":", key);
	const char *at = from ? strstr(from, quoted) : NULL;
	return at ? (int64_t)strtoull(at + strlen(quoted), NULL, 10) : -1;
}

static void write_json(const char *option, const char *path)
{
	hak_option_strings[HAK_STR_stats] = option;
	hak_record_start();
	hak_record_exit();
	hak_option_strings[HAK_STR_stats] = NULL; /* not again at exit */
	hak_record_start();
	FILE *f = fopen(path, "re");
	EXPECT(f, "no %s", path);
	text[fread(text, 1, sizeof text - 1, f)] = 0;
	fclose(f);
	unlink(path);
}

static const char *option_for(const char *path)
{
	static char option[300];
	snprintf(option, sizeof option, "json:%s", path);
	return option;
}

static const char *temporary(void)
{
	static char path[200];
	const char *dir = getenv("TMPDIR");
	snprintf(path, sizeof path, "%s/hakmem-stats.%d", dir ? dir : "/tmp", (int)getpid());
	return path;
}

START_TEST(the_json_is_well_formed_and_has_every_promised_key)
{
	static const char *const top[] = { "mapped", "live", "cached", "metadata", "fallbacks", "remote_frees", "foreign_frees",
					   "failed", "heaps", "released", "span_mapped", "own_mapped", "slab_mapped", "topologies" };
	static const char *const node[] = { "mapped", "resident", "huge", "live", "remote_frees", "superslabs", "spilled" };
	static const char *const engines[] = { "placement", "reclaim", "guard" };
	suite_quiet();
	use_all_tiers();
	write_json(option_for(temporary()), temporary());
	const char *end = json_value(text, 0);
	ck_assert_msg(end && !strcmp(end, "\n"), "not JSON from here: %.40s", end ? end : text);
	for (size_t i = 0; i < sizeof top / sizeof *top; i++)
		EXPECT(value_of(text, top[i]) >= 0, "no \"%s\"", top[i]);
	const char *nodes = strstr(text, "\"nodes\":["), *stages = strstr(text, "\"stages\":{"), *eng = strstr(text, "\"engines\":{");
	ck_assert(nodes && stages && eng);
	ck_assert(strstr(text, "\"remote_matrix\":[["));
	for (size_t i = 0; i < sizeof node / sizeof *node; i++)
		EXPECT(value_of(nodes, node[i]) >= 0, "no node's \"%s\"", node[i]);
	for (size_t i = 0; i < sizeof engines / sizeof *engines; i++)
		EXPECT(strstr(eng, engines[i]), "no engine \"%s\"", engines[i]);
	ck_assert(strstr(eng, "\"bind\"") || strstr(eng, "\"first-touch\""));
	ck_assert(strstr(eng, "\"ring\"") || strstr(eng, "\"vector\"") || strstr(eng, "\"loop\"") || strstr(eng, "\"off\""));
}
END_TEST

static uint64_t fresh(void)
{
	return hak_counted(fresh_tiny) + hak_counted(fresh_pool) + hak_counted(fresh_l25) + hak_counted(fresh_huge);
}

/* ThreadSanitizer ends a child of fork that starts a thread, and has four pages a page. */
#if defined(__SANITIZE_THREAD__)
#define THREADS_AFTER_FORK 0
#define SHADOWS 1
#else
#define THREADS_AFTER_FORK 1
#define SHADOWS 0
#endif

static uint64_t page_faults(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return (uint64_t)usage.ru_minflt;
}

START_TEST(page_faults_are_foreseen_by_tier_and_class)
{
	static const struct {
		size_t bytes, blocks;
	} kind[] = { { 48, 400000 }, { 9000, 2000 }, { 200000, 400 }, { 500000, 100 }, { 3 * MIB, 8 }, { 66 * MIB, 1 } };
	_Atomic uint64_t *const tier[] = { &hak_counters.fresh_tiny, &hak_counters.fresh_pool, &hak_counters.fresh_l25,
					   &hak_counters.fresh_l25, &hak_counters.fresh_huge, &hak_counters.fresh_huge };
	suite_quiet();
	hak_option_values[HAK_OPT_thp] = 0;
	ck_assert_int_eq(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0); /* the kernel may be set to always */
	for (size_t k = 0; k < sizeof kind / sizeof *kind; k++) {
		uint64_t faults = page_faults(), foreseen = fresh(), here = *tier[k];
		for (size_t i = 0; i < kind[k].blocks; i++) {
			char *p = hak_malloc(kind[k].bytes);
			EXPECT(p, "no memory");
			for (size_t at = 0; at < kind[k].bytes; at += HAK_PAGE)
				p[at] = p[kind[k].bytes - 1] = 1;
		}
		faults = page_faults() - faults;
		foreseen = fresh() - foreseen;
		EXPECT(foreseen == *tier[k] - here, "%zu bytes: in another tier", kind[k].bytes);
		/* metadata has faults as well; a slab is claimed whole, and not carved to its end */
		EXPECT((foreseen * 5 >= faults * 4 || SHADOWS) && foreseen * 4 <= faults * 5, "%zu bytes: %llu faults, %llu foreseen",
		       kind[k].bytes, (unsigned long long)faults, (unsigned long long)foreseen);
	}
	unsigned class = hak_route_class(48);
	ck_assert_uint_ge(hak_fresh_pages[class], hak_counted(fresh_tiny) * 9 / 10);
	/* what is used again costs none */
	uint64_t before = fresh();
	for (int i = 0; i < 100; i++)
		hak_free(hak_malloc(9000));
	ck_assert_uint_eq(fresh(), before);
	write_json(option_for(temporary()), temporary());
	ck_assert_int_eq(value_of(text, "fresh_tiny"), (int64_t)hak_counted(fresh_tiny));
	ck_assert_int_ge(value_of(text, "minor_faults"), (int64_t)before * 4 / 5);
	ck_assert(strstr(text, "{\"bytes\":48,\"pages\":"));
}
END_TEST

START_TEST(the_json_adds_up)
{
	suite_quiet();
	use_all_tiers();
	void *p = hak_malloc(70 * MIB);
	hak_own_set_room(100 * MIB);
	hak_free(hak_malloc(90 * MIB));
	write_json(option_for(temporary()), temporary());
	ck_assert_int_eq(value_of(text, "mapped"), value_of(text, "slab_mapped") + value_of(text, "span_mapped") +
						   value_of(text, "own_mapped") + value_of(text, "own_kept") +
						   value_of(text, "metadata"));
	const char *tiers = strstr(text, "\"tiers\":");
	ck_assert_int_eq(value_of(text, "live"), value_of(tiers, "tiny") + value_of(tiers, "pool") + value_of(tiers, "l25") +
						 value_of(tiers, "huge"));
	int64_t mapped = 0;
	for (const char *n = strstr(text, "{\"node\":"); n; n = strstr(n + 1, "{\"node\":"))
		mapped += value_of(n, "mapped");
	ck_assert_int_eq(mapped, value_of(text, "slab_mapped"));
	ck_assert_int_eq(value_of(text, "fallbacks"), 0);
	/* slabs found anywhere but in the heap itself were asked for */
	const char *stages = strstr(text, "\"stages\":");
	ck_assert_int_eq(value_of(text, "slab_requests"),
			 value_of(stages, "near") + value_of(stages, "adopted") + value_of(stages, "empty") +
				 value_of(stages, "unused") + value_of(stages, "new"));
	hak_free(p);
}
END_TEST

START_TEST(what_all_nodes_hold_is_less_than_they_have_mapped)
{
	suite_quiet();
	use_all_tiers();
	write_json(option_for(temporary()), temporary());
	for (const char *n = strstr(text, "{\"node\":"); n; n = strstr(n + 1, "{\"node\":")) {
		ck_assert_int_le(value_of(n, "live"), value_of(n, "mapped"));
		ck_assert_int_le(value_of(n, "resident"), value_of(n, "mapped"));
		ck_assert_int_le(value_of(n, "huge"), value_of(n, "resident"));
		ck_assert_int_le(value_of(n, "superslabs"), 1 + value_of(n, "mapped") / (int64_t)HAK_SUPER);
	}
}
END_TEST

static int64_t superslabs(void)
{
	write_json(option_for(temporary()), temporary());
	return value_of(strstr(text, "\"nodes\":["), "superslabs");
}

/* A small zone grows by parts of a SuperSlab, which must not confuse the count. */
START_TEST(superslabs_in_use_are_counted_while_the_zone_grows)
{
	struct hak_run run[80];
	suite_quiet();
	for (int i = 0; i < 80; i++) {
		ck_assert(hak_pool_claim(0, 1, true, false, &run[i]));
		ck_assert_int_eq(superslabs(), i / 32 + 1);
	}
	for (int i = 0; i < 80; i++)
		hak_pool_release(run[i].arena, run[i].granule, 1);
	ck_assert_int_eq(superslabs(), 0);
	ck_assert(hak_pool_claim(0, 1, true, true, &run[0]));
	ck_assert_int_eq(superslabs(), 1);
	hak_reclaim_all();
	ck_assert_int_eq(superslabs(), 1);
	hak_pool_release(run[0].arena, run[0].granule, 1);
	ck_assert_int_eq(superslabs(), 0);
}
END_TEST

START_TEST(a_percent_p_in_the_path_is_the_process_id)
{
	char path[300];
	suite_quiet();
	snprintf(path, sizeof path, "%s.%d.json", temporary(), (int)getpid());
	char with[300];
	snprintf(with, sizeof with, "json:%s.%%p.json", temporary());
	write_json(with, path);
	ck_assert_int_eq(value_of(text, "pid"), getpid());
}
END_TEST

START_TEST(a_path_that_cannot_be_written_warns_and_no_more)
{
	FILE *f = tmpfile();
	suite_quiet();
	dup2(fileno(f), STDERR_FILENO);
	hak_option_strings[HAK_STR_stats] = "json:/nonexistent/folder/file";
	hak_record_start();
	hak_record_exit();
	hak_option_strings[HAK_STR_stats] = NULL;
	hak_record_start();
	rewind(f);
	text[fread(text, 1, sizeof text - 1, f)] = 0;
	ck_assert_ptr_eq(strstr(text, "hakmem: "), text);
	ck_assert_ptr_nonnull(strstr(text, "/nonexistent/folder/file"));
	ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
}
END_TEST

/* ---- over time ----------------------------------------------------------------------------- */

#define MS 1000 /* us */


/* Reads all whole lines that there is room for; how many. Each is one object. The last may be being
 * written. */
static int read_lines(const char *path)
{
	int lines = 0;
	FILE *f = fopen(path, "re");
	if (!f)
		return 0;
	text[fread(text, 1, sizeof text - 1, f)] = 0;
	fclose(f);
	for (const char *line = text; strchr(line, '\n'); line++, lines++) {
		line = json_value(line, 0);
		EXPECT(line && *line == '\n', "line %d is not JSON", lines);
	}
	return lines;
}

static int wait_for_lines(const char *path, int least)
{
	int lines = 0;
	for (int i = 0; i < 1000 && (lines = read_lines(path)) < least; i++)
		usleep(10 * MS);
	return lines;
}

static void use_heap(void)
{
	hak_free(hak_malloc(HAK_SLAB_MAX + 1)); /* no magazine: a slow path */
}

static void record(const char *path, const char *every)
{
	static char option[300];
	snprintf(option, sizeof option, "jsonl:%s:%s", path, every);
	hak_option_strings[HAK_STR_stats] = option;
	hak_record_start();
}

/* The thread reads what taking the option back would write: the test ends here, without
 * destructors, which would write once more. */
static _Noreturn void end_recording(const char *path)
{
	unlink(path);
	_exit(0);
}

START_TEST(a_line_is_written_every_so_often)
{
	suite_quiet();
	record(temporary(), "10");
	usleep(50 * MS);
	ck_assert_int_eq(read_lines(temporary()), 0); /* nothing was allocated */
	use_heap();
	int lines = wait_for_lines(temporary(), 5);
	ck_assert_int_ge(lines, 5);
	int64_t before = 0;
	for (const char *at = text; (at = strstr(at, "\"monotonic_ms\":")); at++) {
		EXPECT(value_of(at, "monotonic_ms") >= before, "time goes back"); /* a late line may be followed at once */
		before = value_of(at, "monotonic_ms");
	}
	end_recording(temporary());
}
END_TEST

START_TEST(the_last_line_is_written_at_exit)
{
	suite_quiet();
	record(temporary(), "86400000");
	hak_record_exit();
	ck_assert_int_eq(read_lines(temporary()), 1);
	end_recording(temporary());
}
END_TEST

START_TEST(a_signal_asks_for_a_line_and_leaves_errno_alone)
{
	suite_quiet();
	hak_option_values[HAK_OPT_stats_signal] = SIGUSR2;
	record(temporary(), "86400000");
	use_heap();
	ck_assert_int_eq(wait_for_lines(temporary(), 1), 1);
	errno = 77;
	raise(SIGUSR2);
	ck_assert_int_eq(errno, 77);
	ck_assert_int_eq(wait_for_lines(temporary(), 2), 2);
	end_recording(temporary());
}
END_TEST

START_TEST(a_child_of_fork_goes_on_recording)
{
	char path[400];
	if (!THREADS_AFTER_FORK)
		return;
	suite_quiet();
	snprintf(path, sizeof path, "%s.%%p", temporary());
	record(path, "10");
	use_heap();
	/* AddressSanitizer's list of threads is locked while one begins: a child born then could start none */
	snprintf(path, sizeof path, "%s.%d", temporary(), (int)getpid());
	ck_assert_int_ge(wait_for_lines(path, 1), 1);
	pid_t child = fork();
	if (child == 0) {
		use_heap();
		pause();
	}
	snprintf(path, sizeof path, "%s.%d", temporary(), (int)child);
	int lines = wait_for_lines(path, 3);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	ck_assert_int_ge(lines, 3);
	ck_assert_int_eq(value_of(text, "pid"), child);
	unlink(path);
	snprintf(path, sizeof path, "%s.%d", temporary(), (int)getpid());
	ck_assert_int_ge(wait_for_lines(path, 3), 3);
	end_recording(path);
}
END_TEST

START_TEST(what_makes_no_sense_warns_and_records_nothing)
{
	static const char *const bad[] = { "2", "json:", "jsonl:", "jsonl:/tmp/x", "jsonl:/tmp/x:", "jsonl:/tmp/x:9",
					   "jsonl:/tmp/x:86400001", "jsonl::1000", "jsonl:/tmp/x:1s", "jsonl:/tmp/x:99999999999999999999" };
	suite_quiet();
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		FILE *f = tmpfile();
		int err = dup(STDERR_FILENO);
		dup2(fileno(f), STDERR_FILENO);
		hak_option_strings[HAK_STR_stats] = bad[i];
		hak_record_start();
		hak_record_exit();
		dup2(err, STDERR_FILENO);
		close(err);
		rewind(f);
		text[fread(text, 1, sizeof text - 1, f)] = 0;
		fclose(f);
		EXPECT(strstr(text, bad[i]) && strchr(text, '\n') == text + strlen(text) - 1, "%s: %s", bad[i], text);
		EXPECT(atomic_load(&hak_record_due) == 0, "%s starts a thread", bad[i]);
	}
	hak_option_strings[HAK_STR_stats] = NULL;
	hak_record_start();
}
END_TEST

/* ---- the snapshot ----------------------------------------------------------------------------- */

START_TEST(counters_count_what_happened)
{
	struct hakmem_stats a, b;
	suite_quiet();
	hak_stats_snapshot(&a);
	ck_assert_uint_eq(a.size, sizeof a);
	ck_assert_uint_eq(a.version, 1);
	void *p = hak_malloc(PTRDIFF_MAX);
	ck_assert_ptr_null(p);
	p = hak_malloc(100);
	hak_stats_snapshot(&b);
	ck_assert_uint_eq(b.failed, a.failed + 1);
	ck_assert_uint_eq(b.live, a.live + hak_usable_size(p));
	hak_free(p);
	hak_stats_snapshot(&b);
	ck_assert_uint_eq(b.live, a.live);
	p = hak_malloc(10 * MIB);
	memset(p, 1, 10 * MIB);
	hak_free(p);
	ck_assert_uint_ge(hak_reclaim_all(), 10 * MIB);
	hak_stats_snapshot(&b);
	ck_assert_uint_ge(b.released, a.released + 10 * MIB);
}
END_TEST

#define WORKERS 3
#define HELD 300
static _Atomic bool stop;

static void *churn(void *arg)
{
	void *held[HELD] = { NULL };
	uint64_t seed = (uintptr_t)arg + 5;
	while (!atomic_load(&stop)) {
		size_t i = suite_random(&seed) % HELD;
		hak_free(held[i]);
		held[i] = hak_malloc(suite_random_size(&seed, 30000));
	}
	for (size_t i = 0; i < HELD; i++)
		hak_free(held[i]);
	return NULL;
}

/* Threads hold at most WORKERS * HELD * 36,864 bytes: a figure beyond is made up. */
START_TEST(a_snapshot_taken_while_threads_run_is_never_far_off)
{
	pthread_t t[WORKERS];
	suite_quiet();
	for (uintptr_t i = 0; i < WORKERS; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, churn, (void *)i), 0);
	for (int i = 0; i < 8000; i++) {
		struct hakmem_stats s;
		hak_stats_snapshot(&s);
		EXPECT(s.live <= s.mapped && s.live < 2 * WORKERS * HELD * 36864ul, "live %zu of %zu", (size_t)s.live, (size_t)s.mapped);
		EXPECT(s.cached <= s.mapped, "cached %zu of %zu", (size_t)s.cached, (size_t)s.mapped);
		EXPECT(s.heaps <= WORKERS + 1, "heaps %zu", (size_t)s.heaps);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < WORKERS; i++)
		pthread_join(t[i], NULL);
}
END_TEST

SUITE("stats", 30,
      CALM(the_first_table_adds_up_to_what_is_mapped),
      CALM(the_table_says_what_each_tier_holds),
      CALM(resident_memory_is_what_was_touched),
      CALM(the_json_is_well_formed_and_has_every_promised_key),
      CALM(page_faults_are_foreseen_by_tier_and_class), CALM(the_json_adds_up),
      CALM(what_all_nodes_hold_is_less_than_they_have_mapped),
      CALM(superslabs_in_use_are_counted_while_the_zone_grows),
      CALM(a_percent_p_in_the_path_is_the_process_id),
      CALM(a_path_that_cannot_be_written_warns_and_no_more),
      CALM(a_line_is_written_every_so_often),
      CALM(the_last_line_is_written_at_exit),
      CALM(a_signal_asks_for_a_line_and_leaves_errno_alone),
      CALM(a_child_of_fork_goes_on_recording),
      CALM(what_makes_no_sense_warns_and_records_nothing),
      CALM(counters_count_what_happened),
      CALM(a_snapshot_taken_while_threads_run_is_never_far_off))
