/* SPDX-License-Identifier: MIT */
/*
 * Does hakmem survive every refusal of the kernel? The system-call table fails its nth
 * call, for n = 1, 2, ... until a whole threaded run sees no failure; then all calls from
 * the nth on. Whatever fails: no crash, no hang, no lost and no doubled block, and once
 * the kernel is willing again every size can be had.
 *
 * Each n runs in a fresh process, whose constructor below replaces the table before
 * hakmem's own constructor makes the first call. The machine is made up: two nodes,
 * between which threads move.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "counters.h"
#include "front.h"
#include "hakmem/hakmem.h"
#include "heap.h"
#include "numa/huge.h"
#include "numa/node.h"
#include "reclaim.h"
#include "stats.h"
#include "sys/sys.h"

#define THREADS 3
#define OPS 300u
#define SLOTS 48u
#define SHARED 64u
#define RESULT_FD 3
#define HANG_SECONDS 20u
#define WORKERS 2
#define MIB ((size_t)1 << 20)

enum mode { NONE, ONCE, FROM };

/* What a child reports. */
struct result {
	uint64_t calls, injected, refused;
};

static enum mode mode;
static uint64_t target;
static _Atomic uint64_t calls, injected, refused;
static struct hak_sys real;
static _Atomic bool willing; /* the end of the run: nothing fails any more */

/* ---- the table that fails --------------------------------------------------------- */

static bool due(void)
{
	if (atomic_load(&willing))
		return false;
	uint64_t n = atomic_fetch_add(&calls, 1) + 1;
	if (mode == NONE || (mode == ONCE ? n != target : n < target))
		return false;
	atomic_fetch_add(&injected, 1);
	return true;
}

static int refuse(int err)
{
	errno = err;
	return -1;
}

static void *f_mmap(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	if (due()) {
		/* odd n: another mapping is in the way; even: no memory */
		errno = (flags & MAP_FIXED_NOREPLACE) && target % 2 ? EEXIST : ENOMEM;
		return MAP_FAILED;
	}
	return real.mmap(addr, bytes, prot, flags, fd, offset);
}

static int f_munmap(void *addr, size_t bytes)
{
	return due() ? refuse(ENOMEM) : real.munmap(addr, bytes);
}

static void *f_mremap(void *addr, size_t old_bytes, size_t new_bytes, int flags, void *to)
{
	if (due()) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return real.mremap(addr, old_bytes, new_bytes, flags, to);
}

static int f_mprotect(void *addr, size_t bytes, int prot)
{
	return due() ? refuse(ENOMEM) : real.mprotect(addr, bytes, prot);
}

static int f_madvise(void *addr, size_t bytes, int advice)
{
	return due() ? refuse(target % 2 ? EAGAIN : EINVAL) : real.madvise(addr, bytes, advice);
}

static ssize_t f_madvise_vector(const struct iovec *ranges, size_t count, int advice)
{
	return due() ? refuse(target % 2 ? EPERM : EINVAL) : real.madvise_vector(ranges, count, advice);
}

static int f_getaffinity(size_t bytes, void *mask)
{
	return due() ? refuse(EINVAL) : real.getaffinity(bytes, mask);
}

static int f_setaffinity(size_t bytes, const void *mask)
{
	return due() ? refuse(EINVAL) : real.setaffinity(bytes, mask);
}

/* The second node does not exist, so the kernel is not asked. */
static long f_mbind(void *addr, size_t bytes, int how, const unsigned long *nodes, unsigned long maxnode,
		    unsigned flags)
{
	(void)addr, (void)bytes, (void)how, (void)nodes, (void)maxnode, (void)flags;
	return due() ? refuse(EPERM) : 0;
}

static long f_get_mempolicy(int *how, unsigned long *nodes, unsigned long maxnode, void *addr, unsigned long flags)
{
	(void)nodes, (void)maxnode, (void)addr, (void)flags;
	/* as getcpu below */
	static _Atomic uint64_t asked;
	if (atomic_fetch_add(&asked, 1) % 16 == 0 && due())
		return refuse(ENOSYS);
	*how = 0;
	return 0;
}

