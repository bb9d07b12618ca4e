/* SPDX-License-Identifier: MIT */
/* Runs of granules as blocks. */
#include "l25/l25.h"

#include "counters.h"
#include "reclaim.h"

void *hak_l25_run(struct hak_heap *h, size_t bytes, bool *zero)
{
	struct hak_run run;
	uint32_t count = (uint32_t)(hak_align_up(bytes, HAK_GRANULE) >> HAK_GRANULE_SHIFT);
	if (!hak_pool_claim(h->node, count, false, hak_node_wants_huge(h->node), &run))
		return NULL;
	*zero = run.zero;
	run.arena->slabs[run.granule].carved = count;
	hak_tags_set(run.arena, run.granule, count, HAK_CODE_SPAN, HAK_CODE_SPAN_REST);
	hak_count(run_live, (uint64_t)count * HAK_GRANULE);
	return run.arena->base + (size_t)run.granule * HAK_GRANULE;
}

void hak_l25_run_release(struct hak_arena *arena, uint32_t granule, uint32_t count)
{
	hak_count(run_live, -((uint64_t)count * HAK_GRANULE));
	hak_pool_release(arena, granule, count);
}
