/* SPDX-License-Identifier: MIT */
/*
 * The live block: where a process keeps its statistics, for a reader outside it.
 *
 * `hakmem stat` copies counters, heaps and nodes out of a running process by
 * process_vm_readv(2). The process does nothing for it, may hang or be stopped, and so may
 * a core file. The block says where things are and at which offsets; it is constant, and
 * the same for debug and release builds of one version.
 *
 *   loaded image  an ELF note, owner "hakmem", type HAK_LIVE_NOTE: 8 bytes, the distance
 *                 from themselves to the block. In memory, so a library that was replaced
 *                 on disk since, a static or a stripped program are all the same
 *   block         struct hak_live, exported as hakmem_live
 *
 * A heap's figures belong together only under its lock: who reads the lock taken reads
 * again. Fields are only added, at the end; a change of meaning changes `version`.
 *
 * Included by the library and by tools/; needs nothing of either.
 */
#ifndef HAK_LIVE_H
#define HAK_LIVE_H

#include <stdint.h>

#define HAK_LIVE_MAGIC "hakmem\n"
#define HAK_LIVE_VERSION 1u
#define HAK_LIVE_NOTE 1u
#define HAK_LIVE_STAGES 8u

struct hak_live_counter {
	char name[24];
	uint64_t at; /* address, or offset in its structure, of a uint64_t */
};

struct hak_live_counters {
	uint64_t at; /* address of struct hak_live_counter[count] */
	uint64_t count;
};

/* All constant. Names ending in _at are addresses, the others offsets and numbers in bytes. */
struct hak_live {
	char magic[8];
	uint32_t version;
	uint32_t bytes; /* of this struct */
	char library[16];

	struct hak_live_counters process; /* by address */
	struct hak_live_counters heap;	  /* by offset in a heap */
	struct hak_live_counters node;	  /* by offset in a node */

	/* heap number id, 1 .. *heap_count_at, is chunk[id / chunk_heaps][id % chunk_heaps] */
	uint64_t heap_count_at; /* uint32_t */
	uint64_t heap_chunks_at;
	uint32_t chunk_heaps, heap_bytes;
	uint32_t heap_lock, heap_node, heap_parked, heap_stages; /* uint32_t, uint32_t, bool, uint64_t[] */
	uint32_t stage_count, heap_mags, mag_bytes, mag_top;
	uint32_t heap_classes, heap_class_bytes; /* of a class in a heap: */
	uint32_t class_slabs, class_nfree, class_entries, pad_; /* uint32_t, uint32_t, pointer */
	char stage[HAK_LIVE_STAGES][12];

	/* classes; the first tiny_classes are tiny's, those up to pool_classes pool's */
	uint64_t classes_at;
	uint32_t class_count, class_bytes, tiny_classes, pool_classes;
	uint32_t class_stride, class_capacity; /* uint32_t both */

	/* nodes; an arena list ends with NULL */
	uint64_t nodes_at, span_arenas_at;
	uint32_t node_count, node_bytes, node_arenas;
	uint32_t arena_next, arena_base, arena_small_end, arena_huge_start, arena_super, arena_supers;
	uint32_t arena_head_bytes; /* enough of an arena to hold all of these */

	/* from a pointer to its block (gdb.py): window, granule, tag, slab */
	uint64_t windows_at;
	uint32_t window_count, window_bytes, window_base, window_granules, window_tags, window_arenas;
	uint32_t tag_heap_shift, code_shift, granule_shift, arena_shift; /* of numbers, not of structures */
	uint32_t arena_slabs, slab_bytes, slab_free_words, slab_carved, class_mask;
	/* blocks on their way home: a heap's buffer, and parcels */
	uint32_t heap_remote, heap_remote_count, heap_inbox, heap_rest;
	uint32_t parcel_next, parcel_count, parcel_blocks;

	/* which node a pool is of: from node_direct on it has a key, a uint64_t with the kernel's number
	 * below bit node_mode_shift, and above it, in four bits, the policy that it stands under */
	uint32_t node_direct, node_key, node_mode_shift;
	/* engines: the topology, a pointer, has a uint32_t that names its source; NULL: builtin */
	uint32_t topology_source, option_reclaim, pad2_;
	uint64_t topology_at, ring_at, vector_at; /* bools, both */
	uint64_t options_at;			  /* int64_t[]; option_reclaim is an offset into it, 0 is off */
	/* blocks freed by threads of one node for heaps of another: uint64_t[node_count][node_count] */
	uint64_t node_frees_at;
};

#endif
