/* SPDX-License-Identifier: MIT */
/*
 * Which engine is used, by this order of questions, asked before each pass:
 *
 *   does a library watch madvise (RDMA's registration caches, or one that stands before libc's)?
 *   Then the loop, always. Is a seccomp filter in force and no engine asked for? The loop: some
 *   filters kill. Else what HAKMEM_RECLAIM says; and with `auto` vectors where the kernel has
 *   them, else the ring for whole SuperSlabs, once the arenas have been large, and the loop for small ranges.
 *
 * The reclaimer's thread goes to the node's CPUs for a node's batch, and the ring's kernel
 * threads are bound to them before the first request. Such a thread stays where it is until it
 * has had nothing to do for 5 s, so the ring serves one node until it has rested that long, and
 * the vectors or the loop serve the others meanwhile.
 */
#include "numa/engine.h"

#include <errno.h>
#include <gnu/libc-version.h>
#include <link.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "clock.h"
#include "counters.h"
#include "numa/arena.h"
#include "numa/topology.h"
#include "options.h"
#include "sys/sys.h"

#define RING_ENTRIES HAK_RING_ENTRIES_MAX
#define RING_WORKERS 2u		/* more of them gain nothing: doc/reclaim-study.md */
#define RING_REST_NS ((uint64_t)6000000000)
#define RING_LEAST ((uint64_t)64 << 20) /* of arenas, before `auto` takes it */
#define RING_OPENS 8u		/* a program that closes every descriptor it finds wins in the end */
#define VECTOR_RANGES 256u
#define MASK_BYTES 2048u	/* the kernel's most CPUs, 16,384 */

/* What may be used: written before a pass by the reclaimer, read by it and by trims. relaxed: a
 * trim that sees the old value uses an engine that was right a moment ago */
static _Atomic bool use_vector, use_ring;
extern _Atomic bool hak_engine_vector __attribute__((alias("use_vector")));
extern _Atomic bool hak_engine_ring __attribute__((alias("use_ring")));

/* the reclaimer's thread only */
static struct hak_ring *ring;
static HAK_TLS bool reclaimer;
static bool filtered, barriers; /* is a seccomp filter in force; may a barrier be asked for? */
static unsigned ring_opens;
static uint32_t ring_node = HAK_ENGINE_NO_NODE;
static uint64_t ring_used_ns;
static uint32_t at_node = HAK_ENGINE_NO_NODE; /* where the thread is bound to */
static uint64_t own_mask[MASK_BYTES / 8];     /* what the user allowed it */
static bool own_mask_known;
static unsigned long long objects_seen; /* libraries loaded so far, at the last look */
static bool watched;

/* ---- what may be used ------------------------------------------------------------- */

struct look {
	uintptr_t madvise, libc; /* addresses of functions */
	uintptr_t madvise_object, libc_object;
	bool rdma;
};

static bool holds(const struct dl_phdr_info *info, uintptr_t p)
{
	for (int i = 0; i < info->dlpi_phnum; i++) {
		uintptr_t start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
		if (info->dlpi_phdr[i].p_type == PT_LOAD && p >= start && p < start + info->dlpi_phdr[i].p_memsz)
			return true;
	}
	return false;
}

static int look_at(struct dl_phdr_info *info, size_t size, void *arg)
{
	/* these keep caches of registered memory, by patching libc's madvise and munmap */
	static const char *const rdma[] = { "libibverbs.so", "libfabric.so", "libucm.so" };
	struct look *look = arg;
	(void)size;
	if (info->dlpi_adds == objects_seen)
		return 1; /* nothing was loaded since */
	const char *name = strrchr(info->dlpi_name, '/');
	name = name ? name + 1 : info->dlpi_name;
	for (size_t i = 0; i < sizeof rdma / sizeof *rdma; i++)
		look->rdma |= strncmp(name, rdma[i], strlen(rdma[i])) == 0;
	/* an object may be loaded at 0, so + 1 */
	if (holds(info, look->madvise))
		look->madvise_object = info->dlpi_addr + 1;
	if (holds(info, look->libc))
		look->libc_object = info->dlpi_addr + 1;
	return 0;
}

static int count_objects(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	*(unsigned long long *)arg = info->dlpi_adds;
	return 1;
}

/* Is there a library that must see our calls? Once one is there it is taken to stay. */
static void look_for_watchers(void)
{
	struct look look = { .madvise = (uintptr_t)hak_sys.madvise, .libc = (uintptr_t)gnu_get_libc_version };
	unsigned long long adds = 0;
	if (watched)
		return;
	dl_iterate_phdr(look_at, &look);
	dl_iterate_phdr(count_objects, &adds);
	objects_seen = adds;
	watched = look.rdma || look.madvise_object != look.libc_object;
}

