/* SPDX-License-Identifier: MIT */
/* Does a slab of every class hand out each block once, and take it back once? */
#include "numa/node.h"
#include "options.h"
#include "slab.h"

#include "suite.h"

#define BLOCKS_MAX 4096u
#define OWNER 1u

static struct hak_slab *make(unsigned class, struct hak_run *run)
{
	suite_quiet();
	EXPECT(hak_pool_claim(0, hak_classes[class].granules, true, false, run), "no granules");
	EXPECT(hak_slab_init(run->arena, run->granule, class, OWNER, run->zero), "no slab");
	return &run->arena->slabs[run->granule];
}

static void unmake(struct hak_slab *s, const struct hak_run *run)
{
	uint32_t granules = hak_slab_class(s)->granules;
	hak_slab_fini(run->arena, s);
	hak_pool_release(run->arena, run->granule, granules);
}

static uint32_t take(struct hak_slab *s, uint32_t want, void **blocks)
{
	void **end = blocks + want;
	uint32_t got = hak_slab_take(s, want, &end);
	EXPECT(end == blocks + want - got, "%u blocks taken, room used for others", got);
	memmove(blocks, end, got * sizeof *blocks);
	return got;
}

/* Of a block of a slab that begins where slabs of its class may. */
static uint32_t block_index(const void *p, const struct hak_class *c)
{
	return (uint32_t)(((uintptr_t)p & c->mask) / c->stride);
}

START_TEST(a_fresh_slab_has_all_its_blocks_free_and_its_tags_set)
{
	for (unsigned class = 0; class < HAK_STATIC_CLASSES; class++) {
		const struct hak_class *c = &hak_classes[class];
		struct hak_run run;
		struct hak_slab *s = make(class, &run);
		EXPECT(s->nfree == c->capacity && s->carved == 0, "class of %u", c->stride);
		EXPECT(((uintptr_t)s->base & c->mask) == 0, "slab of %u not aligned to itself", c->stride);
		for (uint32_t g = 0; g < c->granules; g++) {
			uint32_t tag = *hak_tag_of(s->base + g * HAK_GRANULE);
			EXPECT(tag == hak_tag(OWNER, HAK_CODE(class)), "granule %u of %u", g, c->stride);
		}
		hak_slab_check(s);
		unmake(s, &run);
		for (uint32_t g = 0; g < c->granules; g++)
			EXPECT(*hak_tag_of(s->base + g * HAK_GRANULE) == 0, "tag left of class %u", c->stride);
	}
}
END_TEST

START_TEST(blocks_come_out_once_each_lowest_addresses_first)
{
	static void *blocks[BLOCKS_MAX];
	uint64_t seed = 1;
	for (unsigned class = 0; class < HAK_STATIC_CLASSES; class++) {
		const struct hak_class *c = &hak_classes[class];
		struct hak_run run;
		struct hak_slab *s = make(class, &run);
		uint32_t out = 0;
		while (out < c->capacity) {
			uint32_t want = 1 + (uint32_t)(suite_random(&seed) % 100);
			uint32_t got = take(s, want, blocks);
			EXPECT(got == hak_min(want, c->capacity - out), "%u of %u", got, want);
			for (uint32_t i = 0; i < got; i++) {
				/* the lowest of a batch is its last */
				char *p = s->base + (size_t)(out + got - 1 - i) * c->stride;
				EXPECT(blocks[i] == p, "class of %u: %p, not %p", c->stride, blocks[i], (void *)p);
				EXPECT(hak_block_on_stride(p, c) && !hak_block_on_stride(p + 1, c) &&
				       !hak_block_on_stride(p + c->stride - 1, c), "class of %u", c->stride);
				EXPECT(block_index(p, c) == out + got - 1 - i, "class of %u", c->stride);
				EXPECT((size_t)(p - s->base) + c->stride <= c->granules * HAK_GRANULE,
				       "class of %u: beyond the slab", c->stride);
			}
			out += got;
			EXPECT(s->nfree == c->capacity - out && s->carved == out, "class of %u", c->stride);
			hak_slab_check(s);
		}
		EXPECT(take(s, 1, blocks) == 0, "more blocks than there are");
		unmake(s, &run);
	}
}
END_TEST

START_TEST(a_block_can_be_put_back_only_once)
{
	static void *blocks[BLOCKS_MAX];
	for (unsigned class = 0; class < HAK_STATIC_CLASSES; class++) {
		const struct hak_class *c = &hak_classes[class];
		struct hak_run run;
		struct hak_slab *s = make(class, &run);
		uint32_t n = take(s, c->capacity, blocks);
		for (uint32_t i = 0; i < n; i++) { /* in an order that jumps over words */
			uint32_t index = (uint32_t)((i * 2654435761u) % n);
			while (s->free_words[index / 64] >> (index % 64) & 1)
				index = (index + 1) % n;
			EXPECT(hak_slab_put(s, index), "class of %u, block %u", c->stride, index);
			EXPECT(!hak_slab_put(s, index), "class of %u, block %u twice", c->stride, index);
			EXPECT(s->nfree == i + 1, "class of %u", c->stride);
			hak_slab_check(s);
		}
		EXPECT(take(s, c->capacity, blocks) == c->capacity, "not all came back");
		EXPECT(s->carved == c->capacity, "carved counts no block twice");
		unmake(s, &run);
	}
}
END_TEST

