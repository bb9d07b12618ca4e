/* SPDX-License-Identifier: MIT */
/*
 * jemalloc's own allocation functions, by jemalloc(3). A program linked with jemalloc takes
 * these names from it although malloc and free are ours: Debian 13's redis gets blocks from
 * mallocx and hands them to malloc_usable_size. mallctl and its kin stay jemalloc's, since
 * what they set and report is jemalloc.
 *
 * flags: bits 0 to 5 the logarithm of the alignment, bit 6 zero; the others name caches and
 * arenas of jemalloc and mean nothing here.
 */
#include <string.h>

#include "front.h"
#include "hardened.h"
#include "route.h"

#define ALIGN_OF(flags) ((size_t)1 << ((flags) & 63))
#define ZERO 0x40

void *mallocx(size_t bytes, int flags);
void *rallocx(void *p, size_t bytes, int flags);
size_t xallocx(void *p, size_t bytes, size_t extra, int flags);
size_t sallocx(const void *p, int flags);
void dallocx(void *p, int flags);
void sdallocx(void *p, size_t bytes, int flags);
size_t nallocx(size_t bytes, int flags);

static void *allocate(size_t bytes, int flags)
{
	void *p;
	if (ALIGN_OF(flags) <= HAK_MIN_ALIGN)
		return flags & ZERO ? hak_calloc(1, bytes) : hak_malloc(bytes);
	p = hak_memalign(ALIGN_OF(flags), bytes);
	if (p && flags & ZERO)
		memset(p, 0, bytes);
	return p;
}

HAK_EXPORT void *mallocx(size_t bytes, int flags)
{
	return allocate(bytes, flags);
}

HAK_EXPORT void *rallocx(void *p, size_t bytes, int flags)
{
	size_t old = hak_usable_size(p);
	void *q;
	if (ALIGN_OF(flags) <= HAK_MIN_ALIGN) {
		q = hak_realloc(p, bytes);
	} else {
		q = hak_memalign(ALIGN_OF(flags), bytes);
		if (q) {
			memcpy(q, p, hak_min(old, bytes));
			hak_free(p);
		}
	}
	if (q && flags & ZERO && bytes > old)
		memset((char *)q + old, 0, bytes - old);
	return q;
}

/* Resizes in place or not at all; returns what the block holds. */
HAK_EXPORT size_t xallocx(void *p, size_t bytes, size_t extra, int flags)
{
	(void)bytes;
	(void)extra;
	(void)flags;
	return hak_usable_size(p);
}

HAK_EXPORT size_t sallocx(const void *p, int flags)
{
	(void)flags;
	return hak_usable_size(p);
}

HAK_EXPORT void dallocx(void *p, int flags)
{
	(void)flags;
	hak_free(p);
}

HAK_EXPORT void sdallocx(void *p, size_t bytes, int flags)
{
	(void)bytes;
	(void)flags;
	hak_free(p);
}

HAK_EXPORT size_t nallocx(size_t bytes, int flags)
{
	size_t align = ALIGN_OF(flags);
	if (bytes > HAK_MAX_REQUEST || align > HAK_MAX_REQUEST)
		return 0;
	if (hak_hardened)
		return hak_max(bytes, 1);
	if (align <= HAK_MIN_ALIGN)
		return hak_route_good_size(bytes);
	unsigned class = hak_route_class_aligned(bytes, align);
	return class < HAK_CLASSES ? hak_classes[class].stride : hak_align_up(hak_max(bytes, 1), HAK_GRANULE);
}
