/* SPDX-License-Identifier: MIT */
/*
 * reclaim_study: which way of giving memory back costs the least, for which kind of batch, and what
 * does a thread notice that works meanwhile?
 *
 *   reclaim_study [--rounds N] [--library libhakmem-topo.so]
 *
 * One line a combination of way, range, page and batch. A round maps and touches `batch` ranges with
 * gaps between them, gives them back, and measures
 *
 *   free_us    until the calling thread may go on (a ring: until all is submitted)
 *   done_us    until the memory is back
 *   cpu_us     CPU time of the whole process less the sibling's: kernel workers included
 *   lost_us    what the sibling lost, on another CPU: it walks 256 pages of its own, with a TLB that
 *              every release flushes
 *
 * All of it a median over rounds. The ways take turns within a round, so that a disturbance of the
 * machine meets all of them.
 */
#include <dlfcn.h>
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "topo/topo.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define SELF_THREAD (-10000) /* PIDFD_SELF_THREAD, Linux 6.14 */
#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define BATCH_MOST 256u
#define ROUNDS_MOST 1000u
#define WALK_PAGES 256u
#define QUIET_NS 2000000u

enum way { LOOP, VECTOR, RING_1, RING_4, MUNMAP, WAYS };
static const char *const way_names[] = { "madvise", "process_madvise", "ring, 1 worker", "ring, 4 workers", "munmap" };

static const struct shape {
	size_t range;
	bool huge;
	unsigned batch;
} shapes[] = {
	{ 64 * KIB, false, 1 },	 { 64 * KIB, false, 16 }, { 64 * KIB, false, 128 }, { 256 * KIB, false, 16 },
	{ 256 * KIB, false, 128 }, { 2 * MIB, false, 1 }, { 2 * MIB, false, 16 },   { 2 * MIB, false, 64 },
	{ 2 * MIB, true, 1 },	 { 2 * MIB, true, 16 },	  { 2 * MIB, true, 128 },
};

struct figures {
	double free_us, done_us, cpu_us, lost_us;
};

static const struct hak_ring_ops *ring_ops;
static struct hak_ring *rings[2]; /* 1 and 4 workers */

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;
	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "reclaim_study: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- the sibling ---- */

static _Atomic uint64_t walks;
static _Atomic bool stop;

/* The calling thread to the first or the last CPU that it may use: apart, if there are two. */
static void stay(bool last)
{
	cpu_set_t all, one;
	CPU_ZERO(&one);
	if (sched_getaffinity(0, sizeof all, &all))
		fail("affinity");
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all) && (last || !CPU_COUNT(&one))) {
			CPU_ZERO(&one);
			CPU_SET(cpu, &one);
		}
	sched_setaffinity(0, sizeof one, &one);
}

static void *sibling(void *arg)
{
	volatile char *own = arg;
	stay(true);
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		for (unsigned i = 0; i < WALK_PAGES; i++)
			own[i * 4096 + i % 64 * 64]++;
		atomic_fetch_add_explicit(&walks, 1, memory_order_relaxed);
	}
	return NULL;
}

static double walks_per_ns(void)
{
	for (;;) {
		uint64_t t0 = clock_ns(CLOCK_MONOTONIC), w0 = walks;
		struct timespec quiet = { 0, QUIET_NS };
		nanosleep(&quiet, NULL);
		if (walks != w0) /* else it was not running */
			return (double)(walks - w0) / (double)(clock_ns(CLOCK_MONOTONIC) - t0);
	}
}

/* ---- the ways ---- */

static char *region;

static char *range_at(const struct shape *s, unsigned i)
{
	return region + 2 * (size_t)i * s->range;
}

static void refill(const struct shape *s, bool mapped)
{
	for (unsigned i = 0; i < s->batch; i++) {
		char *p = range_at(s, i);
		if (!mapped && mmap(p, s->range, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
				    0) == MAP_FAILED)
			fail("mmap");
		if (madvise(p, s->range, s->huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) ||
		    madvise(p, s->range, MADV_POPULATE_WRITE))
			fail("populate");
	}
}

