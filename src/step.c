/* SPDX-License-Identifier: MIT */
/* Perturbation (step.h). */
#include "step.h"

#if HAK_PERTURB
#include <errno.h>
#include <sched.h>
#include <sys/single_threaded.h>
#include <time.h>

/* Most steps go on at once, or a run would see too few of them; one in 8 lets others run, one in
 * 128 sleeps for so long that others do much of their work meanwhile. */
void hak_step(void)
{
	static HAK_TLS uint32_t state;
	int err = errno;
	if (__libc_single_threaded) /* nobody to meet; and where others are busy, each stop takes long */
		return;
	if (!state)
		state = (uint32_t)(uintptr_t)&state | 1;
	state = state * 1664525u + 1013904223u;
	if (state >> 25 == 0) {
		struct timespec t = { 0, 1000 + (state >> 8) % 100000 };
		nanosleep(&t, NULL);
	} else if (state >> 28 == 1 || state >> 28 == 2) {
		sched_yield();
	}
	errno = err;
}
#endif
