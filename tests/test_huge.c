/* SPDX-License-Identifier: MIT */
/*
 * Do blocks above 1 MiB keep apart, keep their contents while they grow and shrink, and
 * go back whole? Runs of span arenas up to 64 MiB, mappings of their own above.
 */
#include "numa/huge.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "counters.h"
#include "front.h"
#include "hakmem/hakmem.h"
#include "options.h"
#include "reclaim.h"
#include "route.h"
#include "stats.h"
#include "sys/sys.h"

#include "suite.h"

#define MIB ((size_t)1 << 20)
#define LIVE 200

static void setup_keeping(size_t room)
{
	suite_quiet();
	hak_own_set_room(room);
}

struct figures {
	size_t span_mapped, span_live, own_mapped, own_blocks;
};

static struct figures figures(void)
{
	return (struct figures){ hak_counted(span_mapped), hak_counted(span_live), hak_counted(own_mapped),
				 hak_counted(own_blocks) };
}

static size_t granules(size_t bytes)
{
	return (bytes + HAK_GRANULE - 1) / HAK_GRANULE * HAK_GRANULE;
}

/* A word a granule, so that a huge block costs few pages. */
static void mark(void *p, size_t bytes, uint64_t id)
{
	for (size_t at = 0; at + 8 <= bytes; at += HAK_GRANULE)
		*(uint64_t *)(void *)((char *)p + at) = id + at;
	*(uint64_t *)(void *)((char *)p + (bytes / 8 - 1) * 8) = id + bytes / 8;
}

static void check(const void *p, size_t bytes, uint64_t id, size_t marked)
{
	for (size_t at = 0; at + 8 <= bytes && at + 8 <= marked; at += HAK_GRANULE)
		if (at != (marked / 8 - 1) * 8)
			EXPECT(*(const uint64_t *)(const void *)((const char *)p + at) == id + at,
			       "%p + %zu of %zu bytes was overwritten", p, at, bytes);
	if (bytes >= marked)
		EXPECT(*(const uint64_t *)(const void *)((const char *)p + (marked / 8 - 1) * 8) == id + marked / 8,
		       "end of %p, %zu bytes, was overwritten", p, bytes);
}

START_TEST(runs_of_every_size_are_aligned_disjoint_and_go_back_whole)
{
	static void *p[48];
	suite_quiet();
	for (int round = 0; round < 3; round++) {
		size_t sum = 0;
		for (uint32_t i = 0; i < 48; i++) {
			size_t n = MIB + 1 + i * 97 * 1024;
			p[i] = hak_malloc(n);
			EXPECT(p[i], "no memory");
			EXPECT(((uintptr_t)p[i] & (HAK_GRANULE - 1)) == 0, "not on a granule");
			EXPECT(hak_usable_size(p[i]) == granules(n), "%zu bytes hold %zu", n, hak_usable_size(p[i]));
			mark(p[i], n, (uint64_t)i << 40);
			sum += granules(n);
			EXPECT(figures().span_live == sum, "live %zu, not %zu", figures().span_live, sum);
		}
		for (uint32_t i = 0; i < 48; i++) {
			size_t n = MIB + 1 + i * 97 * 1024;
			check(p[i], n, (uint64_t)i << 40, n);
			hak_free(p[i]);
		}
		ck_assert_uint_eq(figures().span_live, 0);
	}
	/* three rounds of the same need no more than one */
	ck_assert_uint_le(figures().span_mapped, 400 * MIB);
}
END_TEST

/* Each begins where the one before ends, and where an arena grows, in what is free at its end. */
START_TEST(blocks_lie_side_by_side)
{
	size_t n = 6 * MIB + 100 * 1024, all = 8 * granules(n);
	suite_quiet();
	char *first = hak_malloc(n);
	for (unsigned i = 1; i < 8; i++)
		ck_assert_ptr_eq(hak_malloc(n), first + i * granules(n));
	/* a power of two of the first 4 MiB */
	ck_assert_uint_eq(figures().span_mapped, 64 * MIB);
	ck_assert_uint_ge(figures().span_mapped, all);
	char *aligned = hak_memalign(HAK_SUPER, n);
	ck_assert_ptr_eq(aligned, first + (all + HAK_SUPER - 1) / HAK_SUPER * HAK_SUPER);
	ck_assert_uint_eq((uintptr_t)aligned % HAK_SUPER, 0);
}
END_TEST

