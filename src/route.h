/* SPDX-License-Identifier: MIT */
/*
 * Size -> tier and class. The only place that knows the tiers' limits.
 *
 *   tiny   up to 2 KiB            magazines, slabs of 64 KiB
 *   pool   up to 52 KiB           magazines, slabs of 64 to 512 KiB
 *   l25    up to 256 KiB          magazines, slabs of 128 KiB to 2 MiB
 *          up to 1 MiB            runs of granules of a SuperSlab
 *   huge   up to 64 MiB           runs of granules of a span arena (numa/huge.c)
 *          above                  a mapping of its own
 *
 * Classes are numbered by stride over all tiers. A class is named in a tag and
 * in the size table by its number times 32, the size of a magazine, so that the
 * fast path adds it to the heap's address without a shift.
 */
#ifndef HAK_ROUTE_H
#define HAK_ROUTE_H

#include "base.h"

enum hak_tier { HAK_TIER_TINY, HAK_TIER_POOL, HAK_TIER_L25, HAK_TIER_HUGE, HAK_TIERS };

#define CLASS(below, stride, granules) HAK_CLASS_##stride,
enum {
#include "tiny/classes.def"
	HAK_TINY_END_,
	HAK_TINY_LAST_ = HAK_TINY_END_ - 1,
#include "pool/classes.def"
	HAK_POOL_END_,
	HAK_POOL_LAST_ = HAK_POOL_END_ - 1,
#include "l25/classes.def"
	HAK_STATIC_CLASSES
};
#undef CLASS

/*
 * Behind the static classes lie slots for dynamic ones, whose blocks' size the learner chooses
 * (ace/learn.c). Two serve requests at a time; the others are of sizes that served before, and
 * wait until their last block comes back.
 */
#define HAK_DYN_SLOTS 4u
#define HAK_CLASSES (HAK_STATIC_CLASSES + HAK_DYN_SLOTS)

#define HAK_TINY_CLASSES HAK_TINY_END_
#define HAK_POOL_CLASSES HAK_POOL_END_ /* tiny and pool */

#define HAK_TINY_MAX ((size_t)2048)
#define HAK_POOL_MAX ((size_t)53248)
#define HAK_SLAB_MAX ((size_t)262144) /* largest block that lies in a slab with others */
#define HAK_L25_MAX ((size_t)1 << 20)
#define HAK_HUGE_OWN ((size_t)64 << 20) /* from here on a mapping of its own */

#define HAK_CODE_SHIFT 5 /* class number -> code */
#define HAK_CODE(class) ((uint32_t)(class) << HAK_CODE_SHIFT)

/*
 * stride    bytes from block to block, a multiple of 16
 * mask      slab size - 1
 * inverse   ceil(2^64 / stride): offset / stride is the high word of offset *
 *           inverse, and the low word is below inverse iff stride divides offset
 *           (Lemire, Kaser, Kurz: Faster remainder by direct computation, 2019)
 */
struct hak_class {
	uint32_t stride;
	uint32_t mask;
	uint64_t inverse;
	uint32_t capacity; /* blocks a slab */
	uint16_t granules;
	uint16_t words; /* 64-bit words of a bitmap */
};

/*
 * Static classes are immutable. A dynamic one changes only while no heap has a slab of it, so who
 * has a block or a slab of it, or has found slabs of it under a heap's lock, may read it.
 */
extern struct hak_class hak_classes[HAK_CLASSES];

/* Code of the class for a request of up to HAK_SLAB_MAX bytes, by 16 bytes. Any thread; what is
 * stored is always a class that holds the size, or a dynamic one that once did. */
extern _Atomic uint16_t hak_size_code[HAK_SLAB_MAX / 16 + 1];

/* Class of a request of up to HAK_SLAB_MAX bytes. */
unsigned hak_route_class(size_t bytes);

/* The same among the static classes. */
unsigned hak_route_static_class(size_t bytes);

/* Blocks of `stride` bytes in the smallest slabs of 2 blocks and more that cost little more than
 * the best. Such a slab need not be a power of two of granules; it is aligned to the next. */
struct hak_class hak_route_fit(uint32_t stride);

/*
 * Dynamic classes; one thread at a time. Open: a class of which no heap has a slab serves requests
 * of up to `stride` bytes (a multiple of 16, no static class's) above the next smaller static class.
 * Closed: it serves no more, and its blocks live on.
 */
void hak_route_open(unsigned class, uint32_t stride);
void hak_route_close(unsigned class);
/* Any thread: requests may go to the class. */
bool hak_route_is_open(unsigned class);

/* Smallest class for `bytes` whose blocks are all aligned to `align` (a power of
 * two up to a granule); HAK_CLASSES if there is none. */
unsigned hak_route_class_aligned(size_t bytes, size_t align);

/* The static class of whose sizes a class's are, itself if it is static. The class has a slab, or is open. */
unsigned hak_route_home(unsigned class);

enum hak_tier hak_route_tier(unsigned class);

/* What a request of this size gets, in bytes: stride, or whole granules. */
size_t hak_route_good_size(size_t bytes);

#endif
