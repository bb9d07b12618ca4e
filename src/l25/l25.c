/* SPDX-License-Identifier: MIT */
/* Runs of granules as blocks. */
#include "l25/l25.h"

#include "fresh.h"
#include "touched.h"

static void note_live(struct hak_arena *arena, uint64_t change)
{
	/* relaxed: a figure and a threshold */
	atomic_fetch_add_explicit(&hak_nodes[arena->node].run_bytes, change, memory_order_relaxed);
}

void *hak_l25_run(struct hak_heap *h, size_t bytes, bool *zero)
{
	struct hak_run run;
	uint32_t count = (uint32_t)(hak_align_up(bytes, HAK_GRANULE) >> HAK_GRANULE_SHIFT);
	/* no lock of the heap's is held, nor is the SuperSlab tried first that it claimed slabs of: of those EMPTY
	 * granules a run would seldom find enough */
	if (!hak_touched_claim(h->node, HAK_TOUCHED_RUNS, count, hak_node_wants_huge(h->node), &run))
		return NULL;
	*zero = run.zero;
	hak_fresh_run(HAK_CLASSES, &run, count);
	run.arena->slabs[run.granule].carved = count;
	hak_tags_set(run.arena, run.granule, count, HAK_CODE_SPAN, HAK_CODE_SPAN_REST);
	note_live(run.arena, (uint64_t)count * HAK_GRANULE);
	return run.arena->base + (size_t)run.granule * HAK_GRANULE;
}

bool hak_l25_run_resize(struct hak_arena *arena, uint32_t granule, uint32_t old_count, uint32_t count)
{
	struct hak_run more;
	if (count > old_count) {
		if (!hak_pool_extend(arena, granule + old_count, count - old_count, &more))
			return false;
		hak_fresh_run(HAK_CLASSES, &more, count - old_count);
		hak_tags_set(arena, granule + old_count, count - old_count, HAK_CODE_SPAN_REST, HAK_CODE_SPAN_REST);
		note_live(arena, (uint64_t)(count - old_count) * HAK_GRANULE);
		arena->slabs[granule].carved = count;
	} else if (count < old_count) {
		arena->slabs[granule].carved = count;
		hak_tags_set(arena, granule + count, old_count - count, 0, 0);
		hak_l25_run_release(arena, granule + count, old_count - count);
	}
	return true;
}

void hak_l25_run_release(struct hak_arena *arena, uint32_t granule, uint32_t count)
{
	note_live(arena, -((uint64_t)count * HAK_GRANULE));
	hak_pool_release(arena, granule, count);
}
