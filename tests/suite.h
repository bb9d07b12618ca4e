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
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

struct suite_test {
	const TTest *test;
	int signal; /* the test passes by dying of it; 0: by returning */
};
#define CALM(name) { name, 0 }
#define DIES(name, signal) { name, signal }

/* For tests that count heaps or name node 0: the process stays on CPU 0, since threads of
 * another node have, rightly, heaps of their own. Where that CPU is not ours there is
 * nothing to do: those machines have one node. */
static inline void suite_stay(void)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(0, &set);
	sched_setaffinity(0, sizeof set, &set);
}

/* For inner loops: ck_assert writes to a pipe even when it holds. */
#define EXPECT(condition, ...)                                                                     \
	do {                                                                                       \
		if (!(condition))                                                                  \
			ck_abort_msg(__VA_ARGS__);                                 \
	} while (0)

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
	Suite *suite = suite_create(name);
	TCase *tcase = tcase_create(name);
	setrlimit(RLIMIT_CORE, &no_core); /* tests that die are meant to */
	tcase_set_timeout(tcase, seconds);
	for (size_t i = 0; i < count; i++)
		_tcase_add_test(tcase, tests[i].test, tests[i].signal, 0, 0, 1);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	int passed = srunner_ntests_run(runner) - failed;
	srunner_free(runner);
	printf("%d passed, %d failed, 0 skipped\n", passed, failed);
	return failed != 0;
}

#define SUITE(name, seconds, ...)                                                                  \
	int main(void)                                                                             \
	{                                                                                          \
		const struct suite_test tests[] = { __VA_ARGS__ };                                 \
		return suite_run(name, seconds, tests, sizeof tests / sizeof *tests);              \
	}

#endif
