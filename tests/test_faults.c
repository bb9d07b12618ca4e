/* SPDX-License-Identifier: MIT */
/*
 * Does hakmem survive every refusal of the kernel? The system-call table fails its nth
 * call, for n = 1, 2, ... until a whole threaded run sees no failure; then all calls from
 * the nth on; then all calls of one kind. Whatever fails: no crash, no hang, no lost and no
 * doubled block, and once the kernel is willing again every size can be had.
 *
 * Each n runs in a fresh process, whose constructor below replaces the table before
 * hakmem's own constructor makes the first call. The machine is made up: two nodes,
 * between which threads move.
 *
 * io_uring's calls are libhakmem-topo's: its own table is replaced likewise, and further
 * loops fail each of its steps, a range's completion included.
 *
 *   test_faults [WORD [EVERY]]   the loops with WORD in their names; of n every EVERYth
 *
 * HAKMEM_HARDENED holds for the runs; FAULT_EVERY stands for EVERY.
 */
#include <dlfcn.h>
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
#include "topo/topo.h"

#define THREADS 3
#define OPS 300u
#define SLOTS 48u
#define SHARED 64u
#define RESULT_FD 3
#define HANG_SECONDS 20u /* times CK_TIMEOUT_MULTIPLIER */
#define NO_RING 77
#define WORKERS 2
#define MIB ((size_t)1 << 20)

enum mode { NONE, ONCE, FROM, KIND /* all calls of one kind: target is its step */ };

/* What can fail: each entry of the two tables, in their order, and steps that are no call of their own. */
#define SYS_CALLS(X)                                                                                                    \
	X(mmap) X(munmap) X(mremap) X(mprotect) X(madvise) X(munmap_own) X(madvise_own) X(madvise_vector)               \
	X(getaffinity) X(setaffinity) X(mbind) X(get_mempolicy) X(home_node) X(where_pages) X(getcpu) X(read_file)      \
	X(read_at) X(random) X(barrier) X(thread_start)
#define RING_CALLS(X) X(create) X(submit) X(wait) X(bind_workers) X(limit_workers) X(destroy)
#define RING_STEPS(X) X(half_a_batch) X(completion)

enum step {
#define X(name) STEP_##name,
	SYS_CALLS(X) SYS_END_, SYS_LAST_ = SYS_END_ - 1, RING_CALLS(X) RING_STEPS(X)
#undef X
	STEPS
};
static const char *const step_names[] = {
#define X(name) #name,
	SYS_CALLS(X)
#undef X
#define X(name) "ring: " #name,
	RING_CALLS(X) RING_STEPS(X)
#undef X
};

/* An entry that is added to a table must be made to fail here. The ring's others cannot fail. */
#define RING_CANNOT_FAIL 3 /* traits, in_flight, forget */
_Static_assert(sizeof(struct hak_sys) == SYS_END_ * sizeof(void (*)(void)), "each call of the system has its injection");
_Static_assert(sizeof(struct hak_ring_ops) == (STEP_half_a_batch - SYS_END_ + RING_CANNOT_FAIL) * sizeof(void (*)(void)),
	       "each call of the ring has its injection");

#define ERRORS 48 /* all numbers that are injected are below */

/* What a child reports. */
struct result {
	uint64_t calls, injected, refused;
	uint32_t by[STEPS][ERRORS]; /* injected; all of it fits in a pipe */
};

static enum mode mode;
static uint64_t target;
static _Atomic uint64_t calls, injected, refused;
static _Atomic uint32_t by[STEPS][ERRORS];
static struct hak_sys real;
static bool ring_only; /* count and fail the steps of ring and vectors, and nothing else */
static _Atomic bool willing; /* the end of the run: nothing fails any more */

/* ---- the table that fails --------------------------------------------------------- */

/* Is this call to fail, with this error? */
static bool due_now(enum step step, int err)
{
	if (atomic_load(&willing))
		return false;
	uint64_t n = atomic_fetch_add(&calls, 1) + 1;
	if (mode == NONE || (mode == KIND ? step != target : mode == ONCE ? n != target : n < target))
		return false;
	atomic_fetch_add(&injected, 1);
	atomic_fetch_add(&by[step][err], 1);
	return true;
}

