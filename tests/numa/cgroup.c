/* SPDX-License-Identifier: MIT */
/*
 * Does hakmem keep to the limits of a cgroup (version 2), judged by what the kernel charges?
 *
 *	cgroup [CASE]
 *
 * Each case of the table runs in a process and a cgroup of its own, with a decay time of ten minutes
 * unless the case says otherwise: what goes back before goes because memory is short. The cases whose
 * names begin with `not` show that the others would notice.
 *
 * Ends with 0, with 1 when a case does not hold, with 77 when there is no such cgroup.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define GROUPS "/sys/fs/cgroup/"
#define GROUP GROUPS "hakmem/"
#define KHUGEPAGED "/sys/kernel/mm/transparent_hugepage/khugepaged/"
#define MIB ((size_t)1 << 20)
#define KEPT (16 * MIB)
#define LARGE (4 * MIB)
#define SLACK (24 * MIB) /* the program, its page tables, what magazines and SuperSlabs in use hold */
#define NEARLY (180 * MIB) /* of the 192 MiB some may use: in the last tenth, where memory counts as short */
#define PATIENCE 30	 /* seconds */
#define BLOCKS 65536

static bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return done;
}

static size_t read_number(const char *path)
{
	char text[32] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		text[0] = 0;
	if (fd >= 0)
		close(fd);
	return strtoull(text, NULL, 10);
}

static size_t charged(void)
{
	return read_number(GROUP "memory.current");
}

/* ---- what the cases do -------------------------------------------------------------- */

static void *blocks[BLOCKS];
static unsigned count;

/* Touched blocks of so many bytes in sum, or as many as there are. Their sum. */
static size_t build(size_t bytes, size_t least, size_t most)
{
	size_t have = 0, n = least;

	while (have < bytes && count < BLOCKS) {
		char *p = malloc(n);

		if (!p)
			break;
		for (size_t at = 0; at < n; at += 4096)
			p[at] = 1;
		blocks[count++] = p;
		have += n;
		n = n + 1040 > most ? least : n + 1040;
	}
	return have;
}

static size_t build_small(size_t bytes)
{
	return build(bytes, 1000, 40000);
}

/* Nearly as much as some may have, by what is charged: how much more that is than the blocks is
 * hakmem's affair. What is charged then. */
static size_t fill(void)
{
	while (charged() < NEARLY && build_small(MIB) >= MIB)
		;
	return charged();
}

static void drop_to(unsigned left)
{
	while (count > left)
		free(blocks[--count]);
}

/* How long until no more is charged; PATIENCE: never. */
static unsigned seconds_until(size_t bytes)
{
	unsigned tenths = 0;

	while (charged() > bytes && tenths++ < 10 * PATIENCE)
		usleep(100000);
	return tenths / 10;
}

/* Some of it stays, most is freed. */
static bool frees(void)
{
	build_small(KEPT);
	unsigned left = count;
	size_t most = fill();
	drop_to(left);
	/* once memory is not short any longer the rest stays: how much that is depends on when the kernel asks */
	unsigned seconds = seconds_until(KEPT + 2 * SLACK);

	printf("%zu MiB, after %u s %zu", most / MIB, seconds, charged() / MIB);
	return most >= NEARLY && seconds < PATIENCE;
}

/* What is free among small blocks is of no use to large ones. */
static bool changes(void)
{
	size_t before = fill();
	drop_to(0);
	sleep(5); /* the reclaimer looks every 2 s */
	bool done = build(140 * MIB, LARGE, LARGE) >= 140 * MIB;

	printf("%zu MiB, then other %zu", before / MIB, charged() / MIB);
	return done;
}

static bool fills(void)
{
	char *p = malloc(70 * MIB); /* is kept when it is freed */

	for (size_t at = 0; p && at < 70 * MIB; at += 4096)
		p[at] = 1;
	free(p);
	errno = 0;
	size_t first = build_small(SIZE_MAX), most = charged();
	bool refused = errno == ENOMEM;
	drop_to(0);
	size_t again = build_small(SIZE_MAX);

	printf("%zu MiB of blocks, %zu charged; %zu at the second time", first / MIB, most / MIB, again / MIB);
	return p && refused && first >= 80 * MIB && most <= 96 * MIB + SLACK && again >= first / 10 * 9;
}

