/* SPDX-License-Identifier: MIT */
/*
 * Nodes: where a thread runs, which memory is whose, and pools of granules that no heap owns.
 *
 * A pool is what threads share whose memory belongs in the same place: a node's or, for threads
 * that the user gave a memory policy (numactl, set_mempolicy), one for their node and that
 * policy. Memory that was touched under one policy is so never handed out under another.
 *
 *   0 .. 63    the kernel's node of that number; bound to it
 *   64 .. 127  made when first needed, and for good: a node with a higher number, a node
 *              under a policy of the user's (not bound), memory that hakmem interleaves (bound)
 *
 * Where the code says `node` it means such an index; hak_node_id() is the kernel's number.
 *
 * The pool is the SuperSlab words of its arenas: no list, so nothing to lose. A claim looks
 * for the densest SuperSlab that has room (so that others become wholly EMPTY), EMPTY
 * granules before UNUSED ones, and takes its bits by CAS. Growth alone takes its lock.
 */
#ifndef HAK_NODE_H
#define HAK_NODE_H

#include "base.h"
#include "lock.h"
#include "numa/arena.h"

#define HAK_NODES 128u
#define HAK_NODES_DIRECT 64u
#define HAK_NODE_MODE_SHIFT 12 /* of a policy's mode in a pool's key (node.c) */
#define HAK_NODE_IDS 1024u /* the kernel's own limit on x86-64 */
#define HAK_NODE_WORDS (HAK_NODE_IDS / 64)

struct hak_heap;
struct hak_topology;

enum hak_bind_option { /* HAKMEM_BIND, in the order of the words in options.def */
	HAK_BIND_OFF,
	HAK_BIND_ON,
	HAK_BIND_AUTO,
};
/* May mbind, move_pages and get_mempolicy be called? There are filters that kill for these, and for what the
 * constructors of hwloc and libnuma ask. */
bool hak_node_may_ask(void);
/* Is memory bound to its node, and the kernel asked for policies and where pages lie? */
bool hak_node_may_bind(void);

/* X(key in the statistics, field), each a uint64_t */
#define HAK_NODE_COUNTERS(X) X(mapped, mapped_bytes) X(claimed, live_bytes) X(runs, run_bytes) X(spilled, spilled_bytes)

struct hak_node {
	struct hak_lock lock;			 /* growth */
	struct hak_arena *_Atomic arenas;	 /* newest first; grows only */
	_Atomic uint64_t mapped_bytes;		 /* slab arenas, both zones */
	_Atomic uint64_t spilled_bytes;		 /* claimed for it from other pools, since the start */
	/* from DIRECT on: what the pool is for (node.c); 0: not in use. Immutable once set */
	_Atomic uint64_t key;
	struct hak_lock park_lock;
	struct hak_heap *parked, *parked_guests; /* under park_lock */
	struct hak_heap *_Atomic stock; /* a heap of no thread: slabs made ready (ace/prewarm.h); NULL: none */

	/* written with every run and slab; the above is hardly */
	_Atomic uint64_t live_bytes HAK_ALIGNED(HAK_CACHELINE); /* claimed granules */
	_Atomic uint64_t run_bytes;				/* of these, runs that programs have */
	_Atomic uint64_t out_bytes;				/* blocks in slabs that programs have, about */
} HAK_ALIGNED(HAK_CACHELINE);

extern struct hak_node hak_nodes[HAK_NODES];
extern _Atomic uint32_t hak_node_count; /* nodes with memory; 0: not asked yet */
bool hak_node_several(void);		/* are there? Asks, if need be */

/* [from][to]: blocks that threads of pool `from` freed and heaps of pool `to` owned. Both can be the
 * same: two threads of one node. Counted when the blocks leave the thread that freed them. */
extern _Atomic uint64_t hak_node_frees[HAK_NODES][HAK_NODES];

static inline void hak_node_count_frees(unsigned from, unsigned to, uint32_t blocks)
{
	/* relaxed: a figure */
	atomic_fetch_add_explicit(&hak_node_frees[from][to], blocks, memory_order_relaxed);
}

/* Bytes that programs have of the pool, about. */
static inline uint64_t hak_node_out(unsigned node)
{
	/* relaxed, both: for thresholds */
	return atomic_load_explicit(&hak_nodes[node].out_bytes, memory_order_relaxed) +
	       atomic_load_explicit(&hak_nodes[node].run_bytes, memory_order_relaxed);
}

/* It has memory, or its threads have freed others'. */
bool hak_node_in_use(unsigned node);

/* The kernel's node of the CPU this thread is on, or the nearest with memory if that one has
 * none; 0 where the kernel does not say. */
unsigned hak_node_here(void);

/* The pool for this thread's memory: its node's, and under its policy if it has one. Asks the
 * kernel for the policy, so it is for whoever takes new memory, not for every refill. */
unsigned hak_node_mine(void);

/* The same whatever its policy, without asking the kernel for one. */
unsigned hak_node_local(void);

/* False: the thread is on another node than the pool is for. Does not ask for policies. */
bool hak_node_still(unsigned node);

/* The pool for one of hakmem.h's places, as seen from this thread; -1: there is none. */
int hak_node_place(int place);

/* All of the calling thread's memory comes from this pool from now on; -1: ends that. */
void hak_node_pin(int node);
bool hak_node_pinned(void);