static bool due(enum step step, int err)
{
	return !ring_only && due_now(step, err);
}

/* By n, also if only every 100th is run. */
static int either(int odd, int even)
{
	return __builtin_parityll(target) ? odd : even;
}

static int refuse(int err)
{
	errno = err;
	return -1;
}

static int f_fails(enum step step, int err)
{
	return due(step, err) ? refuse(err) : 0;
}

static void *f_mmap(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	/* another mapping is in the way, or no memory */
	int err = flags & MAP_FIXED_NOREPLACE ? either(EEXIST, ENOMEM) : ENOMEM;
	return f_fails(STEP_mmap, err) ? MAP_FAILED : real.mmap(addr, bytes, prot, flags, fd, offset);
}

static int f_munmap(void *addr, size_t bytes)
{
	return f_fails(STEP_munmap, ENOMEM) ? -1 : real.munmap(addr, bytes);
}

static void *f_mremap(void *addr, size_t old_bytes, size_t new_bytes, int flags, void *to)
{
	return f_fails(STEP_mremap, ENOMEM) ? MAP_FAILED : real.mremap(addr, old_bytes, new_bytes, flags, to);
}

static int f_mprotect(void *addr, size_t bytes, int prot)
{
	return f_fails(STEP_mprotect, ENOMEM) ? -1 : real.mprotect(addr, bytes, prot);
}

static int f_madvise(void *addr, size_t bytes, int advice)
{
	return f_fails(STEP_madvise, either(EAGAIN, EINVAL)) ? -1 : real.madvise(addr, bytes, advice);
}

static int f_munmap_own(void *addr, size_t bytes)
{
	return f_fails(STEP_munmap_own, ENOMEM) ? -1 : real.munmap_own(addr, bytes);
}

static int f_madvise_own(void *addr, size_t bytes, int advice)
{
	return f_fails(STEP_madvise_own, either(EAGAIN, EINVAL)) ? -1 : real.madvise_own(addr, bytes, advice);
}

static ssize_t f_madvise_vector(const struct iovec *ranges, size_t count, int advice)
{
	int err = either(EPERM, EINVAL);
	return due_now(STEP_madvise_vector, err) ? refuse(err) : real.madvise_vector(ranges, count, advice);
}

static int f_getaffinity(size_t bytes, void *mask)
{
	return due_now(STEP_getaffinity, EINVAL) ? refuse(EINVAL) : real.getaffinity(bytes, mask);
}

static int f_setaffinity(size_t bytes, const void *mask)
{
	return due_now(STEP_setaffinity, EINVAL) ? refuse(EINVAL) : real.setaffinity(bytes, mask);
}

/* The second node does not exist, so the kernel is not asked. */
static long f_mbind(void *addr, size_t bytes, int how, const unsigned long *nodes, unsigned long maxnode,
		    unsigned flags)
{
	(void)addr, (void)bytes, (void)how, (void)nodes, (void)maxnode, (void)flags;
	return f_fails(STEP_mbind, EPERM);
}

static long f_get_mempolicy(int *how, unsigned long *nodes, unsigned long maxnode, void *addr, unsigned long flags)
{
	(void)nodes, (void)maxnode, (void)addr, (void)flags;
	/* as getcpu below */
	static _Atomic uint64_t asked;
	if (atomic_fetch_add(&asked, 1) % 16 == 0 && f_fails(STEP_get_mempolicy, ENOSYS))
		return -1;
	if (how)
		*how = 0;
	return 0;
}

static _Thread_local unsigned node_here;

static long f_home_node(void *addr, size_t bytes, unsigned node)
{
	(void)addr, (void)bytes, (void)node;
	return f_fails(STEP_home_node, either(ENOSYS, EINVAL));
}

static long f_where_pages(unsigned long count, void **pages, int *status)
{
	(void)pages;
	for (unsigned long i = 0; i < count; i++)
		status[i] = (int)(i % 2);
	return f_fails(STEP_where_pages, EPERM);
}