/* What is known of where runs fit is what the words say. */
static void check_runs(void)
{
	for (const struct hak_arena *a = hak_span_arenas; a; a = a->next) {
		uint32_t run = 0, best = 0;
		for (uint32_t g = HAK_ARENA_GRANULES; g-- > 0;) {
			uint64_t word = a->super[g / 32];
			run = (HAK_WORD_EMPTY(word) | HAK_WORD_UNUSED(word)) >> g % 32 & 1 ? run + 1 : 0;
			best = hak_max(best, run);
			if (g % 32)
				continue;
			EXPECT(a->run_from_start[g / 32] == run, "granule %u begins %u, not %u", g, run, a->run_from_start[g / 32]);
			EXPECT(a->run_from_best[g / 32] == best, "a run of %u from granule %u on, not %u", best, g, a->run_from_best[g / 32]);
			best = 0;
		}
	}
}

static void random_life(void)
{
	static struct {
		char *p;
		size_t bytes;
	} block[LIVE];
	uint64_t seed = 31;
	setup_keeping(200 * MIB);
	for (uint64_t step = 0; step < 5000; step++) {
		uint32_t i = (uint32_t)(suite_random(&seed) % LIVE);
		uint64_t id = (uint64_t)i << 44;
		size_t n = MIB + suite_random_size(&seed, 8 * MIB);
		if (suite_random(&seed) % 300 == 0)
			n += HAK_HUGE_OWN;
		if (!block[i].p) {
			block[i].p = hak_malloc(n);
		} else if (suite_random(&seed) % 2) {
			size_t kept = hak_min(block[i].bytes, n);
			char *q = hak_realloc(block[i].p, n);
			EXPECT(q, "no memory");
			check(q, kept, id, block[i].bytes);
			block[i].p = q;
		} else {
			check(block[i].p, block[i].bytes, id, block[i].bytes);
			hak_free(block[i].p);
			block[i].p = NULL;
			continue;
		}
		EXPECT(block[i].p, "no memory");
		block[i].bytes = n;
		EXPECT(hak_usable_size(block[i].p) >= n, "%zu bytes hold %zu", n, hak_usable_size(block[i].p));
		mark(block[i].p, n, id);
		if (step % 500 == 0) {
			size_t sum = 0, own = 0;
			for (int k = 0; k < LIVE; k++)
				if (block[k].p)
					*(hak_tag_of(block[k].p) ? &sum : &own) += hak_usable_size(block[k].p);
			EXPECT(figures().span_live == sum, "runs: %zu live, %zu held", figures().span_live, sum);
			EXPECT(figures().own_mapped == own, "own: %zu mapped, %zu held", figures().own_mapped, own);
		}
		if (step % 1000 == 0)
			hak_reclaim_all();
		if (step % 100 == 99)
			check_runs();
	}
	for (int i = 0; i < LIVE; i++) {
		if (!block[i].p)
			continue;
		check(block[i].p, block[i].bytes, (uint64_t)i << 44, block[i].bytes);
		hak_free(block[i].p);
	}
	ck_assert_uint_eq(figures().span_live, 0);
	ck_assert_uint_eq(figures().own_mapped, 0);
	ck_assert_uint_eq(figures().own_blocks, 0);
}

START_TEST(a_random_life_of_runs_and_own_mappings_never_overlaps)
{
	random_life();
}
END_TEST

START_TEST(a_random_life_on_small_pages)
{
	hak_option_values[HAK_OPT_thp] = 0;
	random_life();
}
END_TEST

START_TEST(a_run_is_the_first_that_fits)
{
	char *p[12];
	suite_quiet();
	for (int i = 0; i < 12; i++)
		EXPECT((p[i] = hak_malloc(2 * MIB - 1)), "no memory");
	char *base = p[0];
	for (int i = 0; i < 12; i++)
		ck_assert_ptr_eq(p[i], base + i * 2 * (ptrdiff_t)MIB);
	hak_free(p[2]);
	hak_free(p[4]);
	hak_free(p[5]);
	hak_free(p[8]);
	/* one of 28 granules leaves 4: the next of as many finds the next place */
	ck_assert_ptr_eq(hak_malloc(28 * HAK_GRANULE), p[2]);
	ck_assert_ptr_eq(hak_malloc(4 * MIB), p[4]);
	ck_assert_ptr_eq(hak_malloc(28 * HAK_GRANULE), p[8]);
	hak_free(p[3]);
	/* from within a SuperSlab into the next */
	ck_assert_ptr_eq(hak_malloc(20 * HAK_GRANULE), p[2] + 28 * HAK_GRANULE);
	check_runs();
}
END_TEST

