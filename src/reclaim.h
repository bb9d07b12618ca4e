/* SPDX-License-Identifier: MIT */
/* The background thread that gives EMPTY memory back, and the same on request. */
#ifndef HAK_RECLAIM_H
#define HAK_RECLAIM_H

#include "base.h"
#include "lock.h"

/* Memory became EMPTY. Cheap; starts nothing (callers may hold locks). */
void hak_reclaim_note(size_t bytes);

/* There is something that cannot wait for the next pass. Costs a system call. */
void hak_reclaim_hurry(void);

/* A wholly free SuperSlab of the node's huge zone was begun. Callers may hold locks. */
void hak_reclaim_begun(unsigned node);

/*
 * Starts the reclaimer if it is due. Call from malloc's slow path, with no lock held. Never
 * from free: the C library frees an ended thread's tables with the lock of its cache of
 * stacks held, which pthread_create takes (tests/preload_threads.c, join).
 */
void hak_reclaim_poke(void);

/* There is something to look at, for the learner or touched.h: ends the reclaimer's sleep. Callers may
 * hold locks. */
void hak_reclaim_look(void);

/* At the constructor's end: from now on the reclaimer may be started. */
void hak_reclaim_ready(void);

/* Gives back all EMPTY memory now. Returns bytes. No lock held. */
size_t hak_reclaim_all(void);

/* The same for a request about to fail: parts of huge pages too, whatever that costs. */
size_t hak_reclaim_last(void);

/* In fork's child: there is no reclaimer. again: it may be started; not after a raw fork,
 * where the C library's locks may be held by threads that are gone. */
void hak_reclaim_forked(bool again);

bool hak_reclaim_running(void);

/* It is, or will be when it is due. */
bool hak_reclaim_possible(void);

extern struct hak_lock hak_reclaim_lock; /* a pass; for fork */

#endif
