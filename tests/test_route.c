/* SPDX-License-Identifier: MIT */
/* Does every size get the smallest class that holds it, and how much memory does that waste? */
#include "route.h"

#include "suite.h"

#define SIZES ((size_t)2 << 20)

START_TEST(every_size_gets_the_smallest_class_that_holds_it)
{
	for (size_t n = 0; n <= HAK_SLAB_MAX; n++) {
		unsigned want = 0, got = hak_route_class(n);
		while (hak_classes[want].stride < n)
			want++;
		EXPECT(got == want, "%zu bytes: class of %u bytes, not %u", n, hak_classes[got].stride,
		       hak_classes[want].stride);
		EXPECT(hak_route_good_size(n) == hak_classes[want].stride, "%zu bytes", n);
	}
	for (size_t n = HAK_SLAB_MAX + 1; n <= SIZES; n++)
		EXPECT(hak_route_good_size(n) == (n + 65535) / 65536 * 65536, "%zu bytes", n);
}
END_TEST

START_TEST(the_size_table_that_malloc_reads_says_the_same)
{
	for (size_t n = 0; n <= HAK_POOL_MAX; n++)
		EXPECT(hak_size_code[(n + 15) / 16] == HAK_CODE(hak_route_class(n)), "%zu bytes", n);
}
END_TEST

START_TEST(classes_ascend_and_their_tables_agree)
{
	for (unsigned i = 0; i < HAK_STATIC_CLASSES; i++) {
		const struct hak_class *c = &hak_classes[i];
		size_t slab = c->granules * HAK_GRANULE;
		if (i)
			ck_assert_uint_lt(hak_classes[i - 1].stride, c->stride);
		ck_assert_uint_eq(c->stride % HAK_MIN_ALIGN, 0);
		ck_assert(hak_is_pow2(c->granules) && c->granules <= HAK_SUPER_GRANULES);
		ck_assert_uint_eq(c->mask, slab - 1);
		ck_assert_uint_eq(c->capacity, slab / c->stride);
		ck_assert_uint_ge(c->capacity, 2); /* one: a run of granules would serve */
		ck_assert_uint_eq(c->words, (c->capacity + 63) / 64);
		enum hak_tier tier = c->stride <= HAK_TINY_MAX ? HAK_TIER_TINY :
				     c->stride <= HAK_POOL_MAX ? HAK_TIER_POOL : HAK_TIER_L25;
		ck_assert_int_eq(hak_route_tier(i), tier);
	}
	ck_assert_uint_eq(hak_classes[HAK_TINY_CLASSES - 1].stride, HAK_TINY_MAX);
	ck_assert_uint_eq(hak_classes[HAK_POOL_CLASSES - 1].stride, HAK_POOL_MAX);
	ck_assert_uint_eq(hak_classes[HAK_STATIC_CLASSES - 1].stride, HAK_SLAB_MAX);
}
END_TEST

START_TEST(the_inverse_divides_every_offset_exactly)
{
	for (unsigned i = 0; i < HAK_STATIC_CLASSES; i++) {
		const struct hak_class *c = &hak_classes[i];
		for (uint64_t offset = 0; offset <= c->mask; offset++) {
			uint64_t index = (uint64_t)(((unsigned __int128)offset * c->inverse) >> 64);
			bool on = offset * c->inverse < c->inverse;
			EXPECT(index == offset / c->stride && on == !(offset % c->stride),
			       "class of %u bytes, offset %zu", c->stride, (size_t)offset);
		}
	}
}
END_TEST

START_TEST(an_aligned_request_gets_the_smallest_class_whose_blocks_all_are)
{
	for (size_t align = 1; align <= (size_t)4 << 20; align *= 2)
		for (size_t n = 0; n <= HAK_SLAB_MAX + 1; n += n < 4096 ? 1 : 61) {
			unsigned got = hak_route_class_aligned(n, align), want = 0;
			/* slabs are aligned to a granule at least, so strides decide */
			while (want < HAK_STATIC_CLASSES && (hak_classes[want].stride < n || hak_classes[want].stride % align))
				want++;
			if (align > HAK_GRANULE || want == HAK_STATIC_CLASSES)
				want = HAK_CLASSES;
			EXPECT(got == want, "%zu bytes aligned to %zu: class %u, not %u", n, align, got, want);
		}
}
END_TEST

/*
 * Bytes used over bytes asked. A block uses its share of its slab, the slab's tail
 * included. malloc must align every block to 16 bytes (alignof(max_align_t)), so no
 * allocator can give less than the request rounded up to 16: this is what is asked.
 */
static double used_over_asked(size_t n)
{
	double used = (double)hak_route_good_size(n);
	if (n <= HAK_SLAB_MAX) {
		const struct hak_class *c = &hak_classes[hak_route_class(n)];
		used = (double)(c->granules * HAK_GRANULE) / c->capacity;
	}
	return used / (double)((n + 15) / 16 * 16);
}

static double mean_of(size_t from, size_t to, const char *name)
{
	double sum = 0;
	for (size_t n = from; n <= to; n++)
		sum += used_over_asked(n);
	double mean = sum / (double)(to - from + 1);
	printf("  %s, %zu to %zu bytes: mean %.4f\n", name, from, to, mean);
	fflush(stdout);
	return mean;
}

START_TEST(no_size_wastes_more_than_a_quarter)
{
	double worst = 0;
	size_t worst_at = 0;
	for (size_t n = 1; n <= SIZES; n++)
		if (used_over_asked(n) > worst) {
			worst = used_over_asked(n);
			worst_at = n;
		}
	printf("  bytes used over bytes asked: worst %.4f, at %zu bytes\n", worst, worst_at);
	fflush(stdout);
	ck_assert_msg(worst <= 1.25, "worst %.4f at %zu bytes", worst, worst_at);
}
END_TEST

START_TEST(the_mean_waste_is_within_eight_percent)
{
	ck_assert_double_le(mean_of(1, HAK_SLAB_MAX, "all in slabs"), 1.10);
	ck_assert_double_le(mean_of(1, HAK_L25_MAX, "all below huge"), 1.08);
	ck_assert_double_le(mean_of(1, SIZES, "all"), 1.08);
}
END_TEST

/* A mean over all sizes hides the small ones behind the many large. */
START_TEST(no_tier_wastes_more_than_ten_percent_in_the_mean)
{
	ck_assert_double_le(mean_of(1, HAK_TINY_MAX, "tiny"), 1.10);
	ck_assert_double_le(mean_of(HAK_TINY_MAX + 1, HAK_POOL_MAX, "pool"), 1.10);
	ck_assert_double_le(mean_of(HAK_POOL_MAX + 1, HAK_L25_MAX, "l25"), 1.10);
	ck_assert_double_le(mean_of(HAK_L25_MAX + 1, SIZES, "huge"), 1.10);
}
END_TEST

SUITE("route", 30,
      CALM(every_size_gets_the_smallest_class_that_holds_it),
      CALM(the_size_table_that_malloc_reads_says_the_same),
      CALM(classes_ascend_and_their_tables_agree),
      CALM(the_inverse_divides_every_offset_exactly),
      CALM(an_aligned_request_gets_the_smallest_class_whose_blocks_all_are),
      CALM(no_size_wastes_more_than_a_quarter),
      CALM(the_mean_waste_is_within_eight_percent),
      CALM(no_tier_wastes_more_than_ten_percent_in_the_mean))
