/* SPDX-License-Identifier: MIT */
/* The counters, and the live block of this build with the note by which it is found. */
#include "live.h"

#include "counters.h"
#include "hakmem/hakmem.h"
#include "heap.h"
#include "numa/engine.h"
#include "numa/huge.h"
#include "numa/node.h"
#include "numa/topology.h"
#include "options.h"

#define AT(object) ((uint64_t)(uintptr_t)&(object))
#define COUNT(array) (sizeof(array) / sizeof *(array))

struct hak_counters hak_counters;

static const struct hak_live_counter process[] = {
#define COUNTER(name, help) { #name, AT(hak_counters.name) },
#include "counters.def"
#undef COUNTER
};
static const struct hak_live_counter heap[] = {
#define X(name) { #name, offsetof(struct hak_heap, name) },
	HAK_HEAP_COUNTERS(X)
#undef X
};
static const struct hak_live_counter node[] = {
#define X(key, name) { #key, offsetof(struct hak_node, name) },
	HAK_NODE_COUNTERS(X)
#undef X
};

_Static_assert((int)HAK_STAGES <= (int)HAK_LIVE_STAGES, "room for the names of all stages");

extern const struct hak_live hak_live __attribute__((visibility("hidden")));
__attribute__((used)) const struct hak_live hak_live = {
	.magic = HAK_LIVE_MAGIC,
	.version = HAK_LIVE_VERSION,
	.bytes = sizeof hak_live,
	.library = HAKMEM_VERSION,
	.process = { AT(process), COUNT(process) },
	.heap = { AT(heap), COUNT(heap) },
	.node = { AT(node), COUNT(node) },

	.heap_count_at = AT(hak_heap_total),
	.heap_chunks_at = AT(hak_heap_chunks),
	.chunk_heaps = HAK_CHUNK_HEAPS,
	.heap_bytes = sizeof(struct hak_heap),
	.heap_lock = offsetof(struct hak_heap, lock.state),
	.heap_node = offsetof(struct hak_heap, node),
	.heap_parked = offsetof(struct hak_heap, parked),
	.heap_stages = offsetof(struct hak_heap, stages),
	.stage_count = HAK_STAGES,
	.heap_mags = offsetof(struct hak_heap, mags),
	.mag_bytes = sizeof(struct hak_mag),
	.mag_top = offsetof(struct hak_mag, top),
	.heap_classes = offsetof(struct hak_heap, classes),
	.heap_class_bytes = sizeof(struct hak_heap_class),
	.class_slabs = offsetof(struct hak_heap_class, slabs),
	.class_nfree = offsetof(struct hak_heap_class, nfree),
	.class_entries = offsetof(struct hak_heap_class, entries),
	.stage = HAK_STAGE_NAMES,

	.classes_at = AT(hak_classes),
	.class_count = HAK_CLASSES,
	.class_bytes = sizeof(struct hak_class),
	.tiny_classes = HAK_TINY_CLASSES,
	.pool_classes = HAK_POOL_CLASSES,
	.class_stride = offsetof(struct hak_class, stride),
	.class_capacity = offsetof(struct hak_class, capacity),

	.nodes_at = AT(hak_nodes),
	.span_arenas_at = AT(hak_span_arenas),
	.node_count = HAK_NODES,
	.node_bytes = sizeof(struct hak_node),
	.node_arenas = offsetof(struct hak_node, arenas),
	.arena_next = offsetof(struct hak_arena, next),
	.arena_base = offsetof(struct hak_arena, base),
	.arena_small_end = offsetof(struct hak_arena, small_end),
	.arena_huge_start = offsetof(struct hak_arena, huge_start),
	.arena_super = offsetof(struct hak_arena, super),
	.arena_supers = HAK_ARENA_SUPERS,
	.arena_head_bytes = offsetof(struct hak_arena, seen),

	.windows_at = AT(hak_windows),
	.window_count = HAK_WINDOWS,
	.window_bytes = sizeof(struct hak_window),
	.window_base = offsetof(struct hak_window, base),
	.window_granules = offsetof(struct hak_window, granules),
	.window_tags = offsetof(struct hak_window, tags),
	.window_arenas = offsetof(struct hak_window, arenas),
	.tag_heap_shift = HAK_TAG_HEAP_SHIFT,
	.code_shift = HAK_CODE_SHIFT,
	.granule_shift = HAK_GRANULE_SHIFT,
	.arena_shift = HAK_ARENA_SHIFT,
	.arena_slabs = offsetof(struct hak_arena, slabs),
	.slab_bytes = sizeof(struct hak_slab),
	.slab_free_words = offsetof(struct hak_slab, free_words),
	.slab_carved = offsetof(struct hak_slab, carved),
	.class_mask = offsetof(struct hak_class, mask),
	.heap_remote = offsetof(struct hak_heap, remote),
	.heap_remote_count = offsetof(struct hak_heap, remote_count),
	.heap_inbox = offsetof(struct hak_heap, inbox),
	.heap_rest = offsetof(struct hak_heap, rest),
	.parcel_next = offsetof(struct hak_parcel, next),
	.parcel_count = offsetof(struct hak_parcel, count),
	.parcel_blocks = offsetof(struct hak_parcel, block),

	.node_direct = HAK_NODES_DIRECT,
	.node_key = offsetof(struct hak_node, key),
	.node_mode_shift = HAK_NODE_MODE_SHIFT,
	.topology_source = offsetof(struct hak_topology, source),
	.option_reclaim = HAK_OPT_reclaim * sizeof *hak_option_values,
	.topology_at = AT(hak_topology_now),
	.ring_at = AT(hak_engine_ring),
	.vector_at = AT(hak_engine_vector),
	.options_at = AT(hak_option_values),
	.node_frees_at = AT(hak_node_frees),
};
extern const struct hak_live hakmem_live HAK_EXPORT __attribute__((alias("hak_live")));

/* owner "hakmem", one 8-byte descriptor. The distance is known at link time: nothing to relocate. */
__asm__(".pushsection .note.hakmem, \"a\", %note\n"
	"	.balign 4\n"
	"	.4byte 7, 8, 1\n"
	"	.asciz \"hakmem\"\n"
	"	.balign 4\n"
	"1:	.8byte hak_live - 1b\n"
	"	.popsection\n");
