/* SPDX-License-Identifier: MIT */
/*
 * Does the program touch what it asks for? Huge pages make all of a block resident. Of a small block
 * a program cannot leave out a page, but a buffer is often filled in part only, and slabs of many
 * large classes are. So blocks of more than two pages, up to 8 MiB (huge.c), lie on small pages until those,
 * which the kernel can be asked about, have shown that most of them are used.
 */
#ifndef HAK_TOUCHED_H
#define HAK_TOUCHED_H

#include "base.h"

struct hak_run;

#define HAK_TOUCHED_RUNS HAK_CLASSES	    /* runs of a node's pool, instead of a class */
#define HAK_TOUCHED_SPANS (HAK_CLASSES + 1) /* runs of span arenas */

/*
 * Do huge pages pay for blocks of this class, or for runs? As far as is known; where
 * nothing can be seen, or nobody is there to look, they are taken to. Any thread.
 */
bool hak_touched(unsigned class);

/*
 * For those that do not, so many fresh granules were claimed on small pages. Now and then, as they become
 * more, the reclaimer is asked to look: it opens a file, which a program's thread must not do (the number
 * could be one that the program is closing, and a filter may kill for it). Any thread; callers may hold
 * locks.
 */
void hak_touched_ask(unsigned node, unsigned class, uint32_t granules);

/*
 * Claims granules of the node for a slab of the class, or for a run of the pool: on huge pages, if those are
 * wanted and pay; else it asks, if they are fresh. Any thread; callers may hold locks. False: no memory.
 */
bool hak_touched_claim(unsigned node, unsigned class, uint32_t count, bool huge, struct hak_run *run);

/* A look was asked for and has not ended. */
bool hak_touched_asked(void);

/* On the reclaimer's thread: looks if asked to; some 100 microseconds. */
void hak_touched_look(void);

#endif
