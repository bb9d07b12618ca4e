/* SPDX-License-Identifier: MIT */
/*
 * Own mappings: blocks from 64 MiB on, and such as want a policy or an alignment of their own, found
 * through a table.
 *
 * A mapping that is freed is kept for the next block of about its size, so that neither waits for the
 * kernel. The reclaimer unmaps what has been kept for the decay time, neighbours joined. What is kept
 * is bounded; nothing is while there is no reclaimer.
 *
 * All functions take the huge lock; the kernel's slow calls are made without it.
 */
#ifndef HAK_OWN_H
#define HAK_OWN_H

#include "base.h"
#include "lock.h"

/* A block of any size with a mapping of its own, zero, bound to the node; NULL if there is no memory. */
void *hak_own_alloc(unsigned node, size_t bytes, size_t align);
/* The same, not bound, for a thread of `node`, which is content with what another of them has left: *zero says
 * whether it is known to be zero. */
void *hak_own_alloc_on(unsigned node, size_t bytes, size_t align, bool *zero);
/* Bytes of the block that starts at p, 0 if none does. */
size_t hak_own_size(const void *p);
/* False: no own mapping starts at p. */
bool hak_own_free(void *p);
/* The block at its new size, moved if need be; NULL if there is no memory. */
void *hak_own_resize(void *p, size_t bytes);
/* True if p lies inside an own mapping. */
bool hak_own_contains(const void *p);

/* Reclaimer: how many bytes may be kept. Twice as many may wait for it to bring them down to that. */
void hak_own_set_room(size_t bytes);

enum hak_own_due {
	HAK_OWN_OVER, /* the oldest, until the rest is within its room */
	HAK_OWN_OLD,  /* what was there at the last look as well */
	HAK_OWN_ALL,
};
/* Unmaps what was kept. True: there may be more to do, soon after OVER, later after the others. Under the
 * reclaimer's lock, so that fork waits for what is on its way. */
bool hak_own_give_back(enum hak_own_due due);

/* In the child of a fork that runs no handlers, before the locks are reset. */
void hak_own_fork_raw(void);

extern struct hak_lock hak_huge_lock; /* for fork and the reclaimer */

#endif