static int f_getcpu(unsigned *cpu, unsigned *node)
{
	/* asked on every slow path: of those calls only a few count, or n would never end */
	static _Atomic uint64_t asked;
	if (atomic_fetch_add(&asked, 1) % 256 == 0 && f_fails(STEP_getcpu, ENOSYS))
		return -1;
	if (cpu)
		*cpu = 0;
	if (node)
		*node = node_here;
	return 0;
}

static ssize_t f_read_file(const char *path, char *buf, size_t cap)
{
	if (f_fails(STEP_read_file, either(ENOENT, EMFILE)))
		return -1;
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

static ssize_t f_read_at(int fd, uint64_t at, void *buf, size_t bytes)
{
	return f_fails(STEP_read_at, either(EBADF, EINTR)) ? -1 : real.read_at(fd, at, buf, bytes);
}

static bool f_random(void *buf, size_t bytes)
{
	return !due(STEP_random, EAGAIN) && real.random(buf, bytes);
}

static int f_barrier(void)
{
	return due(STEP_barrier, ENOSYS) ? -1 : real.barrier();
}

static int f_thread_start(void *(*run)(void *), void *arg)
{
	return due(STEP_thread_start, EAGAIN) ? EAGAIN : real.thread_start(run, arg);
}

/* ---- the ring that fails ----------------------------------------------------------- */

static const struct hak_ring_ops *real_ring;
static hak_ring_done *ring_done; /* hakmem's; one thread has a ring */

static int r_create(unsigned entries, struct hak_ring **out)
{
	int err = either(EMFILE, ENOSYS);
	return due_now(STEP_create, err) ? -err : real_ring->create(entries, out);
}

static int r_submit(struct hak_ring *ring, const struct hak_ring_request *batch, unsigned count, unsigned *taken)
{
	int err = either(EBADF, EAGAIN);
	if (due_now(STEP_submit, err)) {
		*taken = 0;
		return -err;
	}
	if (count < 2 || !due_now(STEP_half_a_batch, EBADF))
		return real_ring->submit(ring, batch, count, taken);
	/* half of it is taken, then it ends */
	int error = real_ring->submit(ring, batch, count / 2, taken);
	return error ? error : -EBADF;
}

static void r_done(void *arg, uint64_t token, int result)
{
	int err = either(EAGAIN, EINVAL);
	ring_done(arg, token, due_now(STEP_completion, err) ? -err : result);
}

static int r_wait(struct hak_ring *ring, unsigned at_least, uint64_t timeout_ns, hak_ring_done *done, void *arg)
{
	int err = either(EBADF, EINTR);
	ring_done = done;
	if (!due_now(STEP_wait, err))
		return real_ring->wait(ring, at_least, timeout_ns, r_done, arg);
	real_ring->wait(ring, 0, 0, r_done, arg); /* what is done is in memory that both share */
	return -err;
}

static int r_bind_workers(struct hak_ring *ring, const unsigned char *cpus, size_t mask_bytes)
{
	return due_now(STEP_bind_workers, EPERM) ? -EPERM : real_ring->bind_workers(ring, cpus, mask_bytes);
}

static int r_limit_workers(struct hak_ring *ring, unsigned workers)
{
	return due_now(STEP_limit_workers, EINVAL) ? -EINVAL : real_ring->limit_workers(ring, workers);
}

static int r_destroy(struct hak_ring *ring)
{
	return due_now(STEP_destroy, EBUSY) ? -EBUSY : real_ring->destroy(ring);
}

/* The second node that is made up, as the ring's user sees it: with the first one's CPUs. */
static int (*real_load)(const char *source, void *(*map)(size_t bytes), struct hak_topology **out);

static int load_two(const char *source, void *(*map)(size_t bytes), struct hak_topology **out)
{
	static const uint16_t other[2] = { 1, 0 };
	static const uint32_t distance[2][2] = { { 10, 20 }, { 20, 10 } };
	static struct hak_topo_node node[2];
	static struct hak_topology two;
	int error = real_load(source, map, out);
	if (error)
		return error;
	if (!two.nodes) {
		two = **out;
		two.nodes = 2;
		two.node = node;
		for (uint16_t i = 0; i < 2; i++) {
			node[i] = (*out)->node[0];
			node[i].os_index = i;
			node[i].spills = 1;
			node[i].spill = &other[i];
			node[i].distance = distance[i];
		}
	}
	*out = &two;
	return 0;
}

/* hakmem will load the same library, and find this table in it. */
static bool install_ring(void)
{
	static struct hak_ring_ops failing;
	void *library = dlopen("libhakmem-topo.so", RTLD_NOW | RTLD_LOCAL);
	const struct hak_topo_ops *(*open)(unsigned abi) = NULL;
	if (library)
		*(void **)&open = dlsym(library, "hak_topo_open");
	struct hak_topo_ops *ops = open ? (struct hak_topo_ops *)(uintptr_t)open(HAK_TOPO_ABI) : NULL;
	struct hak_ring *ring;
	if (!ops || !ops->ring || ops->ring->create(8, &ring))
		return false;
	ops->ring->destroy(ring);
	real_ring = ops->ring;
	failing = *real_ring;
#define X(name) failing.name = r_##name;
	RING_CALLS(X)
#undef X
	ops->ring = &failing;
	real_load = ops->load;
	ops->load = load_two;
	return true;
}

/* Before hakmem's constructor: the first call of all can fail. */
__attribute__((constructor(101))) static void install(void)
{
	const char *how = getenv("FAULT_MODE"), *n = getenv("FAULT_N");
	ring_only = getenv("FAULT_RING") != NULL;
	real = hak_sys;
	if (!how || !n)
		return;
	mode = (enum mode)atoi(how);
	target = strtoull(n, NULL, 10);
	hak_sys = (struct hak_sys){
#define X(name) .name = f_##name,
		SYS_CALLS(X)
#undef X
	};
	const char *times = getenv("CK_TIMEOUT_MULTIPLIER");
	alarm(HANG_SECONDS * (times ? (unsigned)atoi(times) : 1));
	if (!ring_only)
		return;
	/* where madvise is not libc's only the loop is used: another library may watch */
	hak_sys.madvise = real.madvise;
	if (!install_ring())
		_exit(NO_RING);
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
	atomic_store(&willing, true);
	struct result r = { atomic_load(&calls), atomic_load(&injected), atomic_load(&refused), { { 0 } } };
	memcpy(r.by, by, sizeof r.by);
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

static bool start(struct run *run, enum mode how, uint64_t n, bool ring, const char *hardened)
{
	int fds[2];
	char m[32], t[40], mode_of[40], times_of[40], path[4096];
	const char *folders = getenv("LD_LIBRARY_PATH"), *times = getenv("CK_TIMEOUT_MULTIPLIER");
	char *env[] = { m, t, mode_of, times_of, (char[]){ "HAKMEM_DECAY_MS=10" }, (char[]){ "HAKMEM_HUGE_ZONE_KIB=512" },
			ring ? path : NULL, (char[]){ "FAULT_RING=1" }, (char[]){ "HAKMEM_RECLAIM=uring" }, NULL };
	snprintf(path, sizeof path, "LD_LIBRARY_PATH=%s", folders ? folders : "");
	char *args[] = { (char[]){ "test_faults" }, NULL };
	if (pipe2(fds, O_CLOEXEC))
		return false;
	snprintf(mode_of, sizeof mode_of, "HAKMEM_HARDENED=%s", hardened);
	snprintf(times_of, sizeof times_of, "CK_TIMEOUT_MULTIPLIER=%s", times ? times : "1");
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

static const char *only; /* a word of the loops to run */
static const char *hardened = "0"; /* HAKMEM_HARDENED */
static uint64_t every = 1; /* of the numbers n, to save time */
static uint64_t all_runs, all_faults, all_by[STEPS][ERRORS]; /* survived */

static void add(const struct result *r)
{
	all_runs++;
	all_faults += r->injected;
	for (int step = 0; step < STEPS; step++)
		for (int err = 0; err < ERRORS; err++)
			all_by[step][err] += r->by[step][err];
}

/* Loops n. True: every run survived, and one at the end saw no failure. */
static bool loop(enum mode how, const char *name, bool ring)
{
	uint64_t runs = 0, faults = 0, refusals = 0, bad = 0;
	bool quiet = only && !strstr(name, only);
	for (uint64_t n = 1; !quiet && bad < 5; n += WORKERS * every) {
		struct run run[WORKERS];
		for (int i = 0; i < WORKERS; i++)
			if (!start(&run[i], how, n + (uint64_t)i * every, ring, hardened)) {
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
			add(&r);
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

/* The runs with the ring alone come by these for sure. */
static bool is_rings(enum step step)
{
	return step >= SYS_END_ || step == STEP_madvise_vector || step == STEP_getaffinity || step == STEP_setaffinity;
}

/* Under a filter nobody is sent to other CPUs. */
static bool is_filtered(enum step step)
{
	return hak_sys_seccomp() && (step == STEP_getaffinity || step == STEP_setaffinity);
}

/* A line for each step, and how often it failed with which error. Returns how many never failed. */
static int print_steps(bool ring)
{
	int never = 0;
	for (enum step step = 0; step < STEPS; step++) {
		bool any = (!ring && is_rings(step)) || is_filtered(step);
		printf("  %-20s", step_names[step]);
		for (int err = 0; err < ERRORS; err++)
			if (all_by[step][err]) {
				printf(" %s %llu", strerrorname_np(err), (unsigned long long)all_by[step][err]);
				any = true;
			}
		puts(any ? "" : " never");
		never += !any;
	}
	return never;
}

/* All calls of one kind fail, kind after kind: a kernel without them. */
static bool loop_kinds(bool ring)
{
	bool good = true;
	for (enum step step = 0; step < STEPS; step++) {
		struct run run;
		struct result r;
		if ((is_rings(step) && !ring) || (only && !strstr("kind", only)))
			continue;
		/* only hardened mode asks for random numbers */
		if (!start(&run, KIND, step, is_rings(step), step == STEP_random ? "1" : hardened) ||
		    !finish(&run, &r, step_names[step])) {
			good = false;
			continue;
		}
		add(&r);
	}
	printf("all calls of one kind fail: %s\n", good ? "ok" : "bad");
	return good;
}

int main(int argc, char **argv)
{
	int failed = 0, skipped = 0, status;
	struct run run;
	struct result r = { 0 };
	if (getenv("FAULT_MODE"))
		return child();
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	only = argc > 1 && *argv[1] ? argv[1] : NULL;
	const char *rarely = argc > 2 ? argv[2] : getenv("FAULT_EVERY");
	every = rarely ? strtoull(rarely, NULL, 10) : 1;
	if (getenv("HAKMEM_HARDENED"))
		hardened = getenv("HAKMEM_HARDENED");
	if (!start(&run, NONE, 0, false, hardened) || !finish(&run, &r, "no fault") || r.refused || r.calls < 50)
		failed++;
	printf("no fault: %llu calls\n", (unsigned long long)r.calls);
	failed += !loop(ONCE, "the nth call fails", false);
	failed += !loop(FROM, "all calls from the nth on fail", false);
	if (start(&run, NONE, 0, true, hardened) && waitpid(run.pid, &status, 0) == run.pid && WIFEXITED(status) &&
	    WEXITSTATUS(status) == NO_RING) {
		printf("the ring's steps: skipped: no io_uring, or no libhakmem-topo.so\n");
		skipped = 2;
	} else {
		failed += !loop(ONCE, "the ring's nth step fails", true);
		failed += !loop(FROM, "all steps of the ring from the nth on fail", true);
	}
	failed += !loop_kinds(!skipped);
	int never = print_steps(!skipped);
	if (!only && every == 1 && never) {
		printf("%d steps never failed: they are not tested\n", never);
		failed++;
	}
	printf("all: %llu injected faults survived in %llu runs\n", (unsigned long long)all_faults, (unsigned long long)all_runs);
	printf("%d passed, %d failed, %d skipped\n", 6 - failed - skipped, failed, skipped);
	return failed != 0;
}
