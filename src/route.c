/* SPDX-License-Identifier: MIT */
/* The class tables, made by the compiler from the tiers' classes.def. */
#include "route.h"

#define CLASS(below, stride_, granules_)                                                           \
	{ .stride = (stride_),                                                                     \
	  .mask = (granules_) * (uint32_t)HAK_GRANULE - 1,                                         \
	  .inverse = UINT64_MAX / (stride_) + 1,                                                   \
	  .capacity = (granules_) * (uint32_t)HAK_GRANULE / (stride_),                             \
	  .granules = (granules_),                                                                 \
	  .words = ((granules_) * (uint32_t)HAK_GRANULE / (stride_) + 63) / 64 },
const struct hak_class hak_classes[HAK_CLASSES] = {
#include "tiny/classes.def"
#include "pool/classes.def"
#include "l25/classes.def"
};
#undef CLASS

#define CLASS(below, stride, granules)                                                             \
	[(below) / 16 + 1 ... (stride) / 16] = HAK_CODE(HAK_CLASS_##stride),
const uint16_t hak_size_code[HAK_SLAB_MAX / 16 + 1] = {
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
	return hak_size_code[(bytes + 15) / 16] >> HAK_CODE_SHIFT;
}

unsigned hak_route_class_aligned(size_t bytes, size_t align)
{
	if (bytes > HAK_SLAB_MAX || align > HAK_GRANULE)
		return HAK_CLASSES;
	/* rounded up first: then the first class mostly does */
	bytes = hak_align_up(hak_max(bytes, 1), align);
	if (bytes > HAK_SLAB_MAX)
		return HAK_CLASSES;
	for (unsigned c = hak_route_class(bytes); c < HAK_CLASSES; c++)
		if ((hak_classes[c].stride & (align - 1)) == 0)
			return c;
	return HAK_CLASSES;
}

enum hak_tier hak_route_tier(unsigned class)
{
	return class < HAK_TINY_CLASSES ? HAK_TIER_TINY :
	       class < HAK_POOL_CLASSES ? HAK_TIER_POOL : HAK_TIER_L25;
}

size_t hak_route_good_size(size_t bytes)
{
	if (bytes <= HAK_SLAB_MAX)
		return hak_classes[hak_route_class(bytes)].stride;
	return hak_align_up(bytes, HAK_GRANULE);
}
