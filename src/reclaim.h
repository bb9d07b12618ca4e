/* SPDX-License-Identifier: MIT */
/* The background thread that gives EMPTY memory back, and the same on request. */
#ifndef HAK_RECLAIM_H
#define HAK_RECLAIM_H

#include "base.h"
#include "lock.h"

/* Memory became EMPTY. Cheap; starts nothing (callers may hold locks). */
void hak_reclaim_note(size_t bytes);

/* Starts the reclaimer if it is due. Call with no lock held, never from malloc. */
void hak_reclaim_poke(void);

/* Gives back all EMPTY memory now. Returns bytes. No lock held. */
size_t hak_reclaim_all(void);

/* In fork's child: there is no reclaimer. */
void hak_reclaim_forked(void);

uint64_t hak_reclaim_released(void); /* bytes given back so far */
bool hak_reclaim_running(void);

extern struct hak_lock hak_reclaim_lock; /* a pass; for fork */

#endif