/* A child of a fork that ran no handlers may have been made in the middle of a change. */
START_TEST(a_child_of_a_raw_fork_knows_where_runs_fit)
{
	suite_quiet();
	char *p = hak_malloc(4 * MIB);
	hak_free(hak_malloc(3 * MIB));
	hak_span_arenas->run_from_start[0] = 1000;
	hak_span_arenas->run_from_best[1] = 0;
	hak_huge_lock.state = 1;
	hak_huge_fork_raw();
	hak_huge_lock.state = 0;
	check_runs();
	ck_assert_ptr_eq(hak_malloc(3 * MIB), p + 4 * MIB);
}
END_TEST

START_TEST(calloc_is_zero_after_the_same_memory_was_used)
{
	suite_quiet();
	for (size_t n = 300 * 1024; n <= 70 * MIB; n *= 3) {
		for (int round = 0; round < 3; round++) {
			unsigned char *p = hak_calloc(n / 16, 16);
			size_t bytes = n / 16 * 16;
			EXPECT(p, "no memory");
			for (size_t at = 0; at < bytes; at += 512)
				EXPECT(p[at] == 0, "%zu bytes, round %d: byte %zu", n, round, at);
			EXPECT(p[bytes - 1] == 0, "last byte");
			for (size_t at = 0; at < bytes; at += 512)
				p[at] = 0xff;
			p[bytes - 1] = 0xff;
			hak_free(p);
			if (round == 1)
				hak_reclaim_all();
		}
	}
}
END_TEST

START_TEST(a_run_grows_in_place_into_free_neighbours_and_shrinks_in_place)
{
	suite_quiet();
	char *p = hak_malloc(4 * MIB), *q = hak_malloc(4 * MIB), *wall = hak_malloc(4 * MIB);
	ck_assert_ptr_eq(q, p + 4 * MIB);
	mark(p, 4 * MIB, 1);
	hak_free(q);
	ck_assert_ptr_eq(hak_realloc(p, 8 * MIB), p);
	ck_assert_uint_eq(hak_usable_size(p), 8 * MIB);
	check(p, 4 * MIB, 1, 4 * MIB);
	/* to less than half of it: the rest can be had by others */
	ck_assert_ptr_eq(hak_realloc(p, 3 * MIB), p);
	ck_assert_uint_eq(hak_usable_size(p), 3 * MIB);
	ck_assert_uint_eq(figures().span_live, 7 * MIB);
	q = hak_malloc(4 * MIB);
	ck_assert(q >= p + 3 * MIB && q < wall);
	/* now it is in the way: it moves, and its contents with it */
	mark(q, 4 * MIB, 2);
	char *moved = hak_realloc(p, 12 * MIB);
	ck_assert_ptr_ne(moved, p);
	check(moved, 3 * MIB, 1, 4 * MIB);
	check(q, 4 * MIB, 2, 4 * MIB);
	ck_assert_uint_eq(figures().span_live, 20 * MIB);
}
END_TEST

START_TEST(a_run_at_the_end_of_its_arena_grows_the_arena)
{
	suite_quiet();
	char *p = hak_malloc(4 * MIB);
	size_t mapped = figures().span_mapped;
	mark(p, 4 * MIB, 3);
	ck_assert_ptr_eq(hak_realloc(p, 40 * MIB), p);
	ck_assert_uint_gt(figures().span_mapped, mapped);
	check(p, 4 * MIB, 3, 4 * MIB);
	p[40 * MIB - 1] = 1;
	hak_free(p);
	ck_assert_uint_eq(figures().span_live, 0);
}
END_TEST

#define SPAN (32 * MIB)

static bool looked;

static int look_and_advise(void *p, size_t bytes, int advice)
{
	if (advice == MADV_DONTNEED && bytes >= SPAN) {
		looked = true;
		hak_free(hak_malloc(SPAN)); /* from another arena */
	}
	return madvise(p, bytes, advice);
}

