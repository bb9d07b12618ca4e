/* SPDX-License-Identifier: MIT */
/*
 * Requests that were not served from where they should have been, and why. Each is counted
 * (counters.def), and with HAKMEM_TRACE_FAILURES=N up to N a second are a line on stderr:
 *
 *   hakmem: not served as it should be: cap: 33296 bytes, 1 slabs kept
 *
 * For slow paths, where new memory is about to be taken or was refused.
 */
#ifndef HAK_FAILURE_H
#define HAK_FAILURE_H

#include "base.h"

enum hak_failure {
	HAK_FAILURE_THRESHOLD, /* a new slab, since the classes with room are above W_MAX; detail: the least of them in percent */
	HAK_FAILURE_CAP,       /* a new slab, though one of the class was given back: the heap keeps no more. detail: slabs it keeps */
	HAK_FAILURE_BUDGET,    /* mapping so many bytes would pass the hard limit */
	HAK_FAILURE_MAP,       /* the kernel maps no more; detail: errno */
};

/* Counts it, and says so if asked. Any thread, under any lock; keeps errno. */
HAK_COLD void hak_failure(enum hak_failure why, size_t bytes, uint64_t detail);

/* What a mapping failed with, if that is a failure: another mapping in the way is a detour.
 * EDQUOT stands for the hard limit. */
HAK_COLD void hak_failure_map(size_t bytes, int err);

#endif