static _Thread_local unsigned node_here;

static long f_home_node(void *addr, size_t bytes, unsigned node)
{
	(void)addr, (void)bytes, (void)node;
	return due() ? refuse(ENOSYS) : 0;
}

static long f_where_pages(unsigned long count, void **pages, int *status)
{
	(void)pages;
	for (unsigned long i = 0; i < count; i++)
		status[i] = (int)(i % 2);
	return due() ? refuse(EPERM) : 0;
}

static int f_getcpu(unsigned *cpu, unsigned *node)
{
	/* asked on every slow path: of those calls only a few count, or n would never end */
	static _Atomic uint64_t asked;
	if (atomic_fetch_add(&asked, 1) % 256 == 0 && due())
		return refuse(ENOSYS);
	if (cpu)
		*cpu = 0;
	if (node)
		*node = node_here;
	return 0;
}

static ssize_t f_read_file(const char *path, char *buf, size_t cap)
{
	if (due())
		return refuse(ENOENT);
	if (strstr(path, "has_memory")) {
		strcpy(buf, "0-1\n");
		return 4;
	}
	if (strstr(path, "has_cpu")) { /* so the other one is memory-only: the longest way to bind */
		strcpy(buf, "0\n");
		return 2;
	}
	return real.read_file(path, buf, cap);
}

static int f_thread_start(void *(*run)(void *), void *arg)
{
	return due() ? EAGAIN : real.thread_start(run, arg);
}

/* Before hakmem's constructor: the first call of all can fail. */
__attribute__((constructor(101))) static void install(void)
{
	const char *how = getenv("FAULT_MODE"), *n = getenv("FAULT_N");
	real = hak_sys;
	if (!how || !n)
		return;
	mode = (enum mode)atoi(how);
	target = strtoull(n, NULL, 10);
	hak_sys = (struct hak_sys){
		.mmap = f_mmap, .munmap = f_munmap, .mremap = f_mremap, .mprotect = f_mprotect,
		.madvise = f_madvise, .madvise_vector = f_madvise_vector,
		.getaffinity = f_getaffinity, .setaffinity = f_setaffinity, .mbind = f_mbind, .get_mempolicy = f_get_mempolicy,
		.home_node = f_home_node, .where_pages = f_where_pages, .getcpu = f_getcpu,
		.read_file = f_read_file, .thread_start = f_thread_start,
	};
	alarm(HANG_SECONDS);
}

/* ---- blocks with patterns ----------------------------------------------------------- */

struct block {
	unsigned char *p;
	size_t n;
	uint64_t id;
};

static _Noreturn void fail(const char *what, const struct block *b)
{
	fprintf(stderr, "test_faults: %s: mode %d, n %llu, block %p of %zu bytes\n", what, (int)mode,
		(unsigned long long)target, b ? (void *)b->p : NULL, b ? b->n : (size_t)0);
	_exit(1);
}