/* What was not found is looked for again as soon as something came back, by each of the ways. */
START_TEST(an_arena_that_had_no_room_is_known_to_have_it_again)
{
	char *p[2 * HAK_ARENA / SPAN];
	suite_quiet();
	for (size_t i = 0; i < 2 * HAK_ARENA / SPAN; i++)
		ck_assert_ptr_nonnull(p[i] = hak_malloc(SPAN));
	size_t mapped = figures().span_mapped;
	ck_assert_uint_eq(mapped, 2 * HAK_ARENA);
	hak_free(p[3]);
	ck_assert_ptr_eq(hak_malloc(SPAN), p[3]);
	/* a part of one does for a smaller one, not for as large a one */
	ck_assert_ptr_eq(hak_realloc(p[5], SPAN / 4), p[5]);
	char *q = hak_malloc(SPAN / 2);
	ck_assert_ptr_eq(q, p[5] + SPAN / 4);
	hak_free(q);
	hak_reclaim_all();
	ck_assert_ptr_eq(hak_malloc(SPAN / 4 * 3), q);
	ck_assert_uint_eq(figures().span_mapped, mapped);
	/* while the kernel takes it back it is nobody's */
	hak_free(p[7]);
	hak_sys.madvise = look_and_advise;
	hak_reclaim_all();
	ck_assert(looked);
	ck_assert_uint_gt(figures().span_mapped, mapped);
	bool again = false;
	for (size_t i = 0; i <= HAK_ARENA / SPAN; i++)
		again |= hak_malloc(SPAN) == p[7];
	ck_assert(again);
	ck_assert_uint_eq(figures().span_mapped, 3 * HAK_ARENA);
	ck_assert_ptr_nonnull(hak_realloc(p[9], SPAN / 4));
	/* where there is none so large there may be one that is smaller */
	ck_assert_ptr_nonnull(hak_malloc(SPAN));
	ck_assert_uint_gt(figures().span_mapped, 3 * HAK_ARENA);
	for (size_t i = 1; i < HAK_ARENA / SPAN; i++)
		ck_assert_ptr_nonnull(hak_malloc(SPAN));
	ck_assert_ptr_eq(hak_malloc(SPAN / 2), p[9] + SPAN / 4);
}
END_TEST

START_TEST(the_tail_that_growth_took_and_shrinking_gave_back_has_the_right_tags)
{
	suite_quiet();
	char *p = hak_malloc(2 * MIB);
	ck_assert_ptr_eq(hak_realloc(p, 6 * MIB), p);
	for (size_t at = HAK_GRANULE; at < 6 * MIB; at += HAK_GRANULE)
		EXPECT(*hak_tag_of(p + at) == HAK_CODE_SPAN_REST, "granule at %zu", at);
	ck_assert_ptr_eq(hak_realloc(p, 2 * MIB), p);
	for (size_t at = 2 * MIB; at < 6 * MIB; at += HAK_GRANULE)
		EXPECT(*hak_tag_of(p + at) == 0, "granule at %zu", at);
	hak_free(p);
	for (size_t at = 0; at < 6 * MIB; at += HAK_GRANULE)
		EXPECT(*hak_tag_of(p + at) == 0, "granule at %zu after free", at);
}
END_TEST

START_TEST(every_alignment_is_kept_at_every_size)
{
	suite_quiet();
	for (size_t align = HAK_GRANULE; align <= 64 * MIB; align *= 2)
		for (size_t n = 1; n <= 80 * MIB; n = n * 7 + 1) {
			char *p = hak_memalign(align, n);
			EXPECT(p, "no memory for %zu bytes aligned to %zu", n, align);
			EXPECT(((uintptr_t)p & (align - 1)) == 0, "%zu bytes, align %zu: %p", n, align, (void *)p);
			EXPECT(hak_usable_size(p) >= n, "%zu bytes hold %zu", n, hak_usable_size(p));
			p[0] = p[n - 1] = 1;
			hak_free(p);
		}
	ck_assert_uint_eq(figures().span_live, 0);
	ck_assert_uint_eq(figures().own_mapped, 0);
}
END_TEST

/* aligned_alloc(align, 0): a block of its own, like malloc(0). */
START_TEST(no_bytes_at_all_at_a_large_alignment_are_still_a_block)
{
	suite_quiet();
	for (size_t align = HAK_MIN_ALIGN; align <= 16 * MIB; align *= 2) {
		char *p = hak_memalign(align, 0), *q = hak_memalign(align, 0), *r = hak_memalign(align, 1);
		EXPECT(p && q && r, "aligned to %zu: NULL", align);
		EXPECT(p != q && q != r && p != r, "aligned to %zu: the same block twice", align);
		EXPECT((((uintptr_t)p | (uintptr_t)q) & (align - 1)) == 0, "not aligned to %zu", align);
		hak_free(p);
		hak_free(r);
		hak_free(q);
	}
	ck_assert_uint_eq(figures().span_live, 0);
}
END_TEST

/* ---- own mappings ------------------------------------------------------------------------ */

