/* SPDX-License-Identifier: MIT */
/*
 * Counters of the whole process, all in one place: who reads the statistics from inside
 * (stats.c) or from outside (live.h) finds a new one without being told. For slow paths:
 * they share cache lines.
 */
#ifndef HAK_COUNTERS_H
#define HAK_COUNTERS_H

#include "base.h"

struct hak_counters {
#define COUNTER(name, help) _Atomic uint64_t name; /* any thread */
#include "counters.def"
#undef COUNTER
};
extern struct hak_counters hak_counters;

/* relaxed: figures, which order nothing. n may be negative, for what is no more. */
#define hak_count(name, n) \
	((void)atomic_fetch_add_explicit(&hak_counters.name, (uint64_t)(n), memory_order_relaxed))
#define hak_counted(name) atomic_load_explicit(&hak_counters.name, memory_order_relaxed)

#endif
