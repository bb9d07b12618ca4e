/* SPDX-License-Identifier: MIT */
/* Does hardened mode find what it promises to, choose at random, and keep what malloc promises? */
#include "hardened.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "front.h"
#include "options.h"
#include "reclaim.h"
#include "sys/sys.h"

#include "suite.h"

#define MIB ((size_t)1 << 20)

/* Of each way a block is kept. */
static const size_t sizes[] = { 1, 24, 25, 64, 100, 1000, 1024, 5000, 40000, 200000, 262136, 262137, MIB, 3 * MIB, 70 * MIB };
#define SIZES (sizeof sizes / sizeof *sizes)

START_TEST(usable_size_is_what_was_asked_for)
{
	for (size_t i = 0; i < SIZES; i++) {
		void *p = hak_malloc(sizes[i]), *z = hak_calloc(1, sizes[i]), *a = hak_memalign(256, sizes[i]);
		ck_assert_uint_eq(hak_usable_size(p), sizes[i]);
		ck_assert_uint_eq(hak_usable_size(z), sizes[i]);
		ck_assert_uint_eq(hak_usable_size(a), sizes[i]);
		ck_assert(((uintptr_t)a & 255) == 0);
		hak_free(p);
		hak_free(z);
		hak_free(a);
	}
	void *none = hak_malloc(0);
	ck_assert_uint_eq(hak_usable_size(none), 1);
	hak_free(none);
}
END_TEST

START_TEST(realloc_keeps_contents_and_says_the_new_size)
{
	for (size_t i = 0; i < SIZES; i++)
		for (size_t k = 0; k < SIZES; k++) {
			size_t n = sizes[i], m = sizes[k], least = n < m ? n : m;
			unsigned char *p = hak_malloc(n);
			memset(p, (int)(i + 1), n);
			p = hak_realloc(p, m);
			EXPECT(p && hak_usable_size(p) == m, "%zu to %zu", n, m);
			for (size_t at = 0; at < least; at += 1 + least / 999)
				EXPECT(p[at] == i + 1, "%zu to %zu: byte %zu", n, m, at);
			EXPECT(p[least - 1] == i + 1, "%zu to %zu: last byte", n, m);
			memset(p, 0x5a, m);
			hak_free(p);
		}
}
END_TEST

START_TEST(a_freed_block_waits_until_others_of_its_class_have)
{
	void *keep[64], *p = hak_malloc(100);
	for (int i = 0; i < 64; i++)
		keep[i] = hak_malloc(100);
	hak_free(p);
	for (int i = 0; i < 63; i++) { /* as many as wait, less one */
		void *q = hak_malloc(100);
		EXPECT(q != p, "after %d frees", i);
		hak_free(keep[i]);
		keep[i] = q;
	}
	for (int i = 0; i < 64; i++)
		hak_free(keep[i]);
}
END_TEST

static void *of_home[2 * 64];

/* A thread's bag is small before it has allocated, and what it frees may be many blocks of its home. */
static void *free_and_see(void *arg)
{
	const int waits = 64;
	(void)arg;
	for (int i = 0; i < 2 * waits; i++) {
		hak_free(of_home[i]);
		if (i >= waits) /* as many have been freed after it */
			of_home[i - waits] = NULL;
		void *q = i % 16 == 15 ? hak_malloc(100) : NULL;
		for (int k = 0; q && k <= i; k++)
			if (of_home[k] == q)
				return "a block is back too soon";
	}
	return hak_heap_self->home == hak_heap_self ? "no guest" : NULL;
}

static void have_a_guest(void *(*free_of_home)(void *))
{
	pthread_t t;
	void *fault;
	suite_share(1);
	for (int i = 0; i < 2 * 64; i++)
		of_home[i] = hak_malloc(100);
	pthread_create(&t, NULL, free_of_home, NULL);
	pthread_join(t, &fault);
	EXPECT(!fault, "%s", (char *)fault);
	ck_assert_uint_eq(hak_heap_count(), 2);
}

START_TEST(it_waits_so_long_with_a_thread_that_shares_slabs)
{
	have_a_guest(free_and_see);
}
END_TEST

static struct hak_bag *my_bag(size_t bytes)
{
	return hak_bag_got(hak_heap_self->hard, hak_route_class(bytes + HAK_HARD_RECORD));
}