START_TEST(the_lowest_free_block_is_found_wherever_it_is)
{
	void *blocks[BLOCKS_MAX], *one;
	unsigned class = HAK_CLASS_16;
	const struct hak_class *c = &hak_classes[class];
	uint64_t seed = 7;
	struct hak_run run;
	struct hak_slab *s = make(class, &run);
	take(s, c->capacity, blocks);
	for (int round = 0; round < 2000; round++) {
		uint32_t a = (uint32_t)(suite_random(&seed) % c->capacity);
		uint32_t b = (uint32_t)(suite_random(&seed) % c->capacity);
		EXPECT(hak_slab_put(s, a), "put");
		if (a != b)
			EXPECT(hak_slab_put(s, b), "put");
		EXPECT(take(s, 1, &one) == 1 && block_index(one, c) == hak_min(a, b), "round %d", round);
		if (a != b)
			EXPECT(take(s, 1, &one) == 1 && block_index(one, c) == hak_max(a, b), "round %d", round);
		hak_slab_check(s);
	}
	unmake(s, &run);
}
END_TEST

START_TEST(memory_beyond_the_carve_mark_is_zero_and_told_so)
{
	void *blocks[BLOCKS_MAX];
	struct hak_run run;
	struct hak_slab *s = make(HAK_CLASS_1024, &run);
	ck_assert(run.zero && s->zero);
	for (uint32_t i = 0; i < hak_slab_class(s)->capacity; i++) {
		ck_assert_uint_eq(take(s, 1, blocks), 1);
		for (uint32_t b = 0; b < 1024; b++)
			EXPECT(((char *)blocks[0])[b] == 0, "block %u, byte %u", i, b);
		memset(blocks[0], 0xff, 1024);
	}
	unmake(s, &run);
	/* the same granules again are EMPTY, so dirty */
	s = make(HAK_CLASS_1024, &run);
	ck_assert(!run.zero && !s->zero);
	unmake(s, &run);
}
END_TEST

/* The holes of a slab are its pages of which every byte belongs to a free block. */
static void check_holes(const struct hak_slab *s)
{
	static unsigned char covered[HAK_SUPER / HAK_PAGE];
	const struct hak_class *c = hak_slab_class(s);
	struct hak_hole hole = { 0, 0 };
	memset(covered, 0, sizeof covered);
	for (uint32_t from = 0; hak_slab_hole(s, from, &hole); from = hole.first + hole.count) {
		size_t start = hak_hole_start(c, hole), end = hak_hole_end(c, hole);
		EXPECT(hole.first >= from && start < end, "class of %u, hole from %u", c->stride, hole.first);
		for (uint32_t i = hole.first; i < hole.first + hole.count; i++) {
			size_t first = (size_t)i * c->stride, last = first + c->stride;
			EXPECT(s->free_words[i / 64] >> i % 64 & 1, "class of %u, block %u is not free", c->stride, i);
			EXPECT(first < end && last > start, "class of %u, block %u has no part in it", c->stride, i);
		}
		memset(covered + start / HAK_PAGE, 1, (end - start) / HAK_PAGE);
	}
	for (size_t page = 0; page < (size_t)c->capacity * c->stride / HAK_PAGE; page++) {
		uint32_t first = (uint32_t)(page * HAK_PAGE / c->stride),
			 last = (uint32_t)((page * HAK_PAGE + HAK_PAGE - 1) / c->stride);
		bool all = true;
		for (uint32_t i = first; i <= last; i++)
			all &= s->free_words[i / 64] >> i % 64 & 1;
		EXPECT(covered[page] == all, "class of %u, page %zu: %d, not %d", c->stride, page, covered[page], all);
	}
}

START_TEST(holes_are_the_pages_without_a_live_byte)
{
	static void *blocks[BLOCKS_MAX];
	uint64_t seed = 3;
	for (unsigned class = 0; class < HAK_STATIC_CLASSES; class++) {
		const struct hak_class *c = &hak_classes[class];
		struct hak_run run;
		struct hak_slab *s = make(class, &run);
		check_holes(s); /* all free */
		uint32_t n = take(s, c->capacity, blocks);
		check_holes(s); /* none */
		for (uint32_t i = 0; i < n; i++) { /* rows of free blocks, of many lengths */
			uint32_t row = (uint32_t)(suite_random(&seed) % (1 + HAK_PAGE * 3 / c->stride)) + 1;
			for (; row-- && i < n; i++)
				hak_slab_put(s, i);
		}
		check_holes(s);
		struct hak_hole hole;
		uint32_t nfree = s->nfree;
		if (hak_slab_hole(s, 0, &hole)) {
			hak_slab_take_hole(s, hole);
			EXPECT(s->nfree == nfree - hole.count, "class of %u", c->stride);
			hak_slab_check(s);
			check_holes(s);
		}
		unmake(s, &run);
	}
}
END_TEST

SUITE("slab", 30, CALM(holes_are_the_pages_without_a_live_byte),
      CALM(a_fresh_slab_has_all_its_blocks_free_and_its_tags_set),
      CALM(blocks_come_out_once_each_lowest_addresses_first),
      CALM(a_block_can_be_put_back_only_once),
      CALM(the_lowest_free_block_is_found_wherever_it_is),
      CALM(memory_beyond_the_carve_mark_is_zero_and_told_so))
