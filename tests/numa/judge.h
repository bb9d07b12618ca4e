/* SPDX-License-Identifier: MIT */
/*
 * What the programs for the emulated machines have in common: where they run, and on which node
 * the kernel says that a page lies. Each is one file, built by run.sh without hakmem.
 */
#ifndef HAK_NUMA_JUDGE_H
#define HAK_NUMA_JUDGE_H

#include <dlfcn.h>
#include <errno.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hakmem/hakmem.h"

#define JUDGE_NODES 64
#define JUDGE_PAGE 4096ul

/* 0: what was asked holds */
enum { JUDGE_WRONG = 1, JUDGE_BROKEN = 2, JUDGE_SKIPPED = 77 };

__attribute__((noreturn, format(printf, 2, 3))) static inline void judge_end(int status, const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(status);
}
#define judge_broken(...) judge_end(JUDGE_BROKEN, __VA_ARGS__)

/* The same sequence in every run, one state a thread. */
static inline uint32_t judge_random(uint64_t *state)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(*state >> 33);
}

/* Zeroed, in no heap: a program's own tables must not stand in the heap that is measured. */
static inline void *judge_memory(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		judge_broken("mmap of %zu bytes: %s", bytes, strerror(errno));
	return p;
}

/* Calls back for each number of a kernel list such as "0-2,7". */
static inline void judge_list(const char *list, void (*found)(unsigned, void *), void *arg)
{
	while (*list >= '0' && *list <= '9') {
		char *end;
		unsigned long low = strtoul(list, &end, 10), high = low;

		if (*end == '-')
			high = strtoul(end + 1, &end, 10);
		for (unsigned long i = low; i <= high; i++)
			found((unsigned)i, arg);
		list = *end == ',' ? end + 1 : end;
	}
}

static inline int judge_line(const char *path, char *line, int bytes)
{
	FILE *file = fopen(path, "re");
	int ok = file && fgets(line, bytes, file);

	if (file)
		fclose(file);
	return ok;
}

static inline void judge_add_cpu(unsigned cpu, void *set)
{
	if (cpu < CPU_SETSIZE)
		CPU_SET(cpu, (cpu_set_t *)set);
}

/* The node's CPUs that this thread may run on; 0 of them if there is no such node. */
static inline int judge_cpus(unsigned node, cpu_set_t *cpus)
{
	char path[64], line[4096];
	cpu_set_t allowed;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/cpulist", node);
	CPU_ZERO(cpus);
	if (judge_line(path, line, sizeof(line)))
		judge_list(line, judge_add_cpu, cpus);
	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		judge_broken("sched_getaffinity: %s", strerror(errno));
	CPU_AND(cpus, cpus, &allowed);
	return CPU_COUNT(cpus);
}

static inline unsigned judge_here(void)
{
	unsigned node;

	if (syscall(SYS_getcpu, NULL, &node, NULL) || node >= JUDGE_NODES)
		judge_broken("getcpu: %s", strerror(errno));
	return node;
}

static inline void judge_run_on(unsigned node)
{
	cpu_set_t cpus;

	if (!judge_cpus(node, &cpus) || sched_setaffinity(0, sizeof(cpus), &cpus))
		judge_broken("node %u: %s", node, strerror(errno));
	if (judge_here() != node)
		judge_broken("pinned to node %u, but runs on node %u", node, judge_here());
}

static inline void judge_touch(unsigned char *p, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += JUDGE_PAGE)
		*(volatile unsigned char *)(p + at) = 1;
	*(volatile unsigned char *)(p + bytes - 1) = 1;
}

static inline void judge_ask(void **pages, int *where, size_t count)
{
	if (syscall(SYS_move_pages, 0, count, pages, NULL, where, MPOL_MF_MOVE))
		judge_broken("move_pages: %s", strerror(errno));
}

/*
 * Automatic NUMA balancing takes a page's mapping away for a moment, to see who comes back: such
 * a page is reported as absent until it is touched. (It also moves pages: measure without it.)
 */
static inline unsigned judge_page(void *page, int where)
{
	for (int i = 0; i < 100 && where == -ENOENT; i++) {
		(void)*(volatile unsigned char *)page;
		judge_ask(&page, &where, 1);
	}
	if (where < 0 || where >= JUDGE_NODES)
		judge_broken("a touched page is not there: %s", strerror(-where));
	return (unsigned)where;
}

/* Answers of one look at many blocks, during which no page moves: of those of the same page one asks. */
struct judge_look {
	struct {
		uintptr_t page; /* 0: none */
		unsigned node;
	} known[1024];
};

/* Adds the pages that a touched block lies on, by node. */
static inline void judge_count(struct judge_look *look, const void *p, size_t bytes, uint64_t pages[JUDGE_NODES])
{
	uintptr_t page = (uintptr_t)p & -JUDGE_PAGE, end = (uintptr_t)p + bytes;

	while (page < end) {
		void *ask[256];
		int where[256];
		size_t n = 0;

		for (; n < 256 && page < end; page += JUDGE_PAGE) {
			size_t at = page / JUDGE_PAGE % 1024;

			if (look->known[at].page == page)
				pages[look->known[at].node]++;
			else
				ask[n++] = (void *)page;
		}
		if (n)
			judge_ask(ask, where, n);
		while (n--) {
			size_t at = (uintptr_t)ask[n] / JUDGE_PAGE % 1024;

			look->known[at].page = (uintptr_t)ask[n];
			look->known[at].node = judge_page(ask[n], where[n]);
			pages[look->known[at].node]++;
		}
	}
}

/* A function of hakmem's, into a pointer to it; false under another allocator. */
static inline int judge_find(const char *name, void *function)
{
	void *p = dlsym(RTLD_DEFAULT, name);

	memcpy(function, &p, sizeof(p));
	return p != NULL;
}

struct judge_text {
	size_t bytes;
	char text[65536];
};

static inline void judge_append(void *to, const char *text, size_t bytes)
{
	struct judge_text *t = (struct judge_text *)to;

	if (t->bytes + bytes >= sizeof(t->text))
		judge_broken("long statistics");
	memcpy(t->text + t->bytes, text, bytes);
	t->text[t->bytes += bytes] = 0;
}

/* hakmem's statistics as JSON, until the next call. */
static inline const char *judge_statistics(void)
{
	int (*write)(enum hakmem_stats_format, hakmem_write_fn *, void *);
	static struct judge_text t;

	if (!judge_find("hakmem_stats_write", &write))
		judge_broken("no hakmem_stats_write");
	t.bytes = 0;
	write(HAKMEM_STATS_JSON, judge_append, &t);
	return t.text;
}

/* The first number of that name. */
static inline unsigned long judge_figure(const char *json, const char *key)
{
	char quoted[64], *at;

	snprintf(quoted, sizeof(quoted), "\"%s\":", key);
	at = strstr(json, quoted);
	if (!at)
		judge_broken("no %s in the statistics", key);
	return strtoul(at + strlen(quoted), NULL, 10);
}

/* From the object of a node's pool on: others of the node may stand under a policy. */
static inline const char *judge_pool(const char *json, unsigned node)
{
	char start[64], *at;

	snprintf(start, sizeof(start), "{\"node\":%u,\"policy\":0,", node);
	at = strstr(json, start);
	if (!at)
		judge_broken("no node %u in the statistics", node);
	return at;
}

static inline double judge_share(unsigned node, const uint64_t pages[JUDGE_NODES])
{
	uint64_t all = 0;

	for (unsigned n = 0; n < JUDGE_NODES; n++)
		all += pages[n];
	return all ? 100.0 * (double)pages[node] / (double)all : 0.0;
}

#endif
