/* SPDX-License-Identifier: MIT */
/* The kernel's clocks as one number. In the vDSO, but for CPU times: no system call. Any thread, async-signal-safe. */
#ifndef HAK_CLOCK_H
#define HAK_CLOCK_H

#include "base.h"
#include <time.h>

#define HAK_NS_PER_MS ((uint64_t)1000000)
#define HAK_NS_PER_S ((uint64_t)1000000000)

static inline uint64_t hak_clock_ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * HAK_NS_PER_S + (uint64_t)t.tv_nsec;
}

/* Since some moment before the program's start. */
static inline uint64_t hak_now_ns(void)
{
	return hak_clock_ns(CLOCK_MONOTONIC);
}

static inline uint64_t hak_now_ms(void)
{
	return hak_now_ns() / HAK_NS_PER_MS;
}

#endif
