/* SPDX-License-Identifier: MIT */
/*
 * What every unit test has in common: a main that runs the file's tests with Check, each in
 * a process of its own, and ends with the line all of hakmem's runners end with.
 *
 *	SUITE("route", 30, CALM(a_sentence), DIES(another, SIGABRT))
 */
#ifndef HAK_SUITE_H
#define HAK_SUITE_H

#include <check.h>
#include <dirent.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "options.h"

struct suite_test {
	const TTest *test;
	int signal; /* the test passes by dying of it; 0: by returning */
	const char *(*lack)(void); /* NULL, or what the machine or the build has not got for it */
	bool opposite;		   /* the test is for machines that lack it */
};
#define CALM(name) { name, 0, NULL, false }
#define DIES(name, signal) { name, signal, NULL, false }
#define UNLESS(lack, name) { name, 0, lack, false }
#define WHERE(lack, name) { name, 0, lack, true }

/* For tests that count heaps or name node 0: the process stays on that node's CPUs, since a thread
 * that comes to another has, rightly, another heap. Where they cannot be read there is one node. */
static inline void suite_stay(void)
{
	unsigned first, last;
	cpu_set_t set;
	FILE *f = fopen("/sys/devices/system/node/node0/cpulist", "re");
	if (!f)
		return;
	int n = fscanf(f, "%u-%u", &first, &last);
	fclose(f);
	if (n < 1)
		return;
	if (n == 1)
		last = first;
	CPU_ZERO(&set);
	for (unsigned cpu = first; cpu <= last; cpu++)
		CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof set, &set);
}

/* For tests of heaps that share slabs: from the n-th thread on they do, wherever the test runs.
 * Before the first allocation. */
static inline int suite_one_cpu(size_t bytes, void *mask)
{
	memset(mask, 0, bytes);
	CPU_SET(0, (cpu_set_t *)mask);
	return 0;
}
#define suite_share(homes) (hak_sys.getaffinity = suite_one_cpu, hak_option_values[HAK_OPT_heaps_per_cpu] = (homes))

/* From here on the calling thread, and those that it starts, are under a seccomp filter that allows everything. */
static inline void suite_filter(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = { 1, &allow };
	ck_assert(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	ck_assert(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

/* For inner loops: ck_assert writes to a pipe even when it holds. */
#define EXPECT(condition, ...)                                                                     \
	do {                                                                                       \
		if (!(condition))                                                                  \
			ck_abort_msg(__VA_ARGS__);                                 \
	} while (0)

/* For tests of the core: one node, and no reclaimer but where the test itself asks. */
static inline void suite_quiet(void)
{
	suite_stay();
	hak_option_values[HAK_OPT_reclaim] = 0;
}

/* Threads at once, each with its number from 0 on for argument, until all have ended. What
 * one returns is its complaint, or NULL. */
#define SUITE_THREADS 64
static inline void suite_threads(unsigned count, void *(*run)(void *))
{
	pthread_t t[SUITE_THREADS];
	void *fault;
	EXPECT(count <= SUITE_THREADS, "%u threads", count);
	for (uintptr_t i = 0; i < count; i++)
		EXPECT(pthread_create(&t[i], NULL, run, (void *)i) == 0, "no thread");
	for (unsigned i = 0; i < count; i++) {
		pthread_join(t[i], &fault);
		EXPECT(!fault, "%s", (const char *)fault);
	}
}

/* Runs it, and keeps what it wrote to stderr. */
static inline void suite_hear(void (*run)(void), char *said, size_t cap)
{
	FILE *f = tmpfile();
	int err = dup(STDERR_FILENO);
	EXPECT(f && err >= 0 && dup2(fileno(f), STDERR_FILENO) >= 0, "no file for stderr");
	run();
	dup2(err, STDERR_FILENO);
	close(err);
	rewind(f);
	said[fread(said, 1, cap - 1, f)] = 0;
	fclose(f);
}

/* How many open descriptors name something with `what` in it. */
static inline int suite_descriptors(const char *what)
{
	int n = 0;
	DIR *dir = opendir("/proc/self/fd");
	for (struct dirent *e; dir && (e = readdir(dir));) {
		char target[64];
		ssize_t len = readlinkat(dirfd(dir), e->d_name, target, sizeof target - 1);
		n += len > 0 && (target[len] = 0, strstr(target, what) != NULL);
	}
	if (dir)
		closedir(dir);
	return n;
}

/* xorshift64*: the same sequence in every run, one state a thread. */
static inline uint64_t suite_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1du;
}

/* A size from 1 to most, each power of two as likely as the next. */
static inline size_t suite_random_size(uint64_t *state, size_t most)
{
	unsigned bits = 64 - (unsigned)__builtin_clzll(most);
	size_t n = (size_t)(suite_random(state) >> (63 - suite_random(state) % bits)) % most;
	return n + 1;
}

static inline int suite_run(const char *name, double seconds, const struct suite_test *tests, size_t count)
{
	const struct rlimit no_core = { 0, 0 };
	int skipped = 0;
	Suite *suite = suite_create(name);
	TCase *tcase = tcase_create(name);
	setrlimit(RLIMIT_CORE, &no_core); /* tests that die are meant to */
	tcase_set_timeout(tcase, seconds);
	for (size_t i = 0; i < count; i++) {
		const char *lack = tests[i].lack ? tests[i].lack() : NULL;
		if (!lack == !tests[i].opposite) {
			_tcase_add_test(tcase, tests[i].test, tests[i].signal, 0, 0, 1);
		} else if (lack) {
			printf("skipped: %s: %s\n", tests[i].test->name, lack);
			skipped++;
		}
	}
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	int passed = srunner_ntests_run(runner) - failed;
	srunner_free(runner);
	printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
	return failed != 0;
}

#define SUITE(name, seconds, ...)                                                                  \
	int main(void)                                                                             \
	{                                                                                          \
		const struct suite_test tests[] = { __VA_ARGS__ };                                 \
		return suite_run(name, seconds, tests, sizeof tests / sizeof *tests);              \
	}

#endif
