/* SPDX-License-Identifier: MIT */
/*
 * crimes: does every bad free die with one line that names it, and does every bad request
 * fail as it should? Run by crimes.sh, under the preload.
 *
 *   crimes --list      one line a crime: its name, a tab, what the message must say
 *   crimes NAME        commits it; first prints the address that the message must name
 *   crimes --requests  requests that must be refused; prints what was not, exits 1 then
 *
 * A crime that is survived exits with 0: under HAKMEM_ABORT=0 that is right.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hakmem/hakmem.h"

/* One size for each way a block is kept, and the next larger way. */
#define SMALL ((size_t)64)
#define POOL ((size_t)20000)
#define L25 ((size_t)100000)
#define RUN ((size_t)700000)
#define HUGE_RUN ((size_t)3 << 20)
#define OWN ((size_t)80 << 20)

static int data_of_ours = 1;
static char bss_of_ours[1 << 16];
static const char text_of_ours[] = "never allocated";

/* The compiler must not know where a pointer comes from: it would warn, rightly. */
static void *launder(const void *p)
{
	void *q = (void *)(uintptr_t)p;
	__asm__("" : "+r"(q));
	return q;
}

/* Names the address of the crime that follows, without stdio: it would allocate. */
static void *accuse(const void *p)
{
	char line[32];
	int n = snprintf(line, sizeof line, "0x%zx\n", (size_t)(uintptr_t)p);
	if (write(STDOUT_FILENO, line, (size_t)n) != n)
		_exit(3);
	return launder(p);
}

static void *get(size_t bytes)
{
	char *p = launder(malloc(bytes));
	if (!p)
		_exit(3);
	p[0] = p[bytes - 1] = 1;
	return p;
}

static void free_bad(const void *p)
{
	free(accuse(p));
}

static void run_thread(void *(*run)(void *), void *arg)
{
	pthread_t t;
	if (pthread_create(&t, NULL, run, arg) || pthread_join(t, NULL))
		_exit(3);
}

static void *nothing(void *arg)
{
	return arg;
}

static void *free_in_thread(void *p)
{
	free(launder(p));
	return NULL;
}

/* ---- never allocated ------------------------------------------------------------- */

static void stack(void)
{
	char buf[64] __attribute__((aligned(16))) = { 0 };
	free_bad(buf + 16);
}

static void *stack_here(void *arg)
{
	(void)arg;
	stack();
	return NULL;
}

static void stack_of_a_thread(void)
{
	run_thread(stack_here, NULL);
}

static void static_data(void)
{
	free_bad(&data_of_ours);
}

static void static_bss(void)
{
	/* its middle: a page that is neither file nor the end of the program */
	free_bad(bss_of_ours + sizeof bss_of_ours / 2);
}

static void static_constant(void)
{
	free_bad(text_of_ours);
}

static void function(void)
{
	free_bad((void *)(uintptr_t)function);
}

static void of_a_library(void)
{
	free_bad((void *)(uintptr_t)stdout);
}

static void wild_low(void)
{
	free_bad((void *)0x10);
}

static void wild_one(void)
{
	free_bad((void *)1);
}

static void wild_canonical(void)
{
	free_bad((void *)0x123456789ab0);
}

static void wild_noncanonical(void)
{
	free_bad((void *)0x8123456789abcde0);
}

static void wild_kernel_half(void)
{
	free_bad((void *)0xffff888012345670);
}

static void wild_last(void)
{
	free_bad((void *)(UINTPTR_MAX - 15));
}

/* Near the heap, in address space that is kept for it but was never mapped. */
static void wild_near_heap(void)
{
	free_bad((char *)get(SMALL) + ((size_t)700 << 20));
}

static void wild_unmapped_after(void)
{
	char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(p, 1 << 20);
	free_bad(p + 4096);
}

static void mapped_file(void)
{
	FILE *f = fopen("/proc/self/exe", "re");
	char *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fileno(f), 0);
	if (p == MAP_FAILED)
		_exit(3);
	free_bad(p + 64);
}

