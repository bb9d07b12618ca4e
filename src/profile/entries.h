/* SPDX-License-Identifier: MIT */
/*
 * Included ahead of interpose.c, cxx.c and jemalloc.c where libhakmem-profile.so is made of
 * them: what they call of the core goes through the profile. They know nothing of it.
 *
 * A malloc counts down, and leaves by its slow path where a sample is due: three instructions
 * more. A free has none more. A sampled block lies off its slab's stride, so free leaves by a
 * slow path of its own, and looks the block up there (profile.h).
 */
#ifndef HAK_PROFILE_ENTRIES_H
#define HAK_PROFILE_ENTRIES_H

#include "profile/profile.h"

/* free's slow paths, as fast.h declares and calls them */
#define hak_free_other hak_profile_free_other
#define hak_free_far hak_profile_free_far
#define hak_free_misaligned hak_profile_free_misaligned

#include "fast.h"
#include "front.h"

static inline void *profiled_malloc_fast(size_t bytes)
{
	return hak_profile_due(bytes) ? NULL : hak_malloc_fast(bytes);
}

static inline void *profiled_malloc(size_t bytes)
{
	void *p = profiled_malloc_fast(bytes);
	return hak_likely(p) ? p : hak_profile_malloc_slow(bytes);
}

#define hak_malloc_fast profiled_malloc_fast
#define hak_malloc_slow hak_profile_malloc_slow
#define hak_malloc profiled_malloc
#define hak_memalign hak_profile_memalign
#define hak_calloc hak_profile_calloc
#define hak_realloc hak_profile_realloc
#define hak_free hak_free_fast
#define hak_usable_size hak_profile_usable_size
#define hak_block_node hak_profile_block_node

#endif