START_TEST(from_64_mib_a_block_is_a_mapping_of_its_own)
{
	suite_quiet();
	char *below = hak_malloc(HAK_HUGE_OWN - 1), *own = hak_malloc(HAK_HUGE_OWN);
	ck_assert_uint_eq(figures().own_blocks, 1);
	ck_assert_uint_eq(figures().own_mapped, HAK_HUGE_OWN);
	ck_assert_uint_eq((uintptr_t)own % HAK_SUPER, 0);
	ck_assert_uint_eq(hak_own_size(own), HAK_HUGE_OWN);
	ck_assert_uint_eq(hak_own_size(own + HAK_SUPER), 0);
	ck_assert(hak_own_contains(own + HAK_SUPER) && !hak_own_contains(below));
	own[0] = own[HAK_HUGE_OWN - 1] = 1;
	hak_free(own);
	ck_assert_uint_eq(figures().own_blocks, 0);
	ck_assert_uint_eq(hak_own_size(own), 0);
	hak_free(below);
}
END_TEST

START_TEST(own_mappings_grow_and_shrink_by_moving_page_tables)
{
	suite_quiet();
	char *p = hak_malloc(70 * MIB);
	mark(p, 70 * MIB, 4);
	for (size_t n = 80 * MIB; n <= 400 * MIB; n += 40 * MIB) {
		p = hak_realloc(p, n);
		ck_assert_ptr_nonnull(p);
		ck_assert_uint_eq(hak_usable_size(p), n);
		check(p, 70 * MIB, 4, 70 * MIB);
		p[n - 1] = 1;
		ck_assert_uint_eq(figures().own_mapped, n);
	}
	p = hak_realloc(p, 33 * MIB);
	ck_assert_uint_eq(hak_usable_size(p), 33 * MIB);
	check(p, 33 * MIB, 4, 70 * MIB);
	/* down through every tier */
	for (size_t n = 15 * MIB; n >= 64; n /= 3) {
		p = hak_realloc(p, n);
		ck_assert_ptr_nonnull(p);
		check(p, n, 4, 70 * MIB);
	}
	ck_assert_uint_eq(figures().own_blocks, 0);
	hak_free(p);
}
END_TEST

START_TEST(the_table_of_own_mappings_holds_thousands_and_forgets_them)
{
	enum { MANY = 1500 };
	static char *p[MANY];
	suite_quiet();
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < MANY; i++) {
			p[i] = hak_memalign(4 * MIB, 1);
			EXPECT(p[i] && hak_own_size(p[i]) == HAK_GRANULE, "block %d", i);
			if (i % 3 == 2) { /* holes */
				hak_free(p[i - 1]);
				p[i - 1] = NULL;
			}
		}
		for (int i = 0; i < MANY; i++)
			EXPECT(!p[i] || hak_own_size(p[i]) == HAK_GRANULE, "block %d lost", i);
		for (int i = 0; i < MANY; i++)
			hak_free(p[i]);
		ck_assert_uint_eq(figures().own_blocks, 0);
		ck_assert_uint_eq(figures().own_mapped, 0);
	}
}
END_TEST

/* The table marks deleted entries with small numbers: these are no blocks. */
START_TEST(small_numbers_are_no_blocks_whatever_was_deleted)
{
	static char *p[60];
	suite_quiet();
	for (int round = 0; round < 60; round++) {
		for (int i = 0; i < 60; i++)
			p[i] = hak_memalign(4 * MIB, 1);
		for (int i = 1; i < 60; i++) /* the first stays: the next round's lie elsewhere */
			hak_free(p[i]);
		for (uintptr_t n = 0; n < 64; n++)
			EXPECT(hak_own_size((void *)n) == 0, "round %d: %zu is a block", round, (size_t)n);
	}
}
END_TEST

/* ---- a kernel that refuses ----------------------------------------------------------------- */

static void *no_mremap(void *addr, size_t old_bytes, size_t new_bytes, int flags, void *to)
{
	(void)addr, (void)old_bytes, (void)new_bytes, (void)flags, (void)to;
	errno = ENOMEM;
	return MAP_FAILED;
}

static void *no_mmap(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	(void)addr, (void)bytes, (void)prot, (void)flags, (void)fd, (void)offset;
	errno = ENOMEM;
	return MAP_FAILED;
}

