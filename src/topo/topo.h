/* SPDX-License-Identifier: MIT */
/*
 * The interface of libhakmem-topo.so: what hakmem asks of hwloc, libnuma and liburing.
 *
 * The allocator itself needs nothing but libc. It loads this library lazily, on its background
 * thread, and finds one symbol in it, hak_topo_open. No type of the three libraries appears
 * here, so the core includes this file whether they exist or not.
 *
 * Who may call: any thread that holds no lock of hakmem's and is not inside malloc, because the
 * libraries below allocate. Functions return 0 or a negative errno and leave errno undefined.
 */
#ifndef HAK_TOPO_H
#define HAK_TOPO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Grows with every change of this file: both libraries must have been built from the same. */
#define HAK_TOPO_ABI 1u

#define HAK_TOPO_NO_NODE UINT16_MAX
#define HAK_TOPO_PAGE_TYPES 8
#define HAK_TOPO_ALIGN_MIN ((uint64_t)2 << 20)
#define HAK_TOPO_ALIGN_MAX ((uint64_t)32 << 20)

/* ---- the machine ---- */

/* In the order in which memory is taken when the own node is full. */
enum hak_mem_kind {
	HAK_MEM_DRAM,
	HAK_MEM_HBM, /* more bandwidth than the nodes with CPUs have: on-package memory */
	HAK_MEM_OTHER, /* memory-only, and nothing is said about it; NVM, a GPU's memory */
	HAK_MEM_CXL, /* slower than the nodes with CPUs: behind CXL or the like */
};

enum hak_topo_source {
	HAK_TOPO_HWLOC, /* this machine, found by hwloc */
	HAK_TOPO_SYSFS, /* this machine, or a recorded one, read from sysfs */
	HAK_TOPO_SYNTHETIC,
	HAK_TOPO_XML,
};
#define HAK_TOPO_SOURCE_NAMES { "hwloc", "sysfs", "synthetic", "xml" }

struct hak_page_type {
	uint64_t bytes;
	uint64_t count; /* pages of this size that the node has now, free or not */
};

/* "Position" is a node's index in hak_topology.node; os_index is the kernel's number. */
struct hak_topo_node {
	uint64_t memory_bytes; /* 0: CPUs without memory; spill[0] is their nearest memory */
	uint32_t bandwidth_mibs; /* from its nearest CPUs; 0 unknown */
	uint32_t latency_ns; /* from its nearest CPUs; 0 unknown */
	uint32_t page_types; /* entries used in page_type, smallest page first */
	uint16_t os_index;
	uint8_t kind; /* enum hak_mem_kind */
	bool has_cpus;
	bool allowed; /* this process may have memory here (cpuset) */
	uint16_t spills; /* entries in spill */
	struct hak_page_type page_type[HAK_TOPO_PAGE_TYPES];
	/*
	 * The other nodes' positions in the order to try when this one is full. Only nodes that
	 * have memory and are allowed; those with CPUs before those without, then by kind, then
	 * by distance, then by os_index.
	 */
	const uint16_t *spill;
	const uint32_t *distance; /* to each node by position, as the kernel's table: 10 is local */
	const unsigned char *cpus; /* hak_topology.mask_bytes, as sched_setaffinity takes them */
};

/*
 * One mapping of `bytes`, read-only from the moment load returns it, with every pointer inside:
 * a snapshot is given back by munmap(topology, topology->bytes).
 */
struct hak_topology {
	size_t bytes;
	uint32_t abi;
	uint32_t source; /* enum hak_topo_source */
	bool this_machine; /* false: never bind memory or threads by it */
	uint32_t nodes;
	uint32_t cpus; /* one more than the highest CPU number */
	uint32_t mask_bytes; /* of each node's CPU mask; a multiple of 8 */
	uint64_t base_page_bytes;
	/*
	 * What one entry of the second lowest page-table level maps, which is what transparent
	 * huge pages are made of: hpage_pmd_size on this machine, base * base / 8 elsewhere.
	 * 0: this kernel makes none.
	 */
	uint64_t huge_page_bytes;
	uint64_t thp_sizes; /* bit n: the kernel makes folios of 2^n bytes (its hugepages-*kB) */
	/*
	 * Alignment of SuperSlabs and large spans:
	 *   the huge page, if between ALIGN_MIN and ALIGN_MAX (2 MiB on x86-64, 32 MiB on arm64
	 *   with 16 KiB pages);
	 *   where it is larger (512 MiB on arm64 with 64 KiB pages), the largest page type or
	 *   folio size between the two, since these fit an arena and still save TLB entries;
	 *   else ALIGN_MIN.
	 */
	uint64_t align_bytes;
	const struct hak_topo_node *node;
	const uint16_t *cpu_node; /* by CPU number: position of its node, or HAK_TOPO_NO_NODE */
};