static uint64_t next_random(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static unsigned char pattern(const struct block *b, size_t at)
{
	uint64_t x = (b->id + at / 8) * 0x9e3779b97f4a7c15u;
	return (unsigned char)(x >> 56 ^ at);
}

/*
 * Calls for the bytes that are looked at: all of a small block, both ends and the granules'
 * first bytes of a large one (touching all of 80 MiB would test the kernel, not us).
 */
static bool each_byte(const struct block *b, size_t upto, bool write)
{
	size_t edge = 512;
	for (size_t i = 0; i < b->n; i++) {
		if (b->n > 8192 && i >= edge && i < b->n - edge) {
			size_t step = b->n > 4 * MIB ? 32 * MIB : HAK_GRANULE;
			size_t next = hak_align_up(i + 1, step);
			if (i % step != 0) {
				i = hak_min(next, b->n - edge) - 1;
				continue;
			}
		}
		if (i >= upto)
			return true;
		if (write)
			b->p[i] = pattern(b, i);
		else if (b->p[i] != pattern(b, i))
			return false;
	}
	return true;
}

static void check(const struct block *b, const char *when)
{
	if (!each_byte(b, b->n, false))
		fail(when, b);
}

static size_t pick_size(uint64_t *seed)
{
	uint64_t r = next_random(seed) % 1000, x = next_random(seed);
	if (r < 500)
		return 1 + x % 2048;
	if (r < 720)
		return 2049 + x % (HAK_POOL_MAX - 2048);
	if (r < 850)
		return HAK_POOL_MAX + 1 + x % (HAK_SLAB_MAX - HAK_POOL_MAX);
	if (r < 920)
		return HAK_SLAB_MAX + 1 + x % (HAK_L25_MAX - HAK_SLAB_MAX);
	if (r < 985)
		return HAK_L25_MAX + 1 + x % (6 * MIB);
	return HAK_HUGE_OWN + x % (16 * MIB);
}

static void check_zero(const struct block *b)
{
	size_t step = b->n <= 4 * HAK_GRANULE ? 1 : 4093;
	for (size_t i = 0; i < b->n && i < 8 * MIB; i += step)
		if (b->p[i])
			fail("calloc: not zero", b);
}

static bool make(struct block *b, uint64_t *seed)
{
	static _Atomic uint64_t ids;
	uint64_t r = next_random(seed) % 10;
	size_t align = 1;
	b->n = pick_size(seed);
	b->id = atomic_fetch_add(&ids, 1) << 32;
	if (r == 0) {
		align = (size_t)32 << next_random(seed) % 12;
		if (next_random(seed) % 16 == 0)
			align = 4 * MIB;
		b->p = hak_memalign(align, b->n);
	} else if (r < 3) {
		b->p = hak_calloc(1, b->n);
		if (b->p)
			check_zero(b);
	} else {
		b->p = hak_malloc(b->n);
	}
	if (!b->p) {
		atomic_fetch_add(&refused, 1);
		return false;
	}
	if ((uintptr_t)b->p & (align - 1))
		fail("misaligned", b);
	if (hak_usable_size(b->p) < b->n)
		fail("usable size below the request", b);
	each_byte(b, b->n, true);
	return true;
}

static void drop(struct block *b)
{
	check(b, "overwritten before free");
	errno = 4711;
	hak_free(b->p);
	if (errno != 4711)
		fail("free changed errno", b);
	b->p = NULL;
}

static void resize(struct block *b, uint64_t *seed)
{
	size_t n = pick_size(seed);
	check(b, "overwritten before realloc");
	unsigned char *p = hak_realloc(b->p, n);
	if (!p) {
		atomic_fetch_add(&refused, 1);
		check(b, "overwritten by a failed realloc");
		return;
	}
	b->p = p;
	if (!each_byte(b, hak_min(n, b->n), false))
		fail("realloc lost bytes", b);
	b->n = n;
	each_byte(b, n, true);
}

/* ---- the run ------------------------------------------------------------------------ */

static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;
static struct block shared[SHARED];

/* Exchanges *b for what lies in a shared slot: blocks change hands. */
static void hand_over(struct block *b, uint64_t *seed)
{
	struct block *s = &shared[next_random(seed) % SHARED], t;
	pthread_mutex_lock(&shared_lock);
	t = *s;
	*s = *b;
	*b = t;
	pthread_mutex_unlock(&shared_lock);
}

static void *worker(void *arg)
{
	struct block own[SLOTS];
	uint64_t seed = 0x9e3779b97f4a7c15u * ((uintptr_t)arg + 1);
	memset(own, 0, sizeof own);
	node_here = (uintptr_t)arg & 1;
	for (unsigned i = 0; i < OPS; i++) {
		struct block *b = &own[next_random(&seed) % SLOTS];
		unsigned what = next_random(&seed) % 16;
		if (!b->p)
			make(b, &seed);
		else if (what < 4)
			hand_over(b, &seed);
		else if (what < 8)
			resize(b, &seed);
		else
			drop(b);
		if (i == OPS / 2)
			node_here ^= 1;
		if (i == OPS / 4)
			hak_reclaim_all();
		/* many of one class: magazines and remote buffers fill */
		if (i % (OPS / 2) == OPS / 5) {
			static void *many[THREADS][600];
			void **mine = many[(uintptr_t)arg % THREADS];
			size_t n = 16u << next_random(&seed) % 8;
			for (unsigned k = 0; k < 600; k++)
				mine[k] = hak_malloc(n);
			for (unsigned k = 0; k < 600; k++)
				hak_free(mine[k]);
		}
	}
	for (unsigned i = 0; i < SLOTS; i++)
		if (own[i].p && i % 2)
			drop(&own[i]);
		else if (own[i].p)
			for (unsigned k = 0; k < SHARED && own[i].p; k++)
				hand_over(&own[i], &seed);
	for (unsigned i = 0; i < SLOTS; i++)
		if (own[i].p)
			drop(&own[i]);
	return NULL;
}

static void wave(unsigned first)
{
	pthread_t t[THREADS];
	for (uintptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, worker, (void *)(first + i)))
			fail("pthread_create", NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
}

static void count_arena(struct hak_arena *a, void *arg)
{
	uint32_t mapped = atomic_load(&a->small_end) + HAK_ARENA_GRANULES - atomic_load(&a->huge_start), have = 0;
	(void)arg;
	for (uint32_t s = 0; s < HAK_ARENA_SUPERS; s++) {
		uint64_t w = atomic_load(&a->super[s]);
		if (HAK_WORD_EMPTY(w) & HAK_WORD_UNUSED(w))
			fail("a granule is EMPTY and UNUSED at once", NULL);
		have += (uint32_t)__builtin_popcountll(w);
	}
	if (have != mapped)
		fail("granules lost", NULL);
}

/* All blocks are free: then all memory is accounted for as free. */
static void check_nothing_lost(void)
{
	struct hakmem_stats s;
	hak_heap_empty(hak_heap_self);
	hak_reclaim_all();
	hak_lock(&hak_reclaim_lock); /* the reclaimer holds no granules meanwhile */
	hak_arena_each(count_arena, NULL);
	hak_stats_snapshot(&s);
	hak_unlock(&hak_reclaim_lock);
	if (s.live || s.cached) {
		fprintf(stderr, "live %llu, cached %llu\n", (unsigned long long)s.live, (unsigned long long)s.cached);
		fail("blocks lost in slabs", NULL);
	}
	if (hak_counted(span_live) || hak_counted(own_blocks) || hak_counted(own_mapped))
		fail("huge blocks lost", NULL);
	for (unsigned i = 0; i < HAK_NODES; i++)
		if (atomic_load(&hak_nodes[i].live_bytes))
			fail("a node's granules lost", NULL);
}

static void check_all_sizes(void)
{
	static const size_t sizes[] = { 1, 16, 200, 2048, 2049, 5000, 40000, 53248, 53249, 100000, 262144,
					262145, 700000, MIB, MIB + 1, 5 * MIB, 63 * MIB, 64 * MIB, 80 * MIB };
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct block b = { hak_malloc(sizes[i]), sizes[i], i };
		if (!b.p)
			fail("refused with a willing kernel", &b);
		each_byte(&b, b.n, true);
		b.p = hak_realloc(b.p, sizes[i] + 70 * MIB);
		if (!b.p || !each_byte(&b, b.n, false))
			fail("realloc with a willing kernel", &b);
		hak_free(b.p);
	}
}

