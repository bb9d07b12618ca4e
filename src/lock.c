/* SPDX-License-Identifier: MIT */
/* The waiting side of locks, and the debug build's check of their order. */
#include "lock.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "die.h"

#define SPINS 64 /* about 1 us: most holders are a batch of blocks away from done */

HAK_TLS bool hak_lock_all_held;

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

HAK_COLD void hak_lock_wait(struct hak_lock *lock)
{
	if (hak_lock_all_held)
		return;
	for (int i = 0; i < SPINS; i++) {
		uint32_t free = 0;
		cpu_relax();
		/* relaxed: only a hint when to try */
		if (atomic_load_explicit(&lock->state, memory_order_relaxed) == 0 &&
		    /* acquire LOCK */
		    atomic_compare_exchange_strong_explicit(&lock->state, &free, 1,
							    memory_order_acquire, memory_order_relaxed))
			return;
	}
	/* acquire LOCK */
	while (atomic_exchange_explicit(&lock->state, 2, memory_order_acquire) != 0)
		syscall(SYS_futex, &lock->state, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
}

HAK_COLD bool hak_lock_timed(struct hak_lock *lock, uint64_t ns)
{
	uint64_t start = hak_now_ns(), spent;
	if (hak_trylock(lock))
		return true;
	/* acquire LOCK: what the last holder wrote */
	while (atomic_exchange_explicit(&lock->state, 2, memory_order_acquire) != 0) {
		spent = hak_now_ns() - start;
		if (spent >= ns)
			return false; /* 2 stays: its holder wakes nobody, once */
		struct timespec left = { (time_t)((ns - spent) / HAK_NS_PER_S), (long)((ns - spent) % HAK_NS_PER_S) };
		syscall(SYS_futex, &lock->state, FUTEX_WAIT_PRIVATE, 2, &left, NULL, 0);
	}
	hak_lock_order(lock, false);
	return true;
}

HAK_COLD void hak_lock_wake(struct hak_lock *lock)
{
	syscall(SYS_futex, &lock->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void hak_lock_reset(struct hak_lock *lock)
{
	hak_lock_forget(lock);
	/* relaxed: the child has one thread */
	atomic_store_explicit(&lock->state, 0, memory_order_relaxed);
}

#if HAK_DEBUG
/* How many locks of each rank this thread holds. */
static HAK_TLS uint32_t held[HAK_RANK_META + 1];

void hak_lock_order(const struct hak_lock *lock, bool blocking)
{
	if (hak_lock_all_held)
		return;
	/* under fork's lock all heaps are taken, by id: the one place with two of a rank */
	if (blocking)
		for (uint32_t r = lock->rank + (held[HAK_RANK_FORK] != 0); r <= HAK_RANK_META; r++)
			if (held[r])
				hak_die("lock order: rank taken below one held", lock);
	held[lock->rank]++;
}

void hak_lock_forget(const struct hak_lock *lock)
{
	/* a lock that was made between fork's handlers is held without having been counted */
	if (held[lock->rank])
		held[lock->rank]--;
}
#endif