static void beyond_the_last_block(void)
{
	/* on a fresh heap the granule after the only slab is free */
	free_bad((void *)(((uintptr_t)get(SMALL) | 0xffff) + 1));
}

static void never_handed_out(void)
{
	/* 1,365 blocks of 48 bytes leave 16 bytes of a slab: on stride, but no block.
	 * The magazine takes it; it must be found out when it comes to its slab. */
	char *p = get(48);
	char *tail = (char *)((uintptr_t)p & ~(uintptr_t)0xffff) + 1365 * 48;
	free_bad(tail);
	hakmem_thread_idle();
}

/* ---- interior pointers ------------------------------------------------------------ */

static void interior(size_t bytes, size_t offset)
{
	free_bad((char *)get(bytes) + offset);
}

static void interior_small(void) { interior(SMALL, 16); }
static void interior_pool(void) { interior(POOL, 4096); }
static void interior_l25(void) { interior(L25, 65536); }
static void interior_run(void) { interior(RUN, 65536); }
static void interior_run_near(void) { interior(RUN, 16); }
static void interior_huge(void) { interior(HUGE_RUN, (size_t)2 << 20); }
static void interior_huge_near(void) { interior(HUGE_RUN, 4096); }
static void interior_own(void) { interior(OWN, (size_t)4 << 20); }
static void misaligned_small(void) { interior(SMALL, 1); }
static void misaligned_pool(void) { interior(POOL, 8); }
static void misaligned_l25(void) { interior(L25, 3); }
static void misaligned_run(void) { interior(RUN, 8); }
static void misaligned_huge(void) { interior(HUGE_RUN, 1); }
static void misaligned_own(void) { interior(OWN, 8); }

static void *interior_other_thread_run(void *p)
{
	free_bad((char *)p + 16);
	return NULL;
}

static void interior_from_another_thread(void)
{
	run_thread(interior_other_thread_run, get(SMALL));
}

static void realloc_interior(void)
{
	void *p = accuse((char *)get(SMALL) + 16);
	p = realloc(p, 4 * SMALL);
	(void)p;
}

static void realloc_stack(void)
{
	char buf[64] __attribute__((aligned(16))) = { 0 };
	void *p = realloc(accuse(buf), 200);
	(void)p;
}

static void realloc_wild(void)
{
	void *p = realloc(accuse((void *)0x123456789ab0), 200);
	(void)p;
}

/* ---- freed twice ------------------------------------------------------------------ */

static void twice(size_t bytes)
{
	void *keep = get(bytes), *p = get(bytes);
	free(p);
	free_bad(p);
	free(keep);
}

static void twice_small(void) { twice(SMALL); }
static void twice_pool(void) { twice(POOL); }
static void twice_l25(void) { twice(L25); }
static void twice_run(void) { twice(RUN); }
static void twice_huge(void) { twice(HUGE_RUN); }
static void twice_own(void) { twice(OWN); }

static void twice_after_others(size_t bytes, int others)
{
	void *p = get(bytes), *block[2000];
	for (int i = 0; i < others; i++)
		block[i] = get(bytes);
	free(p);
	free(block[0]);
	free_bad(p);
	for (int i = 1; i < others; i++)
		free(block[i]);
	hakmem_thread_idle();
}

static void twice_reaches_slab_small(void) { twice_after_others(SMALL, 2000); }
static void twice_reaches_slab_pool(void) { twice_after_others(POOL, 100); }
static void twice_reaches_slab_l25(void) { twice_after_others(L25, 30); }
static void twice_reaches_slab_run(void) { twice_after_others(RUN, 3); }
static void twice_reaches_slab_huge(void) { twice_after_others(HUGE_RUN, 3); }

static void twice_found_at_exit(void)
{
	void *p = get(SMALL), *q = get(SMALL);
	free(p);
	free(q);
	free_bad(p);
}

static void twice_reaches_slab_at_idle(void)
{
	void *keep = get(SMALL), *p = get(SMALL), *q = get(SMALL);
	free(p);
	free(q);
	free_bad(p);
	hakmem_thread_idle();
	free(keep);
}

