/* SPDX-License-Identifier: MIT */
/*
 * Memory as it looks from outside the process: what its cgroup is charged with, else what the machine
 * has less of. RSS alone does not tell: a page that was unmapped may still be there.
 */
#ifndef HAK_BENCH_CHARGE_H
#define HAK_BENCH_CHARGE_H

#include "bench.h"

#include <sys/stat.h>

static char group_path[512]; /* the cgroup's figure in bytes; empty: MemFree */

static bool read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t n;

	if (fd < 0)
		return false;
	while (used < size - 1 && (n = read(fd, text + used, size - 1 - used)) > 0)
		used += (size_t)n;
	close(fd);
	text[used] = 0;
	return used > 0;
}

/* One form of /proc/self/cgroup's lines and of the file behind it: version 2, then version 1. */
static bool try_group(const char *cgroups, const char *key, const char *folder, const char *file)
{
	const char *at = strstr(cgroups, key);
	char text[64];
	int length;

	if (!at)
		return false;
	at += strlen(key);
	length = (int)strcspn(at, "\n");
	if (length <= 1) /* the root: its figure is the machine's */
		return false;
	if (snprintf(group_path, sizeof(group_path), "%s%.*s/%s", folder, length, at, file) >=
	    (int)sizeof(group_path))
		return false;
	return read_text(group_path, text, sizeof(text));
}

BENCH_UNUSED static void find_group(void)
{
	static char cgroups[4096];

	if (!read_text("/proc/self/cgroup", cgroups, sizeof(cgroups)))
		cgroups[0] = 0;
	if (!try_group(cgroups, "0::", "/sys/fs/cgroup", "memory.current") &&
	    !try_group(cgroups, ":memory:", "/sys/fs/cgroup/memory", "memory.usage_in_bytes"))
		group_path[0] = 0;
}

/* KiB in use, of the cgroup or of the machine; only differences mean anything. */
static int64_t group_kib(void)
{
	static char text[8192];
	const char *at;

	if (group_path[0]) {
		if (!read_text(group_path, text, sizeof(text)))
			bench_die("%s: %s", group_path, strerror(errno));
		return (int64_t)(strtoull(text, NULL, 10) / 1024);
	}
	if (!read_text("/proc/meminfo", text, sizeof(text)))
		bench_die("/proc/meminfo: %s", strerror(errno));
	at = strstr(text, "MemFree:");
	return at ? -(int64_t)strtoull(at + strlen("MemFree:"), NULL, 10) : 0;
}

static char own_group[512];

/*
 * Where it is allowed to, the process goes into a cgroup of its own, below the one it is in: what
 * others do at the same time is not in the figure then. leave_group() removes it at the end.
 */
BENCH_UNUSED static void enter_group(void)
{
	char path[600], pid[32];
	char *file;
	int fd, length = snprintf(pid, sizeof(pid), "%d", (int)getpid());

	find_group();
	if (!group_path[0])
		return;
	file = strrchr(group_path, '/');
	if (snprintf(own_group, sizeof(own_group), "%.*s/bench-%d", (int)(file - group_path), group_path,
		     (int)getpid()) >= (int)sizeof(own_group) ||
	    mkdir(own_group, 0755)) {
		own_group[0] = 0;
		return;
	}
	snprintf(path, sizeof(path), "%s/cgroup.procs", own_group);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, pid, (size_t)length) == length) {
		snprintf(path, sizeof(path), "%s%s", own_group, file);
		if (read_text(path, pid, sizeof(pid)))
			snprintf(group_path, sizeof(group_path), "%s", path);
	}
	if (fd >= 0)
		close(fd);
}

BENCH_UNUSED static void leave_group(void)
{
	char path[600], pid[32];
	int fd, length = snprintf(pid, sizeof(pid), "%d", (int)getpid());

	if (!own_group[0])
		return;
	snprintf(path, sizeof(path), "%.*s/cgroup.procs", (int)(strrchr(own_group, '/') - own_group), own_group);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		(void)!write(fd, pid, (size_t)length);
		close(fd);
	}
	rmdir(own_group);
}

#endif