/* The kernel's node on which the page at p lies; -1: it is not touched, or no one may ask. */
int hak_node_where(const void *p);

/* Looks at one page in each of up to HAK_SAMPLE_PAGES SuperSlabs in use of the pool: how many of
 * those pages are there, and how many of them lie on its node. Both 0 for a pool under a policy,
 * and where there is one node or the kernel does not tell. */
#define HAK_SAMPLE_PAGES 1024u
void hak_node_sample(unsigned node, uint64_t *present, uint64_t *placed);

/* The kernel's node that a pool belongs to. */
unsigned hak_node_id(unsigned node);

/* The policy that a pool stands under, as the kernel numbers them: the user's, or that it is
 * interleaved by hakmem; 0: none. */
unsigned hak_node_policy(unsigned node);

/* True if its pages go to several nodes by turns. */
bool hak_node_interleaves(unsigned node);

/* Gives the range the pool's policy, if there are several nodes and the option is on: the
 * pool's node preferred; nothing where the user has a policy. Never fails: first touch remains. */
void hak_node_bind(unsigned node, void *p, size_t bytes);

/* For fresh memory over 1 MiB, which is not bound to a node: on a machine with memory-only nodes those come
 * last when nodes are full, if the kernel can do that. Nothing where the user has a policy. Never fails. */
void hak_node_memory_only_last(unsigned node, void *p, size_t bytes);

/*
 * For memory over 1 MiB, which no node is preferred for, before it is handed out again: pages that lie
 * elsewhere than on the pool's node go back to the kernel, all or none, so that first touch
 * decides again; of large ones also where the kernel does not tell. True: they did, and the range is zero.
 */
bool hak_node_respread(unsigned node, void *p, size_t bytes);

/* The other pools that have memory, in the order in which to take from them when there is no
 * address space left for `node`: same policy first, memory-only nodes last, by distance. */
unsigned hak_node_order(unsigned node, uint8_t order[HAK_NODES]);

/* The topology was published. On the reclaimer's thread, no lock held, as the next two. */
void hak_node_topology(const struct hak_topology *topology);

/* A number that changes when CPUs or nodes come or go, or this process may use others; never 0. */
uint64_t hak_node_machine(void);

/* It has changed: which nodes have memory and CPUs is read again. */
void hak_node_changed(void);

enum hak_stage {
	HAK_STAGE_OWN,	   /* 0    a slab of the heap with room */
	HAK_STAGE_NEAR,	   /* 0.5  EMPTY granules of a SuperSlab the heap used last */
	HAK_STAGE_ADOPTED, /* 0.7  a PARTIAL slab of a parked heap */
	HAK_STAGE_EMPTY,   /* 1    EMPTY granules of the node */
	HAK_STAGE_UNUSED,  /* 2    UNUSED granules */
	HAK_STAGE_NEW,	   /* 3    a SuperSlab that had no live granule */
	HAK_STAGES
};
#define HAK_STAGE_NAMES { "own", "near", "adopted", "empty", "unused", "new" }

struct hak_run {
	struct hak_arena *arena;
	uint32_t granule;
	bool zero; /* known to be zero */
	enum hak_stage stage;
};

/*
 * Claims `count` granules in a row within one SuperSlab of the node, if `aligned` to their
 * number or the next power of two. Prefers the huge zone or the
 * small-page zone; falls back to the other and then to other nodes before it fails.
 */
bool hak_pool_claim(unsigned node, uint32_t count, bool aligned, bool huge, struct hak_run *run);

/* Maps the huge zone's next step, for SuperSlabs that will be claimed. False: refused. */
bool hak_pool_grow_huge(unsigned node);

/* Claims EMPTY granules of the given SuperSlab only. */
bool hak_pool_claim_near(struct hak_arena *arena, uint32_t super, uint32_t count, bool aligned, struct hak_run *run);

/* Claims the granules [granule, granule + count) of a slab arena, the next ones behind a run that the caller
 * has. False: not all of them are free, or they are another SuperSlab's. Any thread. */
bool hak_pool_extend(struct hak_arena *arena, uint32_t granule, uint32_t count, struct hak_run *run);

/* Gives granules back as EMPTY; their tags are clear. */
void hak_pool_release(struct hak_arena *arena, uint32_t granule, uint32_t count);

/* SuperSlabs of the node that have a live granule; walks its arenas. */
uint64_t hak_node_supers(unsigned node);

/* Mapped SuperSlabs of the node by how many of their granules are live: none, 1 to 4, 5 to 8,
 * ... 29 to 32. */
#define HAK_OCCUPANCY 9
void hak_node_occupancy(unsigned node, uint64_t supers[HAK_OCCUPANCY]);

/* May memory for blocks of `bytes` be laid on huge pages? What is interleaved is so by pages: by huge
 * ones, nodes get even shares only of large blocks. */
bool hak_node_thp(unsigned node, size_t bytes);

/* True if slabs may be, and the node's live memory is beyond the option's limit. */
bool hak_node_wants_huge(unsigned node);

/* First granule of a fitting run in a mask, or -1. */
int hak_mask_fit(uint32_t mask, uint32_t count, bool aligned);
/* The same of a run whose last granule is closed, and no other. */
int hak_mask_fit_guarded(uint32_t mask, uint32_t closed, uint32_t count, bool aligned);

#endif