static void twice_by_another_thread_first(size_t bytes)
{
	void *keep = get(bytes), *p = get(bytes);
	run_thread(free_in_thread, p);
	free_bad(p);
	hakmem_thread_idle();
	free(keep);
}

static void twice_by_another_thread_last(size_t bytes)
{
	void *keep = get(bytes), *p = get(bytes);
	free(p);
	hakmem_thread_idle();
	run_thread(free_in_thread, accuse(p));
	hakmem_thread_idle();
	free(keep);
}

static void *twice_here(void *p)
{
	free(launder(p));
	free_bad(p);
	return NULL;
}

static void twice_in_another_thread(size_t bytes)
{
	void *keep = get(bytes), *p = get(bytes);
	run_thread(twice_here, p);
	hakmem_thread_idle();
	free(keep);
}

static void twice_by_two_threads(size_t bytes)
{
	void *keep = get(bytes), *p = get(bytes);
	run_thread(free_in_thread, p);
	hakmem_thread_idle();
	run_thread(free_in_thread, accuse(p));
	hakmem_thread_idle();
	free(keep);
}

#define REMOTE(way)                                                                                \
	static void way##_small(void) { way(SMALL); }                                              \
	static void way##_pool(void) { way(POOL); }                                                \
	static void way##_l25(void) { way(L25); }                                                  \
	static void way##_run(void) { way(RUN); }                                                  \
	static void way##_huge(void) { way(HUGE_RUN); }                                            \
	static void way##_own(void) { way(OWN); }
REMOTE(twice_by_another_thread_first)
REMOTE(twice_by_another_thread_last)
REMOTE(twice_in_another_thread)
REMOTE(twice_by_two_threads)

static void *make_two(void *arg)
{
	void **two = arg;
	two[0] = get(SMALL);
	two[1] = get(SMALL);
	return NULL;
}

/* Freeing what an ended thread left is right once, and a crime the second time. */
static void twice_after_its_thread_ended(void)
{
	void *two[2];
	run_thread(make_two, two);
	free(two[0]);
	free_bad(two[0]);
	hakmem_trim();
	free(two[1]);
	hakmem_trim();
}

static pthread_key_t late_key;

static void late(void *p)
{
	static int rounds;
	if (rounds++ < 2) { /* after every other destructor, hakmem's too */
		pthread_setspecific(late_key, p);
		return;
	}
	free(launder(p));
	free_bad(p);
}

static void *late_run(void *arg)
{
	(void)arg;
	pthread_setspecific(late_key, get(SMALL));
	return NULL;
}

static void twice_in_a_late_destructor(void)
{
	pthread_key_create(&late_key, late);
	run_thread(late_run, NULL);
	hakmem_trim();
}

/* ---- the table --------------------------------------------------------------------- */

#define INSIDE "not the start of a block"
#define TWICE "double free|freed twice"
#define NOWHERE "address is not mapped"

