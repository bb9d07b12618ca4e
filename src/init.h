/* SPDX-License-Identifier: MIT */
/*
 * Start-up, thread and process ends. hakmem starts at the first call, whenever that
 * is (the dynamic linker allocates before any constructor); the constructor then reads
 * the options and registers for fork.
 */
#ifndef HAK_INIT_H
#define HAK_INIT_H

#include "base.h"

struct hak_heap;

/* The calling thread's heap, made if need be. *transient: the thread has ended; the
 * caller parks the heap when done. NULL if there is no memory. */
struct hak_heap *hak_self(bool *transient);

/* h is the calling thread's heap: it is h still, or, if the thread has moved to another
 * node, one of that node; h is then parked and no longer the caller's. */
struct hak_heap *hak_self_settle(struct hak_heap *h);

/* The same, where the kernel is also asked whether the thread has a policy of its own. */
struct hak_heap *hak_self_change(struct hak_heap *h);

/* For frees: the thread's heap, or the empty one if it has none. */
struct hak_heap *hak_self_if_any(void);

/* Notices a fork that ran no handlers (_Fork, clone), and repairs what it cut off. */
void hak_fork_check(void);

#endif
