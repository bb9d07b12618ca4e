/* SPDX-License-Identifier: MIT */
/* Pages that are about to be touched for the first time. */
#include "fresh.h"

#include "counters.h"
#include "numa/node.h"
#include "options.h"

_Atomic uint64_t hak_fresh_pages[HAK_CLASSES];

void hak_fresh_run(unsigned class, const struct hak_run *run, uint32_t count)
{
	/* relaxed: the zone of what was claimed does not change */
	bool huge = hak_super_is_huge(run->arena, run->granule / HAK_SUPER_GRANULES);
	uint64_t pages = huge ? run->stage == HAK_STAGE_NEW : run->zero ? count * HAK_GRANULE_PAGES : 0;
	if (!pages)
		return;
	if (class < HAK_CLASSES)
		/* relaxed: a figure */
		atomic_fetch_add_explicit(&hak_fresh_pages[class], pages, memory_order_relaxed);
	switch (class < HAK_CLASSES ? hak_route_tier(class) : HAK_TIER_L25) {
	case HAK_TIER_TINY:
		hak_count(fresh_tiny, pages);
		break;
	case HAK_TIER_POOL:
		hak_count(fresh_pool, pages);
		break;
	default:
		hak_count(fresh_l25, pages);
	}
}

void hak_fresh_huge(size_t bytes, bool huge_pages)
{
	size_t page = huge_pages ? HAK_SUPER : HAK_PAGE;
	hak_count(fresh_huge, (bytes + page - 1) / page);
}
