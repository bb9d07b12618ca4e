/* SPDX-License-Identifier: MIT */
/* Water-filling by bisection of the level. */
#include "ace/share.h"

static uint64_t poured(const uint64_t *want, uint32_t count, uint64_t level)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < count; i++)
		sum += want[i] < level ? want[i] : level;
	return sum;
}

uint64_t hak_share_level(const uint64_t *want, uint32_t count, uint64_t budget)
{
	uint64_t low = 0, high = budget + 1; /* the level is in [low, high) */
	if (poured(want, count, UINT64_MAX) <= budget)
		return UINT64_MAX;
	while (high - low > 1) {
		uint64_t middle = low + (high - low) / 2;
		if (poured(want, count, middle) <= budget)
			low = middle;
		else
			high = middle;
	}
	return low;
}