START_TEST(a_block_that_cannot_grow_stays_as_it_is)
{
	suite_quiet();
	char *own = hak_malloc(70 * MIB), *run = hak_malloc(4 * MIB);
	mark(own, 70 * MIB, 5);
	mark(run, 4 * MIB, 6);
	hak_sys.mremap = no_mremap;
	hak_sys.mmap = no_mmap;
	ck_assert_ptr_null(hak_realloc(own, 200 * MIB));
	ck_assert_ptr_null(hak_realloc(run, 80 * MIB));
	ck_assert_ptr_null(hak_malloc(80 * MIB));
	ck_assert_uint_eq(hak_usable_size(own), 70 * MIB);
	check(own, 70 * MIB, 5, 70 * MIB);
	check(run, 4 * MIB, 6, 4 * MIB);
	ck_assert_uint_eq(figures().own_mapped, 70 * MIB);
	hak_free(own);
	hak_free(run);
	ck_assert_uint_eq(figures().own_mapped, 0);
	ck_assert_uint_eq(figures().span_live, 0);
}
END_TEST

/* A realloc that fails must find room in the table for the block it has taken out. */
START_TEST(a_block_that_cannot_grow_is_not_lost_when_the_table_is_full_too)
{
	static char *p[4096];
	int n = 0;
	suite_quiet();
	for (; n < 24; n++)
		p[n] = hak_malloc(70 * MIB);
	hak_sys.mremap = no_mremap;
	hak_sys.mmap = no_mmap;
	for (int round = 0; round < 300; round++) {
		int i = round % n;
		ck_assert_ptr_null(hak_realloc(p[i], 200 * MIB));
		EXPECT(hak_usable_size(p[i]) == 70 * MIB, "round %d: block %d was lost", round, i);
	}
	for (int i = 0; i < n; i++)
		hak_free(p[i]);
	ck_assert_uint_eq(figures().own_blocks, 0);
}
END_TEST

static char *into_window;

static void *mmap_into_window(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	if (!addr && bytes >= HAK_HUGE_OWN) {
		addr = into_window;
		flags |= MAP_FIXED_NOREPLACE;
	}
	return mmap(addr, bytes, prot, flags, fd, offset);
}

/* Arenas' slots are not reserved: the kernel may place any mapping in one, ours too. */
START_TEST(an_own_mapping_that_lies_in_an_arenas_slot_is_a_block_like_others)
{
	suite_quiet();
	hak_free(hak_malloc(10));
	into_window = (char *)hak_windows[0].base + HAK_ARENA;
	hak_sys.mmap = mmap_into_window;
	char *p = hak_malloc(70 * MIB);
	ck_assert_ptr_eq(p, into_window);
	ck_assert_uint_eq(hak_usable_size(p), 70 * MIB);
	mark(p, 70 * MIB, 7);
	p = hak_realloc(p, 90 * MIB);
	ck_assert_ptr_nonnull(p);
	check(p, 70 * MIB, 7, 70 * MIB);
	hak_free(p);
	ck_assert_uint_eq(figures().own_blocks, 0);
}
END_TEST

/* ---- threads ------------------------------------------------------------------------------- */

#define WORKERS 4
#define SHELF 32

static _Atomic(char *) shelf[SHELF];

/* Blocks go over a shelf from thread to thread: who takes one owns it. */
static void *trade(void *arg)
{
	uint64_t seed = (uintptr_t)arg + 99;
	for (int step = 0; step < 1500; step++) {
		size_t n = MIB + suite_random_size(&seed, 6 * MIB);
		if (step % 50 == 0)
			n += HAK_HUGE_OWN;
		char *p = hak_malloc(n);
		if (!p)
			return "no memory";
		if (step % 4 == 0) {
			n += 2 * MIB;
			p = hak_realloc(p, n);
			if (!p)
				return "no memory";
		}
		*(size_t *)(void *)p = n;
		*(size_t *)(void *)(p + n / 16 * 8) = n;
		p = atomic_exchange(&shelf[suite_random(&seed) % SHELF], p);
		if (!p)
			continue;
		n = *(size_t *)(void *)p;
		if (hak_usable_size(p) < n || *(size_t *)(void *)(p + n / 16 * 8) != n)
			return "a block was overwritten";
		hak_free(p);
		if (step % 300 == 7)
			hak_reclaim_all();
	}
	return NULL;
}

/* ---- own mappings that are kept -------------------------------------------------- */

static size_t kept(void)
{
	return hak_counted(own_kept);
}

static char *filled(size_t bytes, char with)
{
	char *p = hak_malloc(bytes);
	EXPECT(p, "no memory for %zu", bytes);
	for (size_t at = 0; at < bytes; at += HAK_GRANULE)
		p[at] = with;
	return p;
}

