/* SPDX-License-Identifier: MIT */
/*
 * Engines: the ways to give the kernel advice about many ranges at once.
 *
 *   ring     io_uring: kernel threads on the node's CPUs do the work, several at a time
 *   vector   process_madvise on oneself (Linux 6.13): one call, one flush of the TLBs
 *   loop     libc's madvise, range by range: always there, and the only one that other
 *            libraries hook
 *
 * What an engine leaves undone the next one tries, so the results are the same whichever is
 * used. doc/reclaim-study.md has the measurement that chose the defaults.
 */
#ifndef HAK_ENGINE_H
#define HAK_ENGINE_H

#include "base.h"

/* HAKMEM_RECLAIM, in the order of the words in options.def */
enum hak_reclaim_option {
	HAK_RECLAIM_OFF,
	HAK_RECLAIM_AUTO,
	HAK_RECLAIM_URING,
	HAK_RECLAIM_VECTOR,
	HAK_RECLAIM_LOOP,
};

#define HAK_ENGINE_NO_NODE UINT32_MAX

struct hak_engine_range {
	char *addr;
	size_t bytes; /* less than 4 GiB */
	bool done;    /* out: the kernel did it */
};

/* On the reclaimer's thread, no lock held, before each pass: what may be used now? */
void hak_engine_prepare(void);

/* On the reclaimer's thread, after that: may it have barriers on all threads? Elsewhere nobody may. */
bool hak_engine_has_barrier(void);
/* When it returns every other thread has been through a full barrier since the call. False: there is none. */
bool hak_engine_barrier(void);

/*
 * Advises all ranges, which are of one node (or of none), and returns when that is done. The
 * ranges are the caller's, and so out of every other thread's reach. Under the reclaimer's lock,
 * any thread; only the reclaimer's has a ring.
 */
void hak_engine_run(uint32_t node, int advice, struct hak_engine_range *ranges, unsigned count);

/* In fork's child, with no lock held: the ring was the parent's. raw: nothing may be called. */
void hak_engine_forked(bool raw);

/* For statistics: the engine that is preferred at the moment. */
const char *hak_engine_name(void);
extern _Atomic bool hak_engine_vector, hak_engine_ring; /* what it goes by, for the live block alone */

#endif
