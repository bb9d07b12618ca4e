/* SPDX-License-Identifier: MIT */
/*
 * Included ahead of interpose.c, cxx.c and jemalloc.c where libhakmem-profile.so is made of
 * them: what they call of the core goes through the profile. They know nothing of it.
 */
#ifndef HAK_PROFILE_ENTRIES_H
#define HAK_PROFILE_ENTRIES_H

#include "fast.h"
#include "front.h"
#include "profile/profile.h"

static inline void *profiled_malloc_fast(size_t bytes)
{
	void *p = hak_malloc_fast(bytes);
	return hak_likely(p) ? hak_profile_made(p, bytes) : NULL;
}

static inline void *profiled_malloc_slow(size_t bytes)
{
	return hak_profile_made(hak_malloc_slow(bytes), bytes);
}

static inline void *profiled_malloc(size_t bytes)
{
	return hak_profile_made(hak_malloc(bytes), bytes);
}

static inline void *profiled_memalign(size_t align, size_t bytes)
{
	return hak_profile_made(hak_memalign(align, bytes), bytes);
}

static inline void *profiled_calloc(size_t count, size_t bytes)
{
	void *p = hak_calloc(count, bytes);
	return p ? hak_profile_made(p, count * bytes) : NULL; /* no overflow: it was served */
}

static inline void profiled_free(void *p)
{
	if (hak_profile_maybe(p))
		hak_profile_take(p);
	hak_free_fast(p);
}

/* The old block's end and a new one's beginning, also where it stays in place. */
static inline void *profiled_realloc(void *p, size_t bytes)
{
	struct hak_profile_block old = { NULL, 0 };
	if (hak_profile_maybe(p))
		old = hak_profile_take(p);
	void *q = hak_realloc(p, bytes);
	if (q)
		return hak_profile_made(q, bytes);
	if (old.site)
		hak_profile_put_back(p, old);
	return NULL;
}

#define hak_malloc_fast profiled_malloc_fast
#define hak_malloc_slow profiled_malloc_slow
#define hak_malloc profiled_malloc
#define hak_memalign profiled_memalign
#define hak_calloc profiled_calloc
#define hak_realloc profiled_realloc
#define hak_free_fast profiled_free
#define hak_free profiled_free

#endif