/* The place's block of those that wait, from the one that has waited longest on. */
static void *waits_at(struct hak_bag *b, uint32_t place)
{
	return b->slots[(b->oldest + place) & b->last_wait];
}

static void *free_all_in_order(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < 2 * 64; i++) {
		hak_free(of_home[i]);
		struct hak_bag *b = my_bag(100);
		for (uint32_t k = 0; i >= 63 && k < 64; k++)
			if (waits_at(b, k) != of_home[i - 63 + k])
				return "other blocks wait than the last ones, or in another order";
	}
	return hak_heap_self->home == hak_heap_self ? "no guest" : NULL;
}

START_TEST(those_wait_that_were_freed_last_and_in_that_order)
{
	have_a_guest(free_all_in_order);
}
END_TEST

enum { MAIL = 300, PARCEL = HAK_REMOTE_BLOCKS };
static void *mail[MAIL];

static void *free_mail(void *arg)
{
	(void)arg;
	for (int i = 0; i < MAIL; i++)
		hak_free(mail[i]);
	hak_heap_flush(hak_heap_self);
	return NULL;
}

/* What another thread freed goes to the owner's bag, and no more of it to slabs than has waited. */
START_TEST(what_comes_by_mail_waits_though_the_bag_is_full)
{
	pthread_t t;
	suite_share(0);
	for (int i = 0; i < MAIL; i++)
		mail[i] = hak_malloc(100);
	pthread_create(&t, NULL, free_mail, NULL);
	pthread_join(t, NULL);
	hak_free(hak_malloc(5000)); /* a refill unpacks it */
	struct hak_bag *b = my_bag(100);
	ck_assert_uint_eq(b->waiting, 64);
	/* parcels are unpacked from the newest on, each in the order in which its blocks were freed */
	for (uint32_t k = 0; k < PARCEL; k++)
		EXPECT(waits_at(b, 64 - PARCEL + k) == mail[k], "at %u", k);
}
END_TEST

static pthread_barrier_t has_heap, has_lock;

static void *forks_without_handlers(void *arg)
{
	(void)arg;
	hak_free(hak_malloc(5000));
	pthread_barrier_wait(&has_heap);
	pthread_barrier_wait(&has_lock);
	pid_t child = _Fork();
	if (!child) {
		alarm(10);
		hak_free(of_home[0]); /* there is no bag for it yet */
		_exit(hak_malloc(100) == NULL);
	}
	int status;
	return (void *)(uintptr_t)(waitpid(child, &status, 0) != child || status);
}

START_TEST(a_child_does_not_wait_for_a_lock_whose_holder_is_not_there)
{
	pthread_t t;
	void *fault;
	suite_share(1);
	of_home[0] = hak_malloc(100);
	pthread_barrier_init(&has_heap, NULL, 2);
	pthread_barrier_init(&has_lock, NULL, 2);
	pthread_create(&t, NULL, forks_without_handlers, NULL);
	pthread_barrier_wait(&has_heap);
	hak_lock(&hak_heap_self->lock);
	pthread_barrier_wait(&has_lock);
	pthread_join(t, &fault);
	hak_unlock(&hak_heap_self->lock);
	ck_assert_ptr_null(fault);
}
END_TEST

/* Slabs are asked for while the heap caches more than its share. */
START_TEST(blocks_wait_though_others_must_go_home)
{
	static void *keep[100];
	suite_quiet();
	for (size_t bytes = 100; bytes < 60000; bytes += bytes / 4) {
		for (int i = 0; i < 100; i++)
			keep[i] = hak_malloc(bytes);
		for (int i = 0; i < 100; i++)
			hak_free(keep[i]);
	}
	struct hak_bag *b = my_bag(100);
	ck_assert_uint_eq(b->waiting, 64);
	ck_assert_uint_gt(hak_bag_ready(b), 0);
	uint64_t drains = hak_heap_self->drains;
	hak_option_values[HAK_OPT_magazine_kib] = 1;
	for (int i = 0; i < 1000; i++) /* from 4 MiB on what is cached is counted */
		hak_malloc(5000);
	ck_assert_uint_gt(hak_heap_self->drains, drains);
	ck_assert_uint_eq(hak_bag_ready(b), 0);
	ck_assert_uint_eq(b->waiting, 64);
}
END_TEST