START_TEST(an_own_mapping_that_is_freed_serves_the_next_block)
{
	setup_keeping(400 * MIB);
	char *p = filled(70 * MIB, 1);
	hak_free(p);
	ck_assert_uint_eq(kept(), 70 * MIB);
	ck_assert_uint_eq(figures().own_mapped, 0);
	/* its pages as well: nothing went to the kernel and back */
	char *q = hak_malloc(66 * MIB);
	ck_assert_ptr_eq(q, p);
	ck_assert_int_eq(q[0], 1);
	ck_assert_uint_eq(hak_usable_size(q), 70 * MIB);
	ck_assert_uint_eq(kept(), 0);
	hak_free(q);
	q = hak_calloc(1, 70 * MIB);
	ck_assert_ptr_eq(q, p);
	for (size_t at = 0; at < 70 * MIB; at += HAK_GRANULE)
		EXPECT(q[at] == 0, "calloc's byte %zu is %d", at, q[at]);
	hak_free(q);
}
END_TEST

START_TEST(what_is_kept_is_taken_apart_and_joined_again)
{
	setup_keeping(400 * MIB);
	char *whole = filled(300 * MIB, 1), *part[4];
	hak_free(whole);
	for (size_t i = 0; i < 4; i++) {
		part[i] = hak_malloc(65 * MIB);
		ck_assert_ptr_eq(part[i], whole + i * 66 * MIB);
	}
	ck_assert_uint_eq(kept(), 36 * MIB);
	/* in an order in which some find both neighbours, some one, some none */
	for (size_t i = 0; i < 4; i++)
		hak_free(part[(i * 2 + 1) % 5 % 4]);
	ck_assert_uint_eq(kept(), 300 * MIB);
	ck_assert_ptr_eq(hak_malloc(300 * MIB), whole);
}
END_TEST

START_TEST(a_block_of_two_mappings_that_were_joined_grows_as_others_do)
{
	setup_keeping(800 * MIB);
	char *a = filled(64 * MIB, 1), *b = filled(64 * MIB, 2);
	/* else the kernel may make them one mapping */
	ck_assert_int_eq(madvise(a, 64 * MIB, MADV_DONTDUMP), 0);
	if (a - b != 64 * (ptrdiff_t)MIB && b - a != 64 * (ptrdiff_t)MIB)
		return; /* the kernel put something between */
	hak_free(a);
	hak_free(b);
	char *p = filled(128 * MIB, 3);
	ck_assert_ptr_eq(p, a < b ? a : b);
	p = hak_realloc(p, 300 * MIB);
	ck_assert_ptr_nonnull(p);
	for (size_t at = 0; at < 128 * MIB; at += HAK_GRANULE)
		EXPECT(p[at] == 3, "byte %zu is %d", at, p[at]);
	hak_free(p);
}
END_TEST

START_TEST(what_is_kept_is_bounded)
{
	char *p[5];
	setup_keeping(200 * MIB);
	for (int i = 0; i < 5; i++) {
		p[i] = filled((size_t)(70 + 20 * i) * MIB, 1);
		/* no neighbours, which would become one */
		ck_assert(mmap(NULL, HAK_SUPER, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
	}
	for (int i = 0; i < 3; i++)
		hak_free(p[i]);
	ck_assert_uint_eq(kept(), (70 + 90 + 110) * MIB);
	/* more than the reclaimer may have before it: its free unmaps it */
	hak_free(p[4]);
	ck_assert_uint_eq(kept(), (70 + 90 + 110) * MIB);
	ck_assert(hak_own_give_back(HAK_OWN_OVER));
	ck_assert_uint_eq(kept(), 200 * MIB);
	ck_assert(!hak_own_give_back(HAK_OWN_OVER));
	hak_own_set_room(0);
	hak_free(p[3]);
	ck_assert_uint_eq(kept(), 200 * MIB);
	hak_reclaim_all();
	ck_assert_uint_eq(kept(), 0);
}
END_TEST

START_TEST(what_is_kept_goes_at_the_second_look)
{
	setup_keeping(400 * MIB);
	char *old = filled(70 * MIB, 1), *later = filled(90 * MIB, 1);
	unsigned char in[1];
	hak_free(old);
	ck_assert(hak_own_give_back(HAK_OWN_OLD));
	ck_assert_uint_eq(kept(), 70 * MIB);
	hak_free(later); /* may be a neighbour of the first: then both are new */
	hak_own_give_back(HAK_OWN_OLD);
	ck_assert_uint_ge(kept(), 90 * MIB);
	ck_assert(!hak_own_give_back(HAK_OWN_OLD));
	ck_assert_uint_eq(kept(), 0);
	ck_assert_int_eq(mincore(later, HAK_PAGE, in), -1);
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_uint_eq(hak_counted(released), 160 * MIB);
}
END_TEST

START_TEST(a_request_about_to_fail_gets_what_is_kept)
{
	struct rlimit space;
	setup_keeping(800 * MIB);
	hak_free(hak_malloc(400 * MIB)); /* all but what the next needs is there already */
	FILE *f = fopen("/proc/self/statm", "r");
	size_t pages = 0;
	ck_assert(f && fscanf(f, "%zu", &pages) == 1);
	fclose(f);
	space.rlim_cur = space.rlim_max = pages * HAK_PAGE + 50 * MIB;
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &space), 0);
	ck_assert_uint_eq(kept(), 400 * MIB);
	ck_assert_ptr_nonnull(hak_malloc(420 * MIB));
	ck_assert_uint_eq(kept(), 0);
}
END_TEST