/* Tried again and again, what cannot be had costs the block nothing. */
static void stubborn(struct block *b)
{
	unsigned char *p = NULL;
	for (unsigned i = 0; b->p && !p && i < 100; i++) {
		p = hak_realloc(b->p, HAK_HUGE_OWN + 3 * MIB);
		if (hak_usable_size(p ? p : b->p) < b->n)
			fail("a block of its own mapping lost", b);
		if (p)
			b->p = p;
		else
			atomic_fetch_add(&refused, 1);
	}
	if (b->p)
		drop(b);
}

static int child(void)
{
	struct block own = { hak_malloc(HAK_HUGE_OWN), HAK_HUGE_OWN, 1 };
	if (own.p)
		each_byte(&own, own.n, true);
	wave(0);
	wave(7);
	stubborn(&own);
	for (unsigned i = 0; i < SHARED; i++)
		if (shared[i].p)
			drop(&shared[i]);
	struct result r = { atomic_load(&calls), atomic_load(&injected), atomic_load(&refused) };
	atomic_store(&willing, true);
	check_all_sizes();
	check_nothing_lost();
	return write(RESULT_FD, &r, sizeof r) == sizeof r ? 0 : 1;
}

/* ---- the loop ------------------------------------------------------------------------ */

struct run {
	pid_t pid;
	int fd;
	uint64_t n;
};

