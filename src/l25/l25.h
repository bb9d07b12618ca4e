/* SPDX-License-Identifier: MIT */
/*
 * The l25 tier above its slabs: blocks over 256 KiB to 1 MiB are runs of granules of a
 * SuperSlab on the asking thread's node. No heap owns them; any thread frees them
 * straight to the node.
 */
#ifndef HAK_L25_H
#define HAK_L25_H

#include "heap.h"

/* NULL if the node and all others are out of memory. *zero: known to be zero. */
void *hak_l25_run(struct hak_heap *h, size_t bytes, bool *zero);

/* The tags are clear already. */
void hak_l25_run_release(struct hak_arena *arena, uint32_t granule, uint32_t count);

/* Grows a run in place, into the granules behind it, or shrinks it. False: those are in use, or another
 * SuperSlab's. Whoever has the block. */
bool hak_l25_run_resize(struct hak_arena *arena, uint32_t granule, uint32_t old_count, uint32_t count);

#endif