static const struct crime {
	const char *name;
	const char *says;
	void (*commit)(void);
} crimes[] = {
#define CRIME(name, says) { #name, says, name }
	CRIME(stack, "on the stack"),
	CRIME(stack_of_a_thread, "on the stack"),
	CRIME(static_data, "mapped file|program or library"),
	CRIME(static_bss, "program or library"),
	CRIME(static_constant, "mapped file|program or library"),
	CRIME(function, "mapped file|program or library"),
	CRIME(of_a_library, "mapped file|program or library"),
	CRIME(wild_low, NOWHERE),
	CRIME(wild_one, NOWHERE),
	CRIME(wild_canonical, NOWHERE),
	CRIME(wild_noncanonical, NOWHERE),
	CRIME(wild_kernel_half, NOWHERE),
	CRIME(wild_last, NOWHERE),
	CRIME(wild_near_heap, NOWHERE),
	CRIME(wild_unmapped_after, NOWHERE),
	CRIME(mapped_file, "mapped file"),
	CRIME(beyond_the_last_block, "not an allocated block"),
	CRIME(never_handed_out, INSIDE),
	CRIME(interior_small, INSIDE),
	CRIME(interior_pool, INSIDE),
	CRIME(interior_l25, INSIDE),
	CRIME(interior_run, INSIDE),
	CRIME(interior_run_near, INSIDE),
	CRIME(interior_huge, INSIDE),
	CRIME(interior_huge_near, INSIDE),
	CRIME(interior_own, INSIDE),
	CRIME(misaligned_small, INSIDE),
	CRIME(misaligned_pool, INSIDE),
	CRIME(misaligned_l25, INSIDE),
	CRIME(misaligned_run, INSIDE),
	CRIME(misaligned_huge, INSIDE),
	CRIME(misaligned_own, INSIDE),
	CRIME(interior_from_another_thread, INSIDE),
	CRIME(realloc_interior, INSIDE),
	CRIME(realloc_stack, "on the stack"),
	CRIME(realloc_wild, NOWHERE),
	CRIME(twice_small, TWICE),
	CRIME(twice_pool, TWICE),
	CRIME(twice_l25, TWICE),
	CRIME(twice_run, TWICE),
	CRIME(twice_huge, TWICE),
	CRIME(twice_own, NOWHERE), /* its mapping is gone */
	CRIME(twice_reaches_slab_small, TWICE),
	CRIME(twice_reaches_slab_pool, TWICE),
	CRIME(twice_reaches_slab_l25, TWICE),
	CRIME(twice_reaches_slab_run, TWICE),
	CRIME(twice_reaches_slab_huge, TWICE),
	CRIME(twice_reaches_slab_at_idle, TWICE),
	CRIME(twice_found_at_exit, TWICE),
#define CRIMES(way)                                                                                \
	CRIME(way##_small, TWICE), CRIME(way##_pool, TWICE), CRIME(way##_l25, TWICE),              \
	CRIME(way##_run, TWICE), CRIME(way##_huge, TWICE), CRIME(way##_own, NOWHERE)
	CRIMES(twice_by_another_thread_first),
	CRIMES(twice_by_another_thread_last),
	CRIMES(twice_in_another_thread),
	CRIMES(twice_by_two_threads),
	CRIME(twice_after_its_thread_ended, TWICE),
	CRIME(twice_in_a_late_destructor, TWICE),
};
#define CRIME_COUNT (sizeof crimes / sizeof *crimes)

/* ---- requests ---------------------------------------------------------------------- */

static int bad;

#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "crimes.c:%d: %s (errno %d)\n", __LINE__, #condition, errno); \
			bad = 1;                                                                   \
		}                                                                                  \
	} while (0)
/* NULL, and the errno that goes with it. */
#define REFUSES(call, error)                                                                       \
	do {                                                                                       \
		errno = 0;                                                                         \
		void *got_ = launder(call);                                                        \
		int errno_ = errno;                                                                \
		MUST(got_ == NULL && errno_ == (error));                                           \
	} while (0)

static uint64_t mapped_and_live(uint64_t *live)
{
	struct hakmem_stats s;
	if (hakmem_stats_get(&s, sizeof s))
		_exit(3);
	*live = s.live;
	return s.mapped;
}

static size_t opaque(size_t n)
{
	__asm__("" : "+r"(n));
	return n;
}