static bool start(struct run *run, enum mode how, uint64_t n)
{
	int fds[2];
	char m[32], t[40];
	char *env[] = { m, t, (char[]){ "HAKMEM_DECAY_MS=10" }, (char[]){ "HAKMEM_HUGE_ZONE_KIB=512" }, NULL };
	char *args[] = { (char[]){ "test_faults" }, NULL };
	if (pipe2(fds, O_CLOEXEC))
		return false;
	snprintf(m, sizeof m, "FAULT_MODE=%d", (int)how);
	snprintf(t, sizeof t, "FAULT_N=%llu", (unsigned long long)n);
	run->n = n;
	run->fd = fds[0];
	run->pid = fork();
	if (run->pid == 0) {
		if (fds[1] == RESULT_FD)
			fcntl(RESULT_FD, F_SETFD, 0);
		else
			dup2(fds[1], RESULT_FD);
		execve("/proc/self/exe", args, env);
		_exit(127);
	}
	close(fds[1]);
	return run->pid > 0;
}

static bool finish(struct run *run, struct result *r, const char *name)
{
	int status = 0;
	bool ok = read(run->fd, r, sizeof *r) == sizeof *r;
	close(run->fd);
	waitpid(run->pid, &status, 0);
	if (ok && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	if (WIFSIGNALED(status))
		fprintf(stderr, "%s, n %llu: %s\n", name, (unsigned long long)run->n,
			WTERMSIG(status) == SIGALRM ? "hang" : strsignal(WTERMSIG(status)));
	else
		fprintf(stderr, "%s, n %llu: status %d\n", name, (unsigned long long)run->n, WEXITSTATUS(status));
	return false;
}

/* Loops n. True: every run survived, and one at the end saw no failure. */
static bool loop(enum mode how, const char *name)
{
	uint64_t runs = 0, faults = 0, refusals = 0, bad = 0;
	bool quiet = false;
	for (uint64_t n = 1; !quiet && bad < 5; n += WORKERS) {
		struct run run[WORKERS];
		for (int i = 0; i < WORKERS; i++)
			if (!start(&run[i], how, n + (uint64_t)i)) {
				perror("fork");
				exit(1);
			}
		for (int i = 0; i < WORKERS; i++) {
			struct result r = { 0 };
			if (!finish(&run[i], &r, name)) {
				bad++;
				continue;
			}
			runs++;
			faults += r.injected;
			refusals += r.refused;
			quiet |= r.injected == 0;
			if (!r.injected && r.refused) {
				fprintf(stderr, "%s: a request refused without a fault\n", name);
				bad++;
			}
		}
	}
	printf("%s: %llu runs, %llu faults injected, %llu requests refused, %llu bad\n", name,
	       (unsigned long long)runs, (unsigned long long)faults, (unsigned long long)refusals,
	       (unsigned long long)bad);
	return bad == 0;
}

int main(void)
{
	int failed = 0;
	struct run run;
	struct result r = { 0 };
	if (getenv("FAULT_MODE"))
		return child();
	signal(SIGPIPE, SIG_IGN);
	if (!start(&run, NONE, 0) || !finish(&run, &r, "no fault") || r.refused || r.calls < 50)
		failed++;
	printf("no fault: %llu calls\n", (unsigned long long)r.calls);
	failed += !loop(ONCE, "the nth call fails");
	failed += !loop(FROM, "all calls from the nth on fail");
	printf("%d passed, %d failed, 0 skipped\n", 3 - failed, failed);
	return failed != 0;
}
