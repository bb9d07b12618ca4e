/* SPDX-License-Identifier: MIT */
/*
 * When statistics are written, and where: at exit, over time, on a signal. HAKMEM_STATS and
 * HAKMEM_STATS_SIGNAL say so. What is written over time or on a signal is written by a
 * thread of its own, which the first slow malloc starts.
 */
#ifndef HAK_RECORD_H
#define HAK_RECORD_H

#include "base.h"
#include "hakmem/hakmem.h"

/*
 * Files that options name, for their writers. A daemon changes its folder: a relative path is
 * completed in the constructor. False: it is none, or too long.
 */
#define HAK_RECORD_PATH 512
bool hak_record_path(char to[HAK_RECORD_PATH], const char *s, size_t bytes);
/* Opens it, or makes it, for writing, with %p replaced by the process id. -1: a warning was given. */
int hak_record_open(const char *pattern, int flags);

/* The constructor's: notes the options; opens and starts nothing yet. */
void hak_record_start(void);

/* Starts the thread if it is due. Where hak_reclaim_poke may be called, for the same reasons. */
extern _Atomic uint32_t hak_record_due;
void hak_record_thread(void);
static inline void hak_record_poke(void)
{
	/* relaxed: set before the thread that reads it existed, or read a little late */
	if (hak_unlikely(atomic_load_explicit(&hak_record_due, memory_order_relaxed)))
		hak_record_thread();
}

/* The destructor's: writes what was asked for. */
void hak_record_exit(void);

/* In fork's child, which has no such thread. again: it may be started, as hak_reclaim_forked. */
void hak_record_forked(bool again);

/* libhakmem-profile.so's (profile/); NULL in libhakmem.so. The profile as text, for pprof. */
extern void hak_profile_text(hakmem_write_fn *write, void *arg) __attribute__((weak, visibility("hidden")));

/* Also its own: makes room for so many guarded blocks. */
extern void hak_guarded_start(long slots) __attribute__((weak, visibility("hidden")));

#endif