START_TEST(who_comes_next_is_a_matter_of_chance)
{
	enum { BLOCKS = 2000 };
	static uintptr_t at[BLOCKS];
	int up = 0, next = 0;
	for (int i = 0; i < BLOCKS; i++)
		at[i] = (uintptr_t)hak_malloc(100);
	for (int i = 1; i < BLOCKS; i++) {
		up += at[i] > at[i - 1];
		next += at[i] - at[i - 1] == 112;
	}
	/* half of the steps go up: 1000, with a deviation of 13; next to each other are few */
	EXPECT(up > 850 && up < 1150, "%d of %d steps go up", up, BLOCKS - 1);
	EXPECT(next < BLOCKS / 10, "%d of %d are next to the one before", next, BLOCKS - 1);
}
END_TEST

START_TEST(blocks_do_not_come_back_in_the_order_in_which_they_were_freed)
{
	enum { BLOCKS = 200, BACK = 30 };
	static char *at[BLOCKS];
	int next = 0, before = -1;
	for (int i = 0; i < BLOCKS; i++)
		at[i] = hak_malloc(100);
	for (int i = 0; i < BLOCKS; i++)
		hak_free(at[i]);
	for (int i = 0; i < BACK; i++) {
		char *p = hak_malloc(100);
		for (int k = 0; k < BLOCKS; k++)
			if (at[k] == p) {
				next += before >= 0 && (k - before == 1 || before - k == 1);
				before = k;
			}
	}
	ck_assert_int_ge(before, 0);
	EXPECT(next < BACK / 2, "%d of %d were neighbours there", next, BACK - 1);
}
END_TEST

static uint64_t order(void)
{
	uint64_t hash = 0;
	uintptr_t first = 0;
	for (int i = 0; i < 50; i++) {
		uintptr_t p = (uintptr_t)hak_malloc(100);
		first = first ? first : p;
		hash = (hash ^ (p - first)) * 0x9e3779b97f4a7c15u;
	}
	return hash;
}

static void *order_of_thread(void *out)
{
	*(uint64_t *)out = order();
	return NULL;
}

START_TEST(no_two_threads_have_the_same_order)
{
	uint64_t a = order(), b;
	pthread_t t;
	pthread_create(&t, NULL, order_of_thread, &b);
	pthread_join(t, NULL);
	ck_assert_uint_ne(a, b);
}
END_TEST

static void *free_in_thread(void *p)
{
	hak_free(p);
	return NULL;
}

static void free_elsewhere(void *p)
{
	pthread_t t;
	pthread_create(&t, NULL, free_in_thread, p);
	pthread_join(t, NULL);
}

START_TEST(blocks_freed_by_another_thread_are_checked_and_come_back)
{
	for (int round = 0; round < 20; round++)
		for (size_t i = 0; i < SIZES - 1; i++) {
			char *p = hak_malloc(sizes[i]);
			memset(p, 1, sizes[i]);
			free_elsewhere(p);
		}
}
END_TEST

START_TEST(a_double_free_by_another_thread_dies_at_once)
{
	void *p = hak_malloc(100);
	hak_free(p);
	free_elsewhere(p);
	_exit(0);
}
END_TEST

START_TEST(one_byte_behind_a_block_that_another_thread_frees_dies)
{
	char *p = hak_malloc(100);
	p[100] = 0;
	free_elsewhere(p);
	_exit(0);
}
END_TEST

/* In the child the blocks of vanished threads are as good as before. */
START_TEST(a_forks_child_frees_what_the_parent_made)
{
	void *p[SIZES];
	for (size_t i = 0; i < SIZES; i++)
		p[i] = memset(hak_malloc(sizes[i]), 1, sizes[i]);
	pid_t child = fork();
	for (size_t i = 0; i < SIZES; i++)
		hak_free(p[i]);
	for (int i = 0; i < 5000; i++)
		hak_free(hak_malloc((size_t)i));
	if (!child)
		_exit(0);
	int status;
	ck_assert(waitpid(child, &status, 0) == child && status == 0);
}
END_TEST