static void ring_done(void *arg, uint64_t token, int result)
{
	(void)arg;
	(void)token;
	if (result) {
		errno = -result;
		fail("ring");
	}
}

static void by_ring(struct hak_ring *ring, const struct shape *s, uint64_t *freed)
{
	struct hak_ring_request batch[HAK_RING_ENTRIES_MAX];
	unsigned taken;
	/* the kernel's threads belong to the thread, not to the ring, and so does their number */
	if (ring_ops->limit_workers(ring, ring == rings[1] ? 4 : 1))
		fail("limit");
	for (unsigned at = 0; at < s->batch;) {
		unsigned n = 0;
		for (; n < HAK_RING_ENTRIES_MAX && at < s->batch; n++, at++)
			batch[n] = (struct hak_ring_request){ range_at(s, at), s->range, MADV_DONTNEED, at };
		if (ring_ops->submit(ring, batch, n, &taken) || taken != n)
			fail("submit");
		*freed = clock_ns(CLOCK_MONOTONIC);
		if (ring_ops->wait(ring, n, UINT64_MAX, ring_done, NULL))
			fail("wait");
	}
}

static void by_vector(const struct shape *s)
{
	struct iovec v[BATCH_MOST];
	for (unsigned i = 0; i < s->batch; i++)
		v[i] = (struct iovec){ range_at(s, i), s->range };
	ssize_t got = syscall(SYS_process_madvise, SELF_THREAD, v, s->batch, MADV_DONTNEED, 0);
	if (got < 0 && errno == EBADF) {
		int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
		got = syscall(SYS_process_madvise, fd, v, s->batch, MADV_DONTNEED, 0);
		close(fd);
	}
	if (got != (ssize_t)(s->batch * s->range))
		fail("process_madvise");
}

static void by_loop(const struct shape *s, bool unmap)
{
	for (unsigned i = 0; i < s->batch; i++)
		if (unmap ? munmap(range_at(s, i), s->range) : madvise(range_at(s, i), s->range, MADV_DONTNEED))
			fail("madvise");
}

static uint64_t cpu_ns(clockid_t sibling_clock, bool busy)
{
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID) - (busy ? clock_ns(sibling_clock) : 0);
}