static bool hurry_khugepaged(const char *sleep_ms)
{
	return write_text(KHUGEPAGED "scan_sleep_millisecs", sleep_ms) &&
	       write_text(KHUGEPAGED "pages_to_scan", "100000");
}

/* Survivors from before the phase that is freed: whole huge pages go back, and stay back. */
static bool survives(void)
{
	build_small(KEPT);
	unsigned left = count, tenths = 0;
	build(144 * MIB, 300000, 900000);
	drop_to(left);
	unsigned seconds = seconds_until(2 * KEPT + SLACK); /* and huge pages of which parts are free */
	size_t before = charged(), passes = read_number(KHUGEPAGED "full_scans");
	bool hurried = hurry_khugepaged("10");

	/* one may be half over */
	while (read_number(KHUGEPAGED "full_scans") < passes + 3 && tenths++ < 10 * PATIENCE)
		usleep(100000);
	size_t after = charged();
	hurry_khugepaged("10000");
	printf("after %u s %zu KiB, two of khugepaged's passes later %zu", seconds, before / 1024, after / 1024);
	return seconds < PATIENCE && hurried && tenths < 10 * PATIENCE && after <= before + MIB;
}

/* ---- the cases ----------------------------------------------------------------------- */

static const struct {
	const char *name, *high, *max;
	const char *option, *value;
	bool (*run)(void);
	int expected; /* exit status, or a signal below 0 */
} cases[] = {
	{ "memory.high", "192M", "max", NULL, NULL, frees, 0 },
	{ "memory.max", "max", "192M", NULL, NULL, frees, 0 },
	{ "soft-limit", "max", "256M", "HAKMEM_SOFT_LIMIT", "50%", frees, 0 },
	{ "not-limited", "max", "max", NULL, NULL, frees, 1 },
	{ "other-blocks", "max", "192M", NULL, NULL, changes, 0 },
	{ "not-other-blocks", "max", "192M", "HAKMEM_RECLAIM", "off", changes, -SIGKILL },
	{ "hard-limit", "max", "192M", "HAKMEM_HARD_LIMIT", "50%", fills, 0 },
	{ "khugepaged", "max", "max", "HAKMEM_DECAY_MS", "1000", survives, 0 },
};
#define CASES (sizeof(cases) / sizeof(*cases))

static int run_in_group(unsigned i)
{
	char *self = realpath("/proc/self/exe", NULL);
	int status;

	if (!self || !write_text(GROUP "memory.high", cases[i].high) || !write_text(GROUP "memory.max", cases[i].max))
		return INT_MIN;
	pid_t pid = fork();
	if (pid == 0) {
		setenv("HAKMEM_DECAY_MS", "600000", 1);
		if (cases[i].option)
			setenv(cases[i].option, cases[i].value, 1);
		if (write_text(GROUP "cgroup.procs", "0"))
			execl(self, self, cases[i].name, (char *)NULL);
		_exit(127);
	}
	free(self);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return INT_MIN;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int main(int argc, char **argv)
{
	int wrong = 0;

	for (unsigned i = 0; i < CASES && argc > 1; i++)
		if (strcmp(argv[1], cases[i].name) == 0) {
			printf("%s: ", cases[i].name);
			bool holds = cases[i].run();
			puts(holds ? "" : ": no");
			return !holds;
		}
	if (!write_text(GROUPS "cgroup.subtree_control", "+memory")) {
		puts("no memory controller of cgroup version 2");
		return 77;
	}
	for (unsigned i = 0; i < CASES; i++) {
		if (mkdir(GROUP, 0755))
			return 2;
		int got = run_in_group(i);
		while (rmdir(GROUP) && errno == EBUSY)
			usleep(10000);
		if (got != cases[i].expected) {
			printf("%s: ended with %d instead of %d\n", cases[i].name, got, cases[i].expected);
			wrong = 1;
		}
		fflush(stdout);
	}
	return wrong;
}
