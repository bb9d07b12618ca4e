/* SPDX-License-Identifier: MIT */
/*
 * Page-fault telemetry: whose first touches will cost page faults? Counted where memory that has no
 * pages becomes a slab, a run or a block, in pages of the kind that its zone should get: a huge one for
 * a SuperSlab that is begun, else a small one for each 4 KiB. So it costs nothing on the way of a block.
 */
#ifndef HAK_FRESH_H
#define HAK_FRESH_H

#include "base.h"
#include "route.h"

struct hak_run;

/* Granules claimed for a slab of the class; HAK_CLASSES: for a run. */
void hak_fresh_run(unsigned class, const struct hak_run *run, uint32_t count);
/* A block above 1 MiB, or a part of one, that has no pages. */
void hak_fresh_huge(size_t bytes, bool huge_pages);

/* By class, of slabs alone; by tier they are counters (counters.def). relaxed: figures */
extern _Atomic uint64_t hak_fresh_pages[HAK_CLASSES];

#endif
