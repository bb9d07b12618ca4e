/* SPDX-License-Identifier: MIT */
/* hakmem doctor: settings of this machine that decide what the allocator can do. */
#include "tool.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#define THP "/sys/kernel/mm/transparent_hugepage/"
#define CGROUP "/sys/fs/cgroup"
#define MAPS_LEAST 65530

enum verdict { GOOD, NOTE, CHANGE };
static const char *const verdict_names[] = { "ok", "note", "change" };

static json_t *findings;

/* advice: what to do, NULL if nothing. */
static void find(enum verdict verdict, const char *subject, const char *advice, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
static void find(enum verdict verdict, const char *subject, const char *advice, const char *format, ...)
{
	char text[512];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	json_t *o = json_pack("{s:s, s:s, s:s}", "subject", subject, "verdict", verdict_names[verdict], "finding", text);
	if (advice)
		json_object_set_new(o, "advice", json_string(advice));
	json_array_append_new(findings, o);
}

/* ---- checks ---------------------------------------------------------------------- */

static void check_machine(void)
{
	struct utsname u;
	int major = 0, minor = 0;
	uname(&u);
	sscanf(u.release, "%d.%d", &major, &minor);
	bool old = major < 4 || (major == 4 && minor < 17);
	find(old ? NOTE : GOOD, "kernel", NULL, "Linux %s on %s%s", u.release, u.machine,
	     old ? ": before 4.17 addresses are hints, so growth may fail earlier" : "");
	long page = sysconf(_SC_PAGESIZE);
	if (page != 4096)
		find(CHANGE, "page size", "use a kernel with 4 KiB pages", "pages are of %ld bytes; this version knows 4 KiB only",
		     page);
}

static void check_thp(void)
{
	const char *mode = kernel_choice(THP "enabled");
	if (!*mode)
		find(NOTE, "huge pages", NULL, "this kernel has no transparent huge pages: everything lies on small ones");
	else if (!strcmp(mode, "never"))
		find(CHANGE, "huge pages", "echo madvise > " THP "enabled",
		     "transparent huge pages are off (never): a large heap takes more page faults and TLB misses. With "
		     "madvise only those who ask get them, and hakmem asks for large heaps alone");
	else
		find(GOOD, "huge pages", NULL, "transparent huge pages are on (%s)", mode);
}

static void check_defrag(void)
{
	const char *mode = kernel_choice(THP "defrag");
	if (!strcmp(mode, "always"))
		find(CHANGE, "huge page stalls", "echo defer+madvise > " THP "defrag",
		     "defrag is always: any page fault may wait for the kernel to compact memory");
	else if (!strcmp(mode, "never"))
		find(NOTE, "huge page stalls", NULL, "defrag is never: huge pages only as long as the kernel has free ones");
	else if (*mode)
		find(GOOD, "huge page stalls", NULL, "defrag is %s", mode);
}

static void check_khugepaged(void)
{
	long long none = text_number(THP "khugepaged/max_ptes_none");
	if (none > 255)
		find(NOTE, "khugepaged", "echo 64 > " THP "khugepaged/max_ptes_none, if resident memory matters more than speed",
		     "max_ptes_none is %lld: the kernel makes huge pages out of mostly empty ones, and so fills in again "
		     "what was given back", none);
	else if (none >= 0)
		find(GOOD, "khugepaged", NULL, "max_ptes_none is %lld", none);
}

static bool several_nodes(void)
{
	char *list = text_file("/sys/devices/system/node/has_memory");
	bool several = list && strpbrk(list, ",-");
	free(list);
	return several;
}

static void check_numa(void)
{
	long long balancing = text_number("/proc/sys/kernel/numa_balancing");
	long long zone = text_number("/proc/sys/vm/zone_reclaim_mode");
	if (!several_nodes()) {
		find(GOOD, "NUMA", NULL, "one node has memory: placement is no question here");
		return;
	}
	if (balancing > 0)
		find(CHANGE, "NUMA balancing", "sysctl kernel.numa_balancing=0, and compare",
		     "the kernel moves pages between nodes of its own accord, which costs page faults. hakmem puts blocks "
		     "on the node of the thread that asks; a program that moves its threads may still gain by it");
	else
		find(GOOD, "NUMA balancing", NULL, "off, or not in this kernel");
	if (zone > 0)
		find(CHANGE, "zone reclaim", "sysctl vm.zone_reclaim_mode=0",
		     "zone_reclaim_mode is %lld: a full node drops its page cache, and stalls, before memory is taken from "
		     "the next", zone);
}

static void check_overcommit(void)
{
	long long mode = text_number("/proc/sys/vm/overcommit_memory");
	if (mode == 2)
		find(NOTE, "overcommit", "sysctl vm.overcommit_memory=0, unless it is strict for a reason",
		     "strict: mapped memory counts in full. hakmem maps in steps and counts no address space ahead, but does "
		     "not give the charge of steps back");
	else if (mode >= 0)
		find(GOOD, "overcommit", NULL, "vm.overcommit_memory is %lld", mode);
}

static void check_maps(void)
{
	long long most = text_number("/proc/sys/vm/max_map_count");
	if (most >= 0 && most < MAPS_LEAST)
		find(CHANGE, "map count", "sysctl vm.max_map_count=65530",
		     "vm.max_map_count is %lld, less than the kernel's default: blocks of 64 MiB and above take a mapping each",
		     most);
	else if (most >= 0)
		find(GOOD, "map count", NULL, "vm.max_map_count is %lld", most);
}

/* The folder of this process's cgroup (version 2), or NULL. */
static const char *cgroup(void)
{
	static char path[4096];
	char *text = text_file("/proc/self/cgroup"), *line = text ? strstr(text, "0::") : NULL;
	if (line)
		snprintf(path, sizeof path, CGROUP "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
	free(text);
	return line ? path : NULL;
}

static long long cgroup_number(const char *folder, const char *file)
{
	char path[4200];
	snprintf(path, sizeof path, "%s/%s", folder, file);
	return text_number(path);
}

static void check_cgroup(void)
{
	const char *folder = cgroup();
	long long current = folder ? cgroup_number(folder, "memory.current") : -1;
	long long max = -1;
	if (current < 0) {
		find(NOTE, "cgroup", NULL, "no memory limits of cgroup version 2 to be seen here");
		return;
	}
	static const char *const files[] = { "memory.high", "memory.max" };
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		long long v = cgroup_number(folder, files[i]);
		max = v >= 0 && (max < 0 || v < max) ? v : max;
	}
	if (max < 0)
		find(GOOD, "cgroup", NULL, "%s in use, no limit", text_bytes((double)current));
	else
		find(current > max / 10 * 9 ? CHANGE : GOOD, "cgroup",
		     current > max / 10 * 9 ? "raise memory.high or memory.max, or lower HAKMEM_DECAY_MS" : NULL,
		     "%s of %s in use", text_bytes((double)current), text_bytes((double)max));
}

static void check_limits(void)
{
	struct rlimit as;
	if (getrlimit(RLIMIT_AS, &as) == 0 && as.rlim_cur != RLIM_INFINITY)
		find(NOTE, "ulimit -v", NULL,
		     "address space is limited to %s: it counts what is mapped, not what is used, and blocks come from smaller "
		     "windows", text_bytes((double)as.rlim_cur));
	else
		find(GOOD, "ulimit -v", NULL, "address space is not limited");
}

static int seccomp_mode(void)
{
	char *text = text_file("/proc/self/status"), *line = text ? strstr(text, "\nSeccomp:") : NULL;
	int mode = line ? atoi(line + 9) : 0;
	free(text);
	return mode;
}

static void check_kernel_calls(void)
{
	bool filtered = seccomp_mode() == 2;
	find(filtered ? NOTE : GOOD, "seccomp", NULL, filtered ? "a filter is in force; what it refuses stands below" :
								  "no filter is in force");
	for (size_t i = 0; i < kernel_probe_count; i++) {
		const struct probe *p = &kernel_probes[i];
		int why = kernel_try(p);
		if (filtered && p->told && why <= 0) /* there are filters that kill for it */
			find(NOTE, p->name, NULL, "%s; under a filter hakmem calls it with %s alone. Instead: %s", kernel_why(why), p->told,
			     p->without);
		else if (why)
			find(why == -1 ? CHANGE : NOTE, p->name, why == -1 ? "let the filter refuse (SCMP_ACT_ERRNO) instead" : NULL,
			     "%s. Instead: %s", kernel_why(why), p->without);
		else
			find(GOOD, p->name, NULL, "%s", p->use);
	}
}

static void check_ptrace(void)
{
	long long scope = text_number("/proc/sys/kernel/yama/ptrace_scope");
	if (scope > 0)
		find(NOTE, "hakmem stat", NULL, "kernel.yama.ptrace_scope is %lld: only root may read a running process", scope);
	else
		find(GOOD, "hakmem stat", NULL, "processes of the same user may be read");
}

/* ---- output ---------------------------------------------------------------------- */

/* Words of `text` on lines of up to 80 columns, indented. */
static void print_wrapped(const char *text, int indent)
{
	int column = indent;
	for (const char *word = text; *word;) {
		int n = (int)strcspn(word, " ");
		if (column > indent && column + 1 + n > 80) {
			printf("\n%*s", indent, "");
			column = indent;
		}
		column += printf("%s%.*s", column > indent ? " " : "", n, word);
		word += n + (word[n] == ' ');
	}
	putchar('\n');
}

static void print_finding(const json_t *o, bool *change)
{
	const char *verdict = json_string_value(json_object_get(o, "verdict"));
	const char *advice = json_string_value(json_object_get(o, "advice"));
	bool bad = !strcmp(verdict, "change");
	*change |= bad;
	printf("%s%-7s%s %s%-20s%s ", bad ? text_red() : !strcmp(verdict, "ok") ? text_green() : "", verdict, text_plain(),
	       text_bold(), json_string_value(json_object_get(o, "subject")), text_plain());
	print_wrapped(json_string_value(json_object_get(o, "finding")), 29);
	if (advice) {
		printf("%29s", "-> ");
		print_wrapped(advice, 29);
	}
}

int tool_doctor(int argc, char **argv)
{
	bool json = args_json(argc, argv, "Checks the settings of this machine (or container) and says what to change and "
					  "why. The exit code is 1 if there is anything to change.");
	bool change = false;
	size_t i;
	json_t *o;
	findings = json_array();
	check_machine();
	check_thp();
	check_defrag();
	check_khugepaged();
	check_numa();
	check_overcommit();
	check_maps();
	check_cgroup();
	check_limits();
	check_kernel_calls();
	check_ptrace();
	json_array_foreach(findings, i, o) {
		if (json)
			change |= !strcmp(json_string_value(json_object_get(o, "verdict")), "change");
		else
			print_finding(o, &change);
	}
	if (json)
		text_json(findings, stdout);
	json_decref(findings);
	return change ? TOOL_FAILED : TOOL_OK;
}
