/* SPDX-License-Identifier: MIT */
/* The class tables, made by the compiler from the tiers' classes.def. */
#include "route.h"

/* A dynamic class's slab costs at most a 100th more than the best. */
#define FIT_SLACK 100u

#define CLASS(below, stride_, granules_)                                                           \
	{ .stride = (stride_),                                                                     \
	  .mask = (granules_) * (uint32_t)HAK_GRANULE - 1,                                         \
	  .inverse = UINT64_MAX / (stride_) + 1,                                                   \
	  .capacity = (granules_) * (uint32_t)HAK_GRANULE / (stride_),                             \
	  .granules = (granules_),                                                                 \
	  .words = ((granules_) * (uint32_t)HAK_GRANULE / (stride_) + 63) / 64 },
struct hak_class hak_classes[HAK_CLASSES] = {
#include "tiny/classes.def"
#include "pool/classes.def"
#include "l25/classes.def"
};
#undef CLASS

#define CLASS(below, stride, granules)                                                             \
	[(below) / 16 + 1 ... (stride) / 16] = HAK_CODE(HAK_CLASS_##stride),
_Atomic uint16_t hak_size_code[HAK_SLAB_MAX / 16 + 1] = {
	[0] = HAK_CODE(HAK_CLASS_16),
#include "tiny/classes.def"
#include "pool/classes.def"
#include "l25/classes.def"
};
#undef CLASS

/* Each class begins where the one below ends, and slabs are powers of two. */
#define CLASS(below, stride, granules)                                                             \
	_Static_assert((stride) % 16 == 0 && (below) < (stride), "stride " #stride);               \
	_Static_assert(((granules) & ((granules)-1)) == 0 && (granules) <= 32, "slab of " #stride);
#include "tiny/classes.def"
#include "pool/classes.def"
#include "l25/classes.def"
#undef CLASS
_Static_assert(HAK_CODE(HAK_CLASSES) <= 0xf00, "class codes leave room for the span codes");

unsigned hak_route_class(size_t bytes)
{
	/* acquire DYN: the class's shape */
	return atomic_load_explicit(&hak_size_code[(bytes + 15) / 16], memory_order_acquire) >> HAK_CODE_SHIFT;
}

unsigned hak_route_static_class(size_t bytes)
{
	unsigned low = 0, high = HAK_STATIC_CLASSES - 1;
	while (low < high) {
		unsigned middle = (low + high) / 2;
		if (hak_classes[middle].stride < bytes)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

unsigned hak_route_class_aligned(size_t bytes, size_t align)
{
	if (bytes > HAK_SLAB_MAX || align > HAK_GRANULE)
		return HAK_CLASSES;
	/* rounded up first: then the first class mostly does */
	bytes = hak_align_up(hak_max(bytes, 1), align);
	if (bytes > HAK_SLAB_MAX)
		return HAK_CLASSES;
	unsigned c = hak_route_class(bytes);
	/* a dynamic class's blocks are aligned to a cache line at most, and it may change */
	if (c >= HAK_STATIC_CLASSES)
		c = hak_route_static_class(bytes);
	for (; c < HAK_STATIC_CLASSES; c++)
		if ((hak_classes[c].stride & (align - 1)) == 0)
			return c;
	return HAK_CLASSES;
}

unsigned hak_route_home(unsigned class)
{
	/* cppcheck-suppress arrayIndexOutOfBoundsCond ; dynamic classes lie behind the static ones */
	return class < HAK_STATIC_CLASSES ? class : hak_route_static_class(hak_classes[class].stride);
}

enum hak_tier hak_route_tier(unsigned class)
{
	class = hak_route_home(class);
	return class < HAK_TINY_CLASSES ? HAK_TIER_TINY :
	       class < HAK_POOL_CLASSES ? HAK_TIER_POOL : HAK_TIER_L25;
}

size_t hak_route_good_size(size_t bytes)
{
	if (bytes > HAK_SLAB_MAX)
		return hak_align_up(bytes, HAK_GRANULE);
	unsigned c = hak_route_class(bytes);
	/* relaxed: a dynamic class may become another one meanwhile */
	uint32_t stride = __atomic_load_n(&hak_classes[c].stride, __ATOMIC_RELAXED);
	return stride >= bytes ? stride : hak_classes[hak_route_static_class(bytes)].stride;
}

/* ---- dynamic classes -------------------------------------------------------------- */

static _Atomic bool open_[HAK_DYN_SLOTS];

/* Granules to which the slab is aligned, a power of two: what the blocks leave of them is hardly of
 * use to others, least of all on huge pages. So it counts as the blocks'. */
static uint32_t best_alignment(uint32_t stride)
{
	uint32_t cost[6], best = UINT32_MAX, i = 0;
	for (unsigned n = 0; n < 6; n++) {
		uint32_t bytes = (uint32_t)HAK_GRANULE << n, capacity = bytes / stride;
		cost[n] = capacity < 2 ? UINT32_MAX : bytes / capacity;
		best = (uint32_t)hak_min(best, cost[n]);
	}
	while (cost[i] > best + best / FIT_SLACK)
		i++;
	return 1u << i;
}

struct hak_class hak_route_fit(uint32_t stride)
{
	uint32_t mask = best_alignment(stride) * (uint32_t)HAK_GRANULE - 1, capacity = (mask + 1) / stride;
	return (struct hak_class){ .stride = stride,
				   .mask = mask,
				   .inverse = UINT64_MAX / stride + 1,
				   .capacity = capacity,
				   .granules = (uint16_t)((capacity * stride - 1) / HAK_GRANULE + 1),
				   .words = (uint16_t)((capacity + 63) / 64) };
}

/* The sizes that are a dynamic class's as long as it is open get this code. */
static void set_codes(uint32_t stride, unsigned class)
{
	unsigned home = hak_route_static_class(stride);
	for (uint32_t i = hak_classes[home - 1].stride / 16 + 1; i <= stride / 16; i++)
		/* release DYN: the class's shape */
		atomic_store_explicit(&hak_size_code[i], (uint16_t)HAK_CODE(class), memory_order_release);
}

void hak_route_open(unsigned class, uint32_t stride)
{
	struct hak_class *c = &hak_classes[class], shape = hak_route_fit(stride);
	__atomic_store_n(&c->stride, stride, __ATOMIC_RELAXED);
	c->mask = shape.mask;
	c->inverse = shape.inverse;
	c->capacity = shape.capacity;
	c->granules = shape.granules;
	c->words = shape.words;
	/* release DYN */
	atomic_store_explicit(&open_[class - HAK_STATIC_CLASSES], true, memory_order_release);
	set_codes(stride, class);
}

void hak_route_close(unsigned class)
{
	uint32_t stride = hak_classes[class].stride;
	set_codes(stride, hak_route_static_class(stride));
	/* relaxed: who looks is under its heap's lock, and so before or after the learner's next visit */
	atomic_store_explicit(&open_[class - HAK_STATIC_CLASSES], false, memory_order_relaxed);
}

bool hak_route_is_open(unsigned class)
{
	return class < HAK_STATIC_CLASSES ||
	       atomic_load_explicit(&open_[class - HAK_STATIC_CLASSES], memory_order_acquire); /* acquire DYN */
}