static struct figures once(enum way way, const struct shape *s, clockid_t sibling_clock, bool busy)
{
	double rate = busy ? walks_per_ns() : 0;
	uint64_t w0 = walks, c0 = cpu_ns(sibling_clock, busy);
	uint64_t t0 = clock_ns(CLOCK_MONOTONIC), freed = 0;
	switch (way) {
	case LOOP:
	case MUNMAP:
		by_loop(s, way == MUNMAP);
		break;
	case VECTOR:
		by_vector(s);
		break;
	default:
		by_ring(rings[way == RING_4], s, &freed);
	}
	uint64_t t1 = clock_ns(CLOCK_MONOTONIC);
	uint64_t w1 = walks, c1 = cpu_ns(sibling_clock, busy);
	double lost = busy ? (double)(t1 - t0) - (double)(w1 - w0) / rate : 0;
	return (struct figures){ (double)((freed ? freed : t1) - t0) / 1e3, (double)(t1 - t0) / 1e3,
				 (double)(c1 - c0) / 1e3, lost / 1e3 };
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static double median(double *v, unsigned n)
{
	qsort(v, n, sizeof *v, compare);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* ---- the study ---- */

static bool vectors; /* the kernel has them for oneself */

static bool has(enum way way)
{
	if (way == VECTOR)
		return vectors;
	return way == RING_1 || way == RING_4 ? rings[way == RING_4] != NULL : true;
}

static bool vector_works(void)
{
	struct iovec v = { region, 4096 };
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	bool ok = syscall(SYS_process_madvise, fd, &v, 1, MADV_DONTNEED, 0) == 4096;
	close(fd);
	return ok;
}

static void study(const struct shape *s, bool busy, unsigned rounds, clockid_t sibling_clock)
{
	static double v[WAYS][4][ROUNDS_MOST];
	for (unsigned r = 0; r < rounds + 1; r++)
		for (unsigned way = 0; way < WAYS; way++) {
			if (!has(way))
				continue;
			refill(s, true);
			struct figures f = once(way, s, sibling_clock, busy);
			if (way == MUNMAP)
				refill(s, false);
			if (r == 0) /* warms up */
				continue;
			v[way][0][r - 1] = f.free_us;
			v[way][1][r - 1] = f.done_us;
			v[way][2][r - 1] = f.cpu_us;
			v[way][3][r - 1] = f.lost_us;
		}
	for (unsigned way = 0; way < WAYS; way++) {
		if (!has(way))
			continue;
		printf("| %4zu KiB | %s | %3u | %s | %-15s | %8.1f | %8.1f | %8.1f | ", s->range / KIB,
		       s->huge ? "huge " : "4 KiB", s->batch, busy ? "busy" : "idle", way_names[way],
		       median(v[way][0], rounds), median(v[way][1], rounds), median(v[way][2], rounds));
		printf(busy ? "%8.1f |\n" : " |\n", median(v[way][3], rounds));
	}
	fflush(stdout);
}

static void open_rings(const char *library)
{
	void *handle = dlopen(library, RTLD_NOW);
	const struct hak_topo_ops *(*open)(unsigned) = NULL;
	if (handle)
		*(void **)&open = dlsym(handle, "hak_topo_open");
	const struct hak_topo_ops *ops = open ? open(HAK_TOPO_ABI) : NULL;
	if (!ops || !ops->ring) {
		fprintf(stderr, "reclaim_study: no rings: %s\n", handle ? "built without" : dlerror());
		return;
	}
	ring_ops = ops->ring;
	for (int i = 0; i < 2; i++)
		if (ring_ops->create(HAK_RING_ENTRIES_MAX, &rings[i]))
			rings[i] = NULL;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "rounds", 1, NULL, 'r' }, { "library", 1, NULL, 'l' }, { 0 } };
	unsigned rounds = 31;
	const char *library = "libhakmem-topo.so";
	pthread_t thread;
	clockid_t clock = CLOCK_PROCESS_CPUTIME_ID;
	for (int c; (c = getopt_long(argc, argv, "r:l:", options, NULL)) != -1;)
		if (c == 'r' && atoi(optarg) > 0 && atoi(optarg) <= (int)ROUNDS_MOST)
			rounds = (unsigned)atoi(optarg);
		else if (c == 'l')
			library = optarg;
		else
			return 2;
	size_t bytes = 2 * BATCH_MOST * 2 * MIB + 2 * MIB;
	region = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *own = mmap(NULL, WALK_PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (region == MAP_FAILED || own == MAP_FAILED)
		fail("mmap");
	region = (char *)(((uintptr_t)region + 2 * MIB - 1) & ~(2 * MIB - 1));
	open_rings(library);
	vectors = vector_works();
	if (!vectors)
		fprintf(stderr, "reclaim_study: process_madvise on oneself is refused\n");
	puts("| range | page | batch | sibling | way | free us | done us | CPU us | sibling lost us |\n"
	     "| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
	for (int busy = 0; busy < 2; busy++) {
		stop = false;
		if (busy && (pthread_create(&thread, NULL, sibling, own) || pthread_getcpuclockid(thread, &clock)))
			fail("thread");
		if (busy)
			stay(false); /* alone, it and the ring's kernel threads have all CPUs */
		for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
			study(&shapes[i], busy, rounds, clock);
		stop = true;
	}
	pthread_join(thread, NULL);
	return 0;
}
