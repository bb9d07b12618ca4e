/* SPDX-License-Identifier: MIT */
/*
 * SIGSEGV in the pool of guarded blocks, and what is written of a guarded block. The handler goes
 * on to the one that it took the place of: the program's, or the default action.
 */
#ifndef HAK_PROFILE_CRASH_H
#define HAK_PROFILE_CRASH_H

#include "base.h"

struct hak_guarded;
struct hak_profile_site;

/* Makes sure that SIGSEGV comes here first, also where the program has set a handler of its own
 * since: that one is called next. Any thread, under the profile's lock. */
void hak_crash_watch_locked(void);

/* A bad free of `thread` at `by`, by the function named: as hak_fault_in, with the stacks after the line. block: as it
 * was before. */
HAK_COLD void hak_crash_bad_free(const char *function, const char *fault, const void *p, const struct hak_guarded *block,
				 int thread, const struct hak_profile_site *by);

#endif
