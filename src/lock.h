/* SPDX-License-Identifier: MIT */
/*
 * Locks and their order. A thread takes locks only in the order of this enum; the
 * debug build dies on a violation. No holder allocates from the heap, calls a
 * library that might, or touches fresh memory of a user's block.
 *
 *   HAK_RANK_FORK     held by fork's handlers alone
 *   HAK_RANK_RECLAIM  the reclaimer's pass
 *   HAK_RANK_IDS      the table of heaps
 *   HAK_RANK_HEAP     a heap; never two at once (fork excepted). Others' heaps by
 *                     trylock, which no order binds
 *   HAK_RANK_PARK     a node's list of parked heaps
 *   HAK_RANK_NODE     a node's arenas: growth
 *   HAK_RANK_HUGE     span arenas and own mappings
 *   HAK_RANK_ARENA    the window's table of arenas
 *   HAK_RANK_META     metadata memory
 */
#ifndef HAK_LOCK_H
#define HAK_LOCK_H

#include "base.h"

enum hak_rank {
	HAK_RANK_FORK,
	HAK_RANK_RECLAIM,
	HAK_RANK_IDS,
	HAK_RANK_HEAP,
	HAK_RANK_PARK,
	HAK_RANK_NODE,
	HAK_RANK_HUGE,
	HAK_RANK_ARENA,
	HAK_RANK_META,
};

/*
 * True between fork's first and last handler of ours, which hold every lock: handlers that
 * were registered before ours run in between, in this thread, and may allocate. They find
 * the locks taken and go on; the locks stay taken.
 */
extern HAK_TLS bool hak_lock_all_held;

/* 0 free, 1 held, 2 held with waiters (Drepper: Futexes are tricky, 2011). */
struct hak_lock {
	_Atomic uint32_t state;
	uint32_t rank;
};

#define HAK_LOCK_INIT(r) { .state = 0, .rank = (r) }

void hak_lock_wait(struct hak_lock *lock);
void hak_lock_wake(struct hak_lock *lock);

#if HAK_DEBUG
void hak_lock_order(const struct hak_lock *lock, bool blocking);
void hak_lock_forget(const struct hak_lock *lock);
#else
static inline void hak_lock_order(const struct hak_lock *lock, bool blocking)
{
	(void)lock;
	(void)blocking;
}
static inline void hak_lock_forget(const struct hak_lock *lock)
{
	(void)lock;
}
#endif

static inline void hak_lock(struct hak_lock *lock)
{
	uint32_t free = 0;
	hak_lock_order(lock, true);
	/* acquire LOCK: what the last holder wrote */
	if (!atomic_compare_exchange_strong_explicit(&lock->state, &free, 1, memory_order_acquire,
						     memory_order_relaxed))
		hak_lock_wait(lock);
}

static inline bool hak_trylock(struct hak_lock *lock)
{
	uint32_t free = 0;
	/* acquire LOCK: what the last holder wrote */
	if (!atomic_compare_exchange_strong_explicit(&lock->state, &free, 1, memory_order_acquire,
						     memory_order_relaxed))
		return false;
	hak_lock_order(lock, false);
	return true;
}

/* False: it was not to be had in so many nanoseconds. For threads that must not wait for ever. */
bool hak_lock_timed(struct hak_lock *lock, uint64_t ns);

static inline void hak_unlock(struct hak_lock *lock)
{
	if (hak_unlikely(hak_lock_all_held))
		return;
	hak_lock_forget(lock);
	/* release LOCK: the next holder sees what this one wrote */
	if (atomic_exchange_explicit(&lock->state, 0, memory_order_release) == 2)
		hak_lock_wake(lock);
}

/* In fork's child: the lock was taken by the handler in the parent. */
void hak_lock_reset(struct hak_lock *lock);

#endif
