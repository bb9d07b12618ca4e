/* SPDX-License-Identifier: MIT */
/*
 * What does a fresh huge page cost? A quarter of what the page faults of as many small pages do. But
 * where the kernel must first move other pages out of the way, or a virtual machine's host has taken its
 * free memory back, it takes many times as long, and the program waits for it. So the first is made
 * ready by the reclaimer, which looks at the clock, and so is what is made ready ahead of a heap that
 * grows; while huge pages are dear slabs lie on small ones.
 *
 *	UNKNOWN --- asked for: the reclaimer tries one ---> CHEAP <---> DEAR, tried again after a while
 */
#ifndef HAK_PRICE_H
#define HAK_PRICE_H

#include "base.h"

/*
 * Shall slabs and runs on the node begin huge pages? If that is not known, or has not been for a while, the
 * reclaimer is asked to find out; where there is none they shall. Any thread; callers may hold locks.
 */
bool hak_price_pays(unsigned node);

/* Somebody waits for a huge page to be tried. */
bool hak_price_asked(void);

/* On the reclaimer's thread, under its lock: tries one if it is time to. */
void hak_price_look(void);

/* The reclaimer's thread has made a huge page ready, which took so much of its CPU time. */
void hak_price_note(uint64_t ns);

/* CPU time of the calling thread: what else runs on the machine is not in it. */
uint64_t hak_price_clock(void);

#endif
