/* SPDX-License-Identifier: MIT */
/* A budget shared out by water-filling: who wants little gets all of it, the others get the same. */
#ifndef HAK_SHARE_H
#define HAK_SHARE_H

#include <stdint.h>

/*
 * The highest level for which the sum of min(want[i], level) is within the budget; UINT64_MAX if
 * all wants are. Each gets min(want[i], level). Pure.
 */
uint64_t hak_share_level(const uint64_t *want, uint32_t count, uint64_t budget);

#endif
