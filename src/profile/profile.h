/* SPDX-License-Identifier: MIT */
/*
 * The heap profile: which stacks hold how much. It is a library of its own,
 * libhakmem-profile.so, made of the same core and of the same entry points with a countdown
 * ahead of them (entries.h): libhakmem.so pays nothing for it.
 *
 * A sample is taken each time a thread has asked for so many bytes more, a number drawn anew
 * each time from an exponential distribution (HAKMEM_PROFILE_BYTES is its mean): every byte is
 * as likely as the next, and a large block more likely than a small one. Who reads the profile
 * scales by it; pprof does.
 *
 *   a sampled block of a slab   base | its alignment, 16 bytes at least | what the program has
 *
 * So it starts off its slab's stride, which free notices in any case. Runs and mappings of
 * their own, which free never serves on its fast path, are handed out as they are.
 */
#ifndef HAK_PROFILE_H
#define HAK_PROFILE_H

#include "base.h"
#include "stats.h"

struct hak_mag;

/* A stack, and what was sampled at it. Never freed; its stack never changes. */
struct hak_profile_site {
	struct hak_profile_site *next;
	uint64_t hash;
	/* sampled ones, not scaled; under the lock */
	uint64_t live_blocks, live_bytes, all_blocks, all_bytes;
	uint32_t depth;
	uintptr_t pc[];
};

extern HAK_TLS int64_t hak_profile_left; /* bytes to the thread's next sample */

/* Counts a request down. True: a sample is due, which hak_profile_malloc_slow takes. */
static inline bool hak_profile_due(size_t bytes)
{
	hak_profile_left = (int64_t)((uint64_t)hak_profile_left - bytes); /* a request may be of any size */
	return hak_unlikely(hak_profile_left < 0);
}

/* In place of the functions of front.h that are called so. */
void *hak_profile_malloc_slow(size_t bytes); /* after hak_profile_due */
void *hak_profile_memalign(size_t align, size_t bytes);
void *hak_profile_calloc(size_t count, size_t bytes);
void *hak_profile_realloc(void *p, size_t bytes);
size_t hak_profile_usable_size(const void *p);
int hak_profile_block_node(const void *p);

/* In place of those of fast.h. */
void hak_profile_free_other(void *p, uint32_t code);
void hak_profile_free_far(void *p);
void hak_profile_free_misaligned(void *p, struct hak_mag *m);

/* The lock of all that the profile knows. */
void hak_profile_lock(void);
void hak_profile_unlock(void);
/* The same by a word of the caller's, 0 at first. */
void hak_profile_lock_word(_Atomic int *word);
void hak_profile_unlock_word(_Atomic int *word);

#endif