static void probe_vector(void)
{
	void *page = hak_sys_map(HAK_PAGE);
	struct iovec v = { page, HAK_PAGE };
	if (!page)
		return;
	atomic_store_explicit(&use_vector, hak_sys.madvise_vector(&v, 1, MADV_DONTNEED) == (ssize_t)HAK_PAGE,
			      memory_order_relaxed);
	hak_sys.munmap_own(page, HAK_PAGE);
}

/* Has the process enough for batches that a ring makes easier? Its library and theirs take 2 MiB. */
static bool is_large(void)
{
	/* relaxed: a threshold */
	return atomic_load_explicit(&hak_arena_grown, memory_order_relaxed) >= RING_LEAST;
}

static void open_ring(void)
{
	const struct hak_topo_ops *topo;
	if (ring || ring_opens >= RING_OPENS || !(topo = hak_topology_library()) || !topo->ring)
		return;
	ring_opens++;
	ring_node = HAK_ENGINE_NO_NODE;
	if (topo->ring->create(RING_ENTRIES, &ring))
		ring = NULL;
	else
		(void)topo->ring->limit_workers(ring, RING_WORKERS); /* an older kernel: more of them */
}

static void close_lost_ring(void)
{
	/* what was in flight has been waited for */
	if (ring && !atomic_load_explicit(&use_ring, memory_order_relaxed) && hak_topo()->ring->destroy(ring) == 0)
		ring = NULL;
}

/* Fork is excluded: a child must know of the ring, or of none. */
static void prepare(void)
{
	static bool probed;
	long how = hak_option_get(HAK_OPT_reclaim);
	look_for_watchers();
	close_lost_ring();
	if (watched || how == HAK_RECLAIM_LOOP || (how == HAK_RECLAIM_AUTO && filtered)) {
		atomic_store_explicit(&use_vector, false, memory_order_relaxed);
		atomic_store_explicit(&use_ring, false, memory_order_relaxed);
		probed = false;
		return;
	}
	if (!probed)
		probe_vector();
	probed = true;
	if (how == HAK_RECLAIM_URING ||
	    (how == HAK_RECLAIM_AUTO && !atomic_load_explicit(&use_vector, memory_order_relaxed) && is_large()))
		open_ring();
	atomic_store_explicit(&use_ring, ring != NULL, memory_order_relaxed);
}

void hak_engine_prepare(void)
{
	reclaimer = true;
	uint32_t filters = hak_sys_seccomp();
	filtered = filters != 0; /* or nobody can tell */
	/* what systemd lets every service do (@default), and containers' default profiles let them do */
	barriers = hak_sys_may_try(filters) && (barriers || !hak_sys.barrier()); /* the first takes its time */
	if (hak_topology_enter()) {
		prepare();
		hak_topology_leave();
	}
}

bool hak_engine_has_barrier(void)
{
	return reclaimer && barriers;
}

bool hak_engine_barrier(void)
{
	barriers = hak_engine_has_barrier() && !hak_sys.barrier();
	return barriers;
}

const char *hak_engine_name(void)
{
	if (hak_option_get(HAK_OPT_reclaim) == HAK_RECLAIM_OFF)
		return "off";
	/* relaxed: a figure */
	return atomic_load_explicit(&use_ring, memory_order_relaxed)   ? "ring" :
	       atomic_load_explicit(&use_vector, memory_order_relaxed) ? "vector" :
									   "loop";
}

/* ---- where it runs ----------------------------------------------------------------- */

/* The node's CPUs, as far as the user allows them. False: there is nothing to bind to. */
static bool mask_of(uint32_t node, uint64_t *mask, size_t *bytes)
{
	const struct hak_topology *t = hak_topology();
	uint64_t any = 0;
	if (!t || !t->this_machine || t->nodes < 2 || t->mask_bytes > MASK_BYTES)
		return false;
	if (!own_mask_known && hak_sys.getaffinity(sizeof own_mask, own_mask))
		return false;
	own_mask_known = true;
	*bytes = t->mask_bytes;
	for (uint32_t i = 0; i < t->nodes; i++)
		if (t->node[i].os_index == node)
			for (size_t w = 0; w < *bytes / 8; w++) {
				uint64_t cpus;
				memcpy(&cpus, t->node[i].cpus + w * 8, 8);
				mask[w] = cpus & own_mask[w];
				any |= mask[w];
			}
	return any != 0;
}

static void go_to(uint32_t node)
{
	uint64_t mask[MASK_BYTES / 8];
	size_t bytes;
	/* there are filters that kill for it */
	if (node == at_node || node == HAK_ENGINE_NO_NODE || filtered || !mask_of(node, mask, &bytes))
		return;
	if (hak_sys.setaffinity(bytes, mask) == 0)
		at_node = node;
}

