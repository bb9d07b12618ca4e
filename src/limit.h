/* SPDX-License-Identifier: MIT */
/*
 * How much memory there may be: the user's limits, the cgroup's, and the kernel's word that memory
 * is short. The hard limit is checked where hakmem maps memory; all else is asked by the reclaimer
 * before a pass.
 */
#ifndef HAK_LIMIT_H
#define HAK_LIMIT_H

#include "base.h"

/* In the constructor: HAKMEM_SOFT_LIMIT and HAKMEM_HARD_LIMIT. */
void hak_limit_start(void);

/* Before memory for blocks is mapped. False: that would pass the hard limit. */
bool hak_limit_take(size_t bytes);
/* It was not mapped after all, or is unmapped. */
void hak_limit_give(size_t bytes);

/* What there is for this process: the cgroup's, or the machine's. Reads files. */
uint64_t hak_limit_memory(void);

/* Reclaimer, no lock held: is memory short, by any of the measures? */
bool hak_limit_is_pressed(void);

/* In fork's child, with no lock held. */
void hak_limit_forked(void);

/* "512M", "2G", "80%" of `whole`, or bytes. 0: none of these. */
uint64_t hak_limit_parse(const char *text, uint64_t whole);

#endif