/* ---- the ring ---- */

#define HAK_RING_ENTRIES_MAX 64u

/* What a ring could be given (ring->traits). */
#define HAK_RING_NO_DESCRIPTOR 1u /* has no descriptor: the program cannot close it */
#define HAK_RING_REGISTERED 2u /* submits and waits even if the program closes its descriptor */
#define HAK_RING_SINGLE_ISSUER 4u
#define HAK_RING_DEFERRED 8u /* completions are posted only while its thread waits */

struct hak_ring;

struct hak_ring_request {
	void *addr;
	size_t bytes; /* less than 4 GiB */
	int advice;
	uint64_t token; /* handed to the callback */
};

/* result: 0 or the -errno that madvise gave for this range. */
typedef void hak_ring_done(void *arg, uint64_t token, int result);

/*
 * A ring belongs to the thread that created it: only that thread may call, except forget.
 * Requests run on kernel threads in any order; a range belongs to the ring from the submit that
 * took it until its callback.
 */
struct hak_ring_ops {
	/*
	 * -ENOSYS or -EPERM: not here, do not ask again (no io_uring, a sysctl, seccomp).
	 * -EOPNOTSUPP: the kernel's io_uring is too old (MADVISE, waiting with a timeout).
	 */
	int (*create)(unsigned entries, struct hak_ring **out);
	unsigned (*traits)(const struct hak_ring *ring);
	unsigned (*in_flight)(const struct hak_ring *ring);
	/*
	 * Hands over the batch. *taken says how many are now in flight, always the first ones:
	 * all of them when 0 is returned, fewer or none else. -EAGAIN: more than fit at the
	 * moment, none taken. -EINVAL: a range that cannot be asked for, none taken. -EBADF: the
	 * descriptor was lost and the ring should be destroyed.
	 */
	int (*submit)(struct hak_ring *ring, const struct hak_ring_request *batch, unsigned count,
		      unsigned *taken);
	/*
	 * Calls back for every completion that is there, and waits until at_least came (or all
	 * that are in flight). -ETIME: fewer came in timeout_ns. 0 only looks, UINT64_MAX has no
	 * end. The callback must not call the ring.
	 */
	int (*wait)(struct hak_ring *ring, unsigned at_least, uint64_t timeout_ns,
		    hak_ring_done *done, void *arg);
	/*
	 * CPUs on which the ring's kernel threads run. Threads that run already stay where they
	 * are until they have had nothing to do for 5 s (seen on Linux 6.1 and 6.18), and they
	 * belong to the calling thread, not to the ring. So bind before the first submit; rings
	 * that are to work on different nodes need threads of their own. -EBADF: see submit.
	 */
	int (*bind_workers)(struct hak_ring *ring, const unsigned char *cpus, size_t mask_bytes);
	int (*limit_workers)(struct hak_ring *ring, unsigned workers);
	/* -EBUSY while requests are in flight. */
	int (*destroy)(struct hak_ring *ring);
	/* In a child of fork, in place of everything else: drops the inherited descriptor. */
	void (*forget)(struct hak_ring *ring);
};

/* ---- the entry ---- */

#define HAK_TOPO_HAS_HWLOC 1u
#define HAK_TOPO_HAS_LIBNUMA 2u
#define HAK_TOPO_HAS_LIBURING 4u

struct hak_topo_ops {
	unsigned abi;
	unsigned features; /* HAK_TOPO_HAS_*: built with it, and what is loaded fits */
	/*
	 * source: NULL for this machine; "synthetic:DESCRIPTION" (hwloc's syntax);
	 * "sysfs:FOLDER", which holds a copy of sys/devices/system/node and the like; else the
	 * path of an XML file that lstopo saved. Other than NULL never counts as this machine.
	 * map: gives `bytes` of zeroed, writable, private pages or NULL; NULL means mmap(2).
	 * -ENOTSUP: needs hwloc, which is not there. -EINVAL, -ENOENT: not a topology.
	 * -E2BIG: a synthetic one of more than 4,096 CPUs.
	 */
	int (*load)(const char *source, void *(*map)(size_t bytes), struct hak_topology **out);
	const struct hak_ring_ops *ring; /* NULL: built without liburing */
};

/* NULL when the caller was built with another abi. The library is never unloaded. */
const struct hak_topo_ops *hak_topo_open(unsigned abi);

#endif