static int requests(void)
{
	const size_t top = (size_t)PTRDIFF_MAX, all = SIZE_MAX;
	const size_t sizes[] = { top + 1, all, all - 15, all - 65535, top, top - 4095, (size_t)1 << 62 };
	const size_t kept_sizes[] = { SMALL, POOL, L25, RUN, HUGE_RUN, OWN };
	char *kept[sizeof kept_sizes / sizeof *kept_sizes];
	uint64_t live, live_after;
	void *out;

	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
		memset(kept[i] = get(kept_sizes[i]), (int)i + 1, kept_sizes[i]);
	fprintf(stderr, "%s", ""); /* its buffers */
	uint64_t mapped = mapped_and_live(&live);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		size_t n = opaque(sizes[i]);
		REFUSES(malloc(n), ENOMEM);
		REFUSES(calloc(1, n), ENOMEM);
		REFUSES(calloc(n, 1), ENOMEM);
		REFUSES(realloc(NULL, n), ENOMEM);
		REFUSES(reallocarray(NULL, n, 1), ENOMEM);
		REFUSES(valloc(n), ENOMEM);
		REFUSES(pvalloc(n), ENOMEM);
		for (size_t align = 8; align <= (size_t)8 << 20; align *= 4) {
			REFUSES(aligned_alloc(opaque(align), n), ENOMEM);
			REFUSES(memalign(opaque(align), n), ENOMEM);
			out = &live;
			errno = E2BIG;
			MUST(posix_memalign(&out, opaque(align), n) == ENOMEM);
			MUST(out == &live && errno == E2BIG);
		}
		for (size_t k = 0; k < sizeof kept / sizeof *kept; k++) {
			REFUSES(realloc(kept[k], n), ENOMEM);
			REFUSES(reallocarray(kept[k], n, 2), ENOMEM);
		}
	}
	REFUSES(calloc(opaque(all / 2), 3), ENOMEM);
	REFUSES(calloc(opaque(all / 16 + 2), 16), ENOMEM);
	REFUSES(calloc(opaque((size_t)1 << 32), (size_t)1 << 32), ENOMEM);
	REFUSES(reallocarray(NULL, opaque((size_t)1 << 32), (size_t)1 << 32), ENOMEM);
	REFUSES(reallocarray(kept[0], opaque(all / 2), 3), ENOMEM);

	const size_t not_powers[] = { 3, 12, 24, 48, 4097, ((size_t)1 << 21) + 16, all };
	for (size_t i = 0; i < sizeof not_powers / sizeof *not_powers; i++) {
		size_t align = opaque(not_powers[i]);
		REFUSES(aligned_alloc(align, 64), EINVAL);
		errno = E2BIG;
		out = &live;
		MUST(posix_memalign(&out, align, 64) == EINVAL && errno == E2BIG && out == &live);
	}
	REFUSES(aligned_alloc(opaque(0), 64), EINVAL);
	MUST(posix_memalign(&out, opaque(0), 64) == EINVAL);
	/* a power of two, but no multiple of a pointer's size */
	MUST(posix_memalign(&out, opaque(1), 64) == EINVAL);
	MUST(posix_memalign(&out, opaque(2), 64) == EINVAL);
	MUST(posix_memalign(&out, opaque(4), 64) == EINVAL);
	/* alignments that no address space holds */
	REFUSES(memalign(opaque(all / 2 + 2), 64), EINVAL);
	REFUSES(aligned_alloc(opaque((size_t)1 << 62), 64), ENOMEM);
	REFUSES(aligned_alloc(opaque((size_t)1 << 48), 64), ENOMEM);
	MUST(posix_memalign(&out, opaque((size_t)1 << 62), 64) == ENOMEM);

	uint64_t mapped_after = mapped_and_live(&live_after);
	MUST(live_after == live);
	MUST(mapped_after <= mapped + ((size_t)1 << 20));
	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
		for (size_t at = 0; at < kept_sizes[i]; at += 1 + kept_sizes[i] / 1000)
			MUST(kept[i][at] == (char)(i + 1));
		free(kept[i]);
	}
	puts(bad ? "" : "refused");
	return bad;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "--list")) {
		for (size_t i = 0; i < CRIME_COUNT; i++)
			printf("%s\t%s\n", crimes[i].name, crimes[i].says);
		return 0;
	}
	if (argc == 2 && !strcmp(argv[1], "--requests"))
		return requests();
	/* what the C library allocates for its first thread must not take a freed block's place */
	run_thread(nothing, NULL);
	for (size_t i = 0; argc == 2 && i < CRIME_COUNT; i++)
		if (!strcmp(argv[1], crimes[i].name)) {
			crimes[i].commit();
			return 0;
		}
	fprintf(stderr, "usage: crimes --list | --requests | NAME\n");
	return 2;
}
