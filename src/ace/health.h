/* SPDX-License-Identifier: MIT */
/*
 * HAKMEM_ACE_HEALTH: a line on stderr where a class keeps missing its target of hits, and where slabs
 * that were made ready stay unused. What is judged is in the statistics without it, too.
 */
#ifndef HAK_HEALTH_H
#define HAK_HEALTH_H

#include "base.h"

/* Reclaimer's thread: takes a look if one is due. */
void hak_health_look(void);

/* At exit: what was made ready and never used. */
void hak_health_exit(void);

/* For tests: judges what was asked since the last time, at so many milliseconds. */
void hak_health_judge(uint64_t ms);

/* KiB that refills of a static class took and, of these, in slabs that were there. Sampled; a
 * dynamic class counts as the static one whose sizes it took. */
struct hak_health_class {
	uint64_t hit_kib, missed_kib;
};
struct hak_health_class hak_health_class(unsigned class);

#endif
