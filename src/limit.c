/* SPDX-License-Identifier: MIT */
/*
 * Limits and pressure.
 *
 *   hard limit     counted in mapped bytes, so what is resident can never pass it, and checking it
 *                  costs one atomic addition where memory is mapped. Memory that went back to the
 *                  kernel stays mapped, and counts
 *   soft limit     the process's resident set, whoever it belongs to
 *   cgroup         nine tenths of memory.high or memory.max (version 2)
 *   PSI            a trigger: tasks waited for memory for 150 ms of 2 s; of the cgroup where it may
 *                  be written, else of the machine
 *
 * The trigger has a descriptor, which the program may close, and whose number it may use for a file
 * of its own: so it is compared with what it was before it is asked.
 */
#include "limit.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "die.h"
#include "numa/arena.h"
#include "numa/topology.h"
#include "options.h"
#include "sys/sys.h"

#define TRIGGER "some 150000 2000000"
#define TRIGGER_OPENS 8u
#define PATH_BYTES 4096u
#define CGROUP_FOLDER "/sys/fs/cgroup"

static uint64_t hard_limit, soft_limit; /* immutable after the constructor; 0: none */
static _Atomic uint64_t taken;		/* bytes, if there is a hard limit */

/* the reclaimer's thread only */
static int trigger = -1;
static unsigned trigger_opens;
static struct stat trigger_stat;

/* ---- the cgroup ------------------------------------------------------------------- */

/* A file of the process's cgroup, of version 2; 0: there is none. "max" is UINT64_MAX. */
static bool cgroup_path(char *path, const char *file)
{
	char text[PATH_BYTES];
	struct hak_text t = { path, 0, PATH_BYTES - 1 };
	if (hak_sys.read_file("/proc/self/cgroup", text, sizeof text) <= 0)
		return false;
	for (char *line = text, *end; *line; line = end + (*end != 0)) {
		end = line + strcspn(line, "\n");
		if (strncmp(line, "0::/", 4))
			continue;
		hak_text_str(&t, CGROUP_FOLDER);
		for (const char *c = line + 3; c < end && end - line > 4; c++)
			hak_text_str(&t, (char[]){ *c, 0 });
		hak_text_str(&t, "/");
		hak_text_str(&t, file);
		path[t.len] = 0;
		return t.len < t.cap;
	}
	return false;
}

static uint64_t cgroup_number(const char *file)
{
	char path[PATH_BYTES], text[32];
	uint64_t n = 0;
	if (!cgroup_path(path, file) || hak_sys.read_file(path, text, sizeof text) <= 0)
		return 0;
	if (strncmp(text, "max", 3) == 0)
		return UINT64_MAX;
	for (const char *c = text; *c >= '0' && *c <= '9'; c++)
		n = n * 10 + (uint64_t)(*c - '0');
	return n;
}

uint64_t hak_limit_memory(void)
{
	struct sysinfo info;
	uint64_t most = cgroup_number("memory.max");
	uint64_t machine = sysinfo(&info) == 0 ? (uint64_t)info.totalram * info.mem_unit : UINT64_MAX;
	return most ? hak_min(most, machine) : machine;
}

/* ---- the user's limits ------------------------------------------------------------ */

uint64_t hak_limit_parse(const char *text, uint64_t whole)
{
	static const char units[] = "KMGT";
	uint64_t n = 0;
	const char *c = text;
	for (; *c >= '0' && *c <= '9'; c++)
		if (__builtin_mul_overflow(n, (uint64_t)10, &n) || __builtin_add_overflow(n, (uint64_t)(*c - '0'), &n))
			return 0;
	if (c == text)
		return 0;
	const char *unit = *c ? strchr(units, *c) : NULL;
	if (*c == '%') {
		n = n <= 100 ? whole / 100 * n : 0;
		c++;
	} else if (unit) {
		unsigned shift = 10 * (unsigned)(unit - units + 1);
		if (n > UINT64_MAX >> shift)
			return 0;
		n <<= shift;
		c++;
	}
	return *c ? 0 : n;
}