START_TEST(what_has_a_policy_of_its_own_is_not_kept)
{
	setup_keeping(400 * MIB);
	char *p = hak_own_alloc(0, 70 * MIB, HAK_SUPER);
	hak_free(p);
	ck_assert_uint_eq(kept(), 0);
}
END_TEST

START_TEST(a_kept_block_that_is_freed_again_is_a_fault)
{
	setup_keeping(400 * MIB);
	char *p = hak_malloc(70 * MIB);
	hak_free(p);
	hak_free(p);
}
END_TEST

START_TEST(threads_trade_huge_blocks_and_lose_none)
{
	pthread_t t[WORKERS];
	void *fault;
	setup_keeping(200 * MIB);
	for (uintptr_t i = 0; i < WORKERS; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, trade, (void *)i), 0);
	for (int i = 0; i < WORKERS; i++) {
		pthread_join(t[i], &fault);
		ck_assert_msg(!fault, "%s", (const char *)fault);
	}
	for (int i = 0; i < SHELF; i++)
		hak_free(shelf[i]);
	ck_assert_uint_eq(figures().span_live, 0);
	ck_assert_uint_eq(figures().own_mapped, 0);
}
END_TEST

SUITE("huge", 60,
      CALM(runs_of_every_size_are_aligned_disjoint_and_go_back_whole),
      CALM(blocks_lie_side_by_side),
      CALM(a_random_life_of_runs_and_own_mappings_never_overlaps),
      CALM(a_random_life_on_small_pages),
      CALM(a_run_is_the_first_that_fits),
      CALM(a_child_of_a_raw_fork_knows_where_runs_fit),
      CALM(calloc_is_zero_after_the_same_memory_was_used),
      CALM(a_run_grows_in_place_into_free_neighbours_and_shrinks_in_place),
      CALM(a_run_at_the_end_of_its_arena_grows_the_arena),
      CALM(an_arena_that_had_no_room_is_known_to_have_it_again),
      CALM(the_tail_that_growth_took_and_shrinking_gave_back_has_the_right_tags),
      CALM(every_alignment_is_kept_at_every_size),
      CALM(no_bytes_at_all_at_a_large_alignment_are_still_a_block),
      CALM(from_64_mib_a_block_is_a_mapping_of_its_own),
      CALM(own_mappings_grow_and_shrink_by_moving_page_tables),
      CALM(the_table_of_own_mappings_holds_thousands_and_forgets_them),
      CALM(small_numbers_are_no_blocks_whatever_was_deleted),
      CALM(a_block_that_cannot_grow_stays_as_it_is),
      CALM(a_block_that_cannot_grow_is_not_lost_when_the_table_is_full_too),
      CALM(an_own_mapping_that_lies_in_an_arenas_slot_is_a_block_like_others),
      CALM(an_own_mapping_that_is_freed_serves_the_next_block),
      CALM(what_is_kept_is_taken_apart_and_joined_again),
      CALM(a_block_of_two_mappings_that_were_joined_grows_as_others_do),
      CALM(what_is_kept_is_bounded),
      CALM(what_is_kept_goes_at_the_second_look),
      CALM(a_request_about_to_fail_gets_what_is_kept),
      CALM(what_has_a_policy_of_its_own_is_not_kept),
      DIES(a_kept_block_that_is_freed_again_is_a_fault, SIGABRT),
      CALM(threads_trade_huge_blocks_and_lose_none))