/* Does the byte at p + at kill who writes it? */
static bool kills(char *p, size_t at)
{
	int status;
	pid_t child = fork();
	if (!child) {
		signal(SIGSEGV, SIG_DFL);
		*(volatile char *)(p + at) = 1;
		_exit(0);
	}
	ck_assert(waitpid(child, &status, 0) == child);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

/* Does a guard page, and nothing else, end the granules of a block above 256 KiB? */
static bool ends_in_guard(char *p, size_t bytes)
{
	size_t end = (bytes + HAK_HARD_RECORD + HAK_PAGE + HAK_GRANULE - 1) & ~(HAK_GRANULE - 1);
	return !kills(p, end - HAK_PAGE - 1) && kills(p, end - HAK_PAGE) && kills(p, end - 1);
}

START_TEST(a_page_behind_larger_blocks_and_slabs_cannot_be_touched)
{
	static const size_t large[] = { 300000, MIB, 3 * MIB, 70 * MIB };
	for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
		char *p = hak_malloc(large[i]);
		EXPECT(ends_in_guard(p, large[i]), "%zu bytes", large[i]);
		hak_free(p);
	}
	char *p = hak_malloc(100);
	uintptr_t end = ((uintptr_t)p | (HAK_GRANULE - 1)) + 1;
	ck_assert(!kills(p, 50));
	ck_assert(kills((char *)end - HAK_PAGE, 0) && kills((char *)end - 1, 0));
}
END_TEST

static struct hak_sys real;
static int guard_calls;
static enum { NOTHING, ADVICE, OPENING } refused;

static int advise(void *p, size_t bytes, int advice)
{
	guard_calls++;
	return refused == ADVICE || (refused == OPENING && advice == 103 /* MADV_GUARD_REMOVE */) ?
		       -1 : real.madvise_own(p, bytes, advice);
}

static int protect(void *p, size_t bytes, int prot)
{
	guard_calls++;
	return refused == OPENING && prot != PROT_NONE ? -1 : real.mprotect(p, bytes, prot);
}

static void watch_guards(void)
{
	real = hak_sys;
	hak_sys.madvise_own = advise;
	hak_sys.mprotect = protect;
}

START_TEST(a_block_in_the_place_of_one_as_large_has_its_guard_without_a_call)
{
	static const size_t large[] = { 300000, MIB - 20000, MIB, 3 * MIB };
	suite_quiet(); /* what goes back is opened */
	watch_guards();
	for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
		hak_free(hak_malloc(large[i]));
		guard_calls = 0;
		for (int round = 0; round < 100; round++)
			hak_free(memset(hak_malloc(large[i]), 1, large[i]));
		EXPECT(guard_calls == 0, "%zu bytes: %d calls", large[i], guard_calls);
		char *p = hak_malloc(large[i]);
		EXPECT(ends_in_guard(p, large[i]), "%zu bytes", large[i]);
		hak_free(p);
	}
	hak_sys = real;
}
END_TEST

/* Blocks of many sizes, in slabs as well, take each other's places: all of each can be written. */
static void take_places_in_turn(uint64_t seed, int rounds, bool checked)
{
	enum { LIVE = 24 };
	static char *p[LIVE];
	for (int i = 0; i < rounds; i++) {
		uint64_t chance = suite_random(&seed);
		size_t most = chance & 1 ? MIB : chance & 2 ? 7 * MIB : 200000, bytes = 30000 + (chance >> 8) % most;
		char **at = &p[(chance >> 3) % LIVE];
		hak_free(*at);
		*at = hak_malloc(bytes);
		if (!*at)
			continue;
		memset(*at, i, bytes);
		if (checked && i % 16 == 0 && bytes > HAK_SLAB_MAX)
			EXPECT(ends_in_guard(*at, bytes), "round %d: %zu bytes", i, bytes);
	}
	for (int i = 0; i < LIVE; i++) {
		hak_free(p[i]);
		p[i] = NULL;
	}
}

START_TEST(blocks_of_other_sizes_in_the_place_of_freed_ones_are_open_and_guarded)
{
	suite_quiet();
	take_places_in_turn(1, 250, true);
	pid_t child = fork();
	take_places_in_turn(2, 100, true);
	if (!child)
		_exit(0);
	int status;
	ck_assert(waitpid(child, &status, 0) == child && status == 0);
}
END_TEST

START_TEST(memory_whose_guards_the_kernel_does_not_open_is_not_handed_out)
{
	suite_quiet();
	take_places_in_turn(3, 100, false);
	watch_guards();
	refused = OPENING;
	take_places_in_turn(4, 100, false);
	refused = NOTHING;
	hak_sys = real;
	take_places_in_turn(5, 100, true);
}
END_TEST

START_TEST(without_guards_of_the_kernels_pages_are_protected)
{
	suite_quiet();
	watch_guards();
	refused = ADVICE;
	take_places_in_turn(8, 150, true);
	hak_sys = real;
}
END_TEST