/* ---- the engines ------------------------------------------------------------------- */

static void ring_done(void *arg, uint64_t token, int result)
{
	struct hak_engine_range *ranges = arg;
	ranges[token].done = result == 0;
	hak_count(ring_ranges, result == 0);
}

/* True if the ring's kernel threads are, or will be, on the node's CPUs. */
static bool ring_serves(uint32_t node)
{
	uint64_t mask[MASK_BYTES / 8];
	size_t bytes;
	if (node == ring_node || node == HAK_ENGINE_NO_NODE)
		return true;
	if (ring_node != HAK_ENGINE_NO_NODE && hak_now_ns() - ring_used_ns < RING_REST_NS)
		return false;
	/* refused: they run anywhere, which is slower and no worse */
	if (mask_of(node, mask, &bytes))
		(void)hak_topo()->ring->bind_workers(ring, (const unsigned char *)mask, bytes);
	ring_node = node;
	return true;
}

static void run_ring(int advice, struct hak_engine_range *ranges, unsigned count)
{
	const struct hak_ring_ops *ops = hak_topo()->ring;
	struct hak_ring_request batch[RING_ENTRIES];
	for (unsigned at = 0; at < count;) {
		unsigned n = (unsigned)hak_min(RING_ENTRIES, count - at), taken;
		for (unsigned i = 0; i < n; i++)
			batch[i] = (struct hak_ring_request){ ranges[at + i].addr, ranges[at + i].bytes, advice, at + i };
		int error = ops->submit(ring, batch, n, &taken);
		/* the kernel completes what it took, also if the ring's descriptor is gone */
		while (ops->in_flight(ring))
			(void)ops->wait(ring, taken, UINT64_MAX, ring_done, ranges);
		if (error) {
			atomic_store_explicit(&use_ring, false, memory_order_relaxed);
			break;
		}
		at += taken;
	}
	ring_used_ns = hak_now_ns();
}

static void run_vector(int advice, struct hak_engine_range *ranges, unsigned count)
{
	struct iovec v[VECTOR_RANGES];
	for (unsigned at = 0; at < count;) {
		unsigned n = 0;
		for (; n < VECTOR_RANGES && at + n < count; n++)
			v[n] = (struct iovec){ ranges[at + n].addr, ranges[at + n].bytes };
		ssize_t got = hak_sys.madvise_vector(v, n, advice);
		if (got < 0 && errno != EINVAL && errno != ENOMEM && errno != EAGAIN && errno != EINTR)
			return; /* the call itself is refused */
		unsigned done = 0;
		for (; done < n && got >= (ssize_t)v[done].iov_len; done++) {
			got -= (ssize_t)v[done].iov_len;
			ranges[at + done].done = true;
		}
		hak_count(vector_ranges, done);
		/* it stops at the first range that is refused: that one is left to the loop */
		at += done < n ? done + 1 : n;
	}
}

static void run_loop(int advice, struct hak_engine_range *ranges, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (!ranges[i].done) {
			ranges[i].done = hak_sys.madvise(ranges[i].addr, ranges[i].bytes, advice) == 0;
			hak_count(loop_ranges, ranges[i].done);
			hak_count(refused_ranges, !ranges[i].done);
		}
}

static bool are_large(const struct hak_engine_range *ranges, unsigned count)
{
	size_t bytes = 0;
	for (unsigned i = 0; i < count; i++)
		bytes += ranges[i].bytes;
	return bytes >= count * HAK_SUPER;
}

void hak_engine_run(uint32_t node, int advice, struct hak_engine_range *ranges, unsigned count)
{
	bool asked = hak_option_get(HAK_OPT_reclaim) == HAK_RECLAIM_URING;
	for (unsigned i = 0; i < count; i++)
		ranges[i].done = false;
	if (reclaimer)
		go_to(node);
	if (reclaimer && atomic_load_explicit(&use_ring, memory_order_relaxed) &&
	    (asked || are_large(ranges, count)) && ring_serves(node))
		run_ring(advice, ranges, count);
	else if (count > 1 && atomic_load_explicit(&use_vector, memory_order_relaxed))
		run_vector(advice, ranges, count);
	run_loop(advice, ranges, count);
}

void hak_engine_forked(bool raw)
{
	const struct hak_topo_ops *topo = hak_topo();
	if (ring && !raw && !hak_sys_stands_apart())
		topo->ring->forget(ring);
	ring = NULL;
	ring_opens = 0;
	barriers = own_mask_known = false;
	at_node = ring_node = HAK_ENGINE_NO_NODE;
	/* relaxed: the child has one thread */
	atomic_store_explicit(&use_ring, false, memory_order_relaxed);
}
