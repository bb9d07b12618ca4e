/* SPDX-License-Identifier: MIT */
/*
 * The heap profile: which stacks hold how much. It is a library of its own,
 * libhakmem-profile.so, made of the same core and of the same entry points with a countdown
 * around them (entries.h): libhakmem.so pays nothing for it.
 *
 * A sample is taken each time a thread has asked for so many bytes more, a number drawn anew
 * each time from an exponential distribution (HAKMEM_PROFILE_BYTES is its mean): every byte is
 * as likely as the next, and a large block more likely than a small one. Who reads the profile
 * scales by it; pprof does.
 */
#ifndef HAK_PROFILE_H
#define HAK_PROFILE_H

#include "base.h"
#include "stats.h"

/*
 * Sampled blocks by address: how many there are of this slot. A free looks here, and only
 * where there is one does it look further. Untouched pages of it cost nothing.
 */
#define HAK_PROFILE_SLOTS ((size_t)1 << 20)
extern _Atomic uint8_t hak_profile_slots[HAK_PROFILE_SLOTS];

extern HAK_TLS int64_t hak_profile_left; /* bytes to the thread's next sample */

/* What is known of a sampled block; NULL site: it was none. */
struct hak_profile_block {
	struct hak_profile_site *site;
	size_t bytes;
};

void hak_profile_sample(void *p, size_t bytes);
/* Before the block is freed: afterwards its address may be another's. */
struct hak_profile_block hak_profile_take(void *p);
/* It was not freed after all. */
void hak_profile_put_back(void *p, struct hak_profile_block block);

static inline void *hak_profile_made(void *p, size_t bytes)
{
	if (hak_unlikely((hak_profile_left -= (int64_t)bytes) < 0) && p)
		hak_profile_sample(p, bytes);
	return p;
}

static inline bool hak_profile_maybe(const void *p)
{
	/* relaxed: whoever frees the block got it after its sample was counted */
	return hak_unlikely(atomic_load_explicit(&hak_profile_slots[((uintptr_t)p >> 4) % HAK_PROFILE_SLOTS],
						 memory_order_relaxed));
}

#endif
