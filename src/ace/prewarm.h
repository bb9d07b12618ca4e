/* SPDX-License-Identifier: MIT */
/*
 * HAKMEM_PREWARM: slabs made ready before anybody asks for their blocks. They belong to a heap of no
 * thread, the stock of the node on which the program started, and stay there until a heap of that node
 * needs a slab of the class; pressure and malloc_trim take them back.
 *
 *   constructor   parses
 *   reclaimer     claims granules, has the kernel populate them, puts slabs on the stock
 */
#ifndef HAK_PREWARM_H
#define HAK_PREWARM_H

#include "base.h"

#define HAK_PREWARM_MOST 16u /* classes */

struct hak_prewarmed {
	unsigned class;
	uint32_t wanted; /* slabs */
	uint32_t ready;	 /* of these, made so far */
	uint32_t taken;	 /* of these, by heaps that needed one */
};

/* In the constructor, after the learner's start, in the thread whose node gets the stock. What is
 * wrong warns once and is ignored. */
void hak_prewarm_start(void);

/* There is something to make ready, and nobody has begun. */
bool hak_prewarm_due(void);

/* Makes it ready, once; another call finds nothing due. No lock held. */
void hak_prewarm_fill(void);

/* Number i of what was asked for; false beyond. Any thread. */
bool hak_prewarm_figures(unsigned i, struct hak_prewarmed *p);

#endif