static uint64_t limit_of(enum hak_option_string option, const char *warning)
{
	const char *text = hak_option_strings[option];
	uint64_t n = text ? hak_limit_parse(text, hak_limit_memory()) : 0;
	if (text && !n)
		hak_warn(warning, text);
	return n;
}

void hak_limit_start(void)
{
	hard_limit = limit_of(HAK_STR_hard_limit, "HAKMEM_HARD_LIMIT is no size like 512M or 80%, ignored");
	soft_limit = limit_of(HAK_STR_soft_limit, "HAKMEM_SOFT_LIMIT is no size like 512M or 80%, ignored");
	/* relaxed: what was mapped before the constructor */
	atomic_store_explicit(&taken, atomic_load_explicit(&hak_arena_grown, memory_order_relaxed),
			      memory_order_relaxed);
}

bool hak_limit_take(size_t bytes)
{
	if (hak_likely(!hard_limit))
		return true;
	/* relaxed: a sum */
	if (atomic_fetch_add_explicit(&taken, bytes, memory_order_relaxed) + bytes <= hard_limit)
		return true;
	hak_limit_give(bytes);
	return false;
}

void hak_limit_give(size_t bytes)
{
	if (hard_limit)
		atomic_fetch_sub_explicit(&taken, bytes, memory_order_relaxed);
}

/* ---- pressure ---------------------------------------------------------------------- */

static uint64_t resident(void)
{
	char text[128];
	uint64_t pages = 0;
	if (hak_sys.read_file("/proc/self/statm", text, sizeof text) <= 0)
		return 0;
	/* the second number */
	for (const char *c = text + strcspn(text, " ") + 1; *c >= '0' && *c <= '9'; c++)
		pages = pages * 10 + (uint64_t)(*c - '0');
	return pages * HAK_PAGE;
}

static bool cgroup_is_near(const char *file, uint64_t current)
{
	uint64_t limit = cgroup_number(file);
	return limit && limit != UINT64_MAX && current >= limit / 10 * 9;
}

static bool trigger_is_ours(void)
{
	struct stat now;
	return trigger >= 0 && fstat(trigger, &now) == 0 && now.st_dev == trigger_stat.st_dev &&
	       now.st_ino == trigger_stat.st_ino;
}

static int open_trigger(const char *path)
{
	int fd = hak_sys_open(path, O_RDWR | O_NONBLOCK, 0);
	if (fd >= 0 && hak_sys_write(fd, TRIGGER, sizeof TRIGGER) == sizeof TRIGGER && fstat(fd, &trigger_stat) == 0)
		return fd;
	if (fd >= 0)
		hak_sys_close(fd);
	return -1;
}

static bool trigger_fired(void)
{
	char path[PATH_BYTES];
	struct pollfd poll_it = { .events = POLLPRI };
	if (!trigger_is_ours()) {
		trigger = -1;
		if (trigger_opens >= TRIGGER_OPENS || !hak_sys_may_try(hak_sys_seccomp()))
			return false;
		trigger_opens++;
		/* opened with fork excluded, so that a child knows what to close */
		if (!hak_topology_enter())
			return false;
		trigger = cgroup_path(path, "memory.pressure") ? open_trigger(path) : -1;
		if (trigger < 0)
			trigger = open_trigger("/proc/pressure/memory");
		hak_topology_leave();
	}
	poll_it.fd = trigger;
	return trigger >= 0 && poll(&poll_it, 1, 0) == 1 && poll_it.revents & POLLPRI;
}

bool hak_limit_is_pressed(void)
{
	uint64_t current = cgroup_number("memory.current");
	/* each is asked: a trigger that is not polled keeps its event */
	bool fired = trigger_fired();
	return fired || (soft_limit && resident() >= soft_limit) ||
	       (current && (cgroup_is_near("memory.high", current) || cgroup_is_near("memory.max", current)));
}

void hak_limit_forked(void)
{
	if (!hak_sys_stands_apart() && trigger_is_ours())
		hak_sys_close(trigger);
	trigger = -1;
	trigger_opens = 0;
}