static void expect_no_guards_in_unused(struct hak_arena *a, void *arg)
{
	(void)arg;
	for (unsigned s = 0; s < HAK_ARENA_SUPERS; s++)
		EXPECT((HAK_WORD_UNUSED(a->super[s]) & a->closed[s]) == 0, "SuperSlab %u", s);
}

START_TEST(what_goes_back_to_the_kernel_has_no_guards)
{
	suite_quiet();
	take_places_in_turn(6, 150, false);
	hak_heap_empty(hak_heap_self);
	hak_reclaim_all();
	hak_arena_each(expect_no_guards_in_unused, NULL);
	take_places_in_turn(7, 100, true);
}
END_TEST

/* Does free, or that the block goes out again, notice that the byte at p + at was changed? */
static bool notices(size_t bytes, size_t at, bool after_free)
{
	int status;
	pid_t child = fork();
	if (!child) {
		signal(SIGABRT, SIG_DFL);
		close(STDERR_FILENO);
		volatile char *p = hak_malloc(bytes);
		if (after_free)
			hak_free((void *)(uintptr_t)p);
		p[at] ^= 1;
		if (!after_free)
			hak_free((void *)(uintptr_t)p);
		for (int i = 0; i < 20000; i++)
			hak_free(hak_malloc(bytes));
		_exit(0);
	}
	ck_assert(waitpid(child, &status, 0) == child);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

START_TEST(each_byte_that_is_to_be_watched_is)
{
	static const size_t watched[] = { 1, 8, 9, 23, 35, 64, 101, 247, 248, 257, 520, 1000 };
	for (size_t i = 0; i < sizeof watched / sizeof *watched; i++) {
		size_t n = watched[i], room = hak_classes[hak_route_class(n + HAK_HARD_RECORD)].stride - HAK_HARD_RECORD;
		for (size_t at = n; at <= room && at < n + 32; at++)
			EXPECT(notices(n, at, false), "byte %zu behind %zu bytes", at - n, n);
		for (size_t at = 0; at < room && at < 256; at += 7)
			EXPECT(notices(n, at, true), "byte %zu of %zu that were freed", at, n);
		EXPECT(notices(n, room - 1, true), "the last byte of %zu that were freed", n);
	}
}
END_TEST

START_TEST(memory_that_was_given_back_between_is_not_taken_for_a_crime)
{
	static void *p[4000];
	for (int round = 0; round < 6; round++) {
		size_t bytes = round % 2 ? 16000 : 9000;
		for (int i = 0; i < 1000; i++)
			memset(p[i] = hak_malloc(bytes), round, bytes);
		for (int i = 0; i < 1000; i++)
			hak_free(p[i]);
		hak_heap_empty(hak_heap_self);
		for (int i = 0; i < 4000; i++)
			memset(p[i] = hak_malloc(300), round, 300);
		for (int i = 0; i < 4000; i++)
			hak_free(p[i]);
		hak_heap_empty(hak_heap_self);
	}
}
END_TEST

#define CRIME(name, ...)                                                                           \
	START_TEST(name)                                                                           \
	{                                                                                          \
		__VA_ARGS__ _exit(0);                                                              \
	}                                                                                          \
	END_TEST

CRIME(a_byte_behind_the_block_dies_at_free, char *p = hak_malloc(100); p[100] = 1; hak_free(p);)
CRIME(a_zero_behind_a_block_that_ends_at_its_record_dies, char *p = hak_malloc(24); p[24] = 0; hak_free(p);)
CRIME(a_byte_behind_a_run_dies_at_free, char *p = hak_malloc(MIB); p[MIB] = 0; hak_free(p);)
CRIME(a_byte_behind_the_block_dies_at_realloc, char *p = hak_malloc(100); p[101] = 1; hak_realloc(p, 90);)
CRIME(realloc_of_a_freed_block_dies, void *p = hak_malloc(100); hak_free(p); hak_realloc(p, 1000);)
CRIME(a_write_after_free_dies_when_the_block_goes_out_again, char *p = hak_malloc(100); hak_free(p); p[50] = 1;
      for (int i = 0; i < 20000; i++) hak_free(hak_malloc(100));)
CRIME(a_write_before_a_block_dies_when_its_neighbour_goes_out, for (int i = 0; i < 100; i++) {
	char *p = hak_malloc(100);
	if ((uintptr_t)p % HAK_GRANULE) /* a slab's first block has no neighbour there */
		memset(p - 8, 1, 8);
	for (int k = 0; k < 2000; k++) hak_malloc(100);
})
CRIME(a_record_that_was_zeroed_dies_when_its_block_goes_out, char *p = hak_malloc(100); hak_free(p);
      memset(p + 112 - 8, 0, 8); for (int i = 0; i < 20000; i++) hak_free(hak_malloc(100));)
CRIME(a_double_free_dies_while_the_block_waits, void *p = hak_malloc(100), *q = hak_malloc(100); hak_free(p); hak_free(q);
      hak_free(p);)
CRIME(a_double_free_dies_when_its_slab_has_the_block, void *keep = hak_malloc(100); void *p = hak_malloc(100); hak_free(p);
      hak_heap_empty(hak_heap_self); hak_free(p); hak_free(keep);)
CRIME(a_block_that_was_never_handed_out_dies, char *p = hak_malloc(112 - 8);
      while ((uintptr_t)p % HAK_GRANULE > HAK_GRANULE / 2) p = hak_malloc(112 - 8); /* not next to the guard page */
      hak_free(p + 112); hak_free(p + 224);)

/* The mode is chosen before the first allocation, so in the environment. */
int main(int argc, char **argv)
{
	const struct suite_test tests[] = {
		CALM(usable_size_is_what_was_asked_for),
		CALM(realloc_keeps_contents_and_says_the_new_size),
		CALM(a_freed_block_waits_until_others_of_its_class_have),
		CALM(it_waits_so_long_with_a_thread_that_shares_slabs),
		CALM(those_wait_that_were_freed_last_and_in_that_order),
		CALM(what_comes_by_mail_waits_though_the_bag_is_full),
		CALM(a_child_does_not_wait_for_a_lock_whose_holder_is_not_there),
		CALM(blocks_wait_though_others_must_go_home),
		CALM(who_comes_next_is_a_matter_of_chance),
		CALM(blocks_do_not_come_back_in_the_order_in_which_they_were_freed),
		CALM(no_two_threads_have_the_same_order),
		CALM(blocks_freed_by_another_thread_are_checked_and_come_back),
		CALM(a_forks_child_frees_what_the_parent_made),
		CALM(a_page_behind_larger_blocks_and_slabs_cannot_be_touched),
		CALM(a_block_in_the_place_of_one_as_large_has_its_guard_without_a_call),
		CALM(blocks_of_other_sizes_in_the_place_of_freed_ones_are_open_and_guarded),
		CALM(memory_whose_guards_the_kernel_does_not_open_is_not_handed_out),
		CALM(without_guards_of_the_kernels_pages_are_protected),
		CALM(what_goes_back_to_the_kernel_has_no_guards),
		CALM(each_byte_that_is_to_be_watched_is),
		CALM(memory_that_was_given_back_between_is_not_taken_for_a_crime),
		DIES(a_double_free_by_another_thread_dies_at_once, SIGABRT),
		DIES(one_byte_behind_a_block_that_another_thread_frees_dies, SIGABRT),
		DIES(a_byte_behind_the_block_dies_at_free, SIGABRT),
		DIES(a_zero_behind_a_block_that_ends_at_its_record_dies, SIGABRT),
		DIES(a_byte_behind_a_run_dies_at_free, SIGABRT),
		DIES(a_byte_behind_the_block_dies_at_realloc, SIGABRT),
		DIES(realloc_of_a_freed_block_dies, SIGABRT),
		DIES(a_write_after_free_dies_when_the_block_goes_out_again, SIGABRT),
		DIES(a_write_before_a_block_dies_when_its_neighbour_goes_out, SIGABRT),
		DIES(a_record_that_was_zeroed_dies_when_its_block_goes_out, SIGABRT),
		DIES(a_double_free_dies_while_the_block_waits, SIGABRT),
		DIES(a_double_free_dies_when_its_slab_has_the_block, SIGABRT),
		DIES(a_block_that_was_never_handed_out_dies, SIGABRT),
	};
	(void)argc;
	if (!getenv("HAKMEM_HARDENED")) {
		setenv("HAKMEM_HARDENED", "1", 1);
		execv("/proc/self/exe", argv);
	}
	return suite_run("hardened", 60, tests, sizeof tests / sizeof *tests);
}
