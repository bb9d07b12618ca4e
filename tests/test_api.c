/* SPDX-License-Identifier: MIT */
/*
 * Does each function of the malloc family, and of hakmem(3), do what its manual page says? The shipped
 * library is loaded and asked by name, so Check keeps the C library's malloc.
 *
 * The library is the file that HAK_LIBRARY names.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <unistd.h>

#include "hakmem/hakmem.h"
#include "route.h"

#include "suite.h"

#define MIB ((size_t)1 << 20)

/* Each function by its C name, in lib. */
#define FAMILY(X)                                                                                  \
	X(void *, malloc, (size_t))                                                                \
	X(void, free, (void *))                                                                    \
	X(void *, calloc, (size_t, size_t))                                                        \
	X(void *, realloc, (void *, size_t))                                                       \
	X(void *, reallocarray, (void *, size_t, size_t))                                          \
	X(void *, aligned_alloc, (size_t, size_t))                                                 \
	X(int, posix_memalign, (void **, size_t, size_t))                                          \
	X(void *, memalign, (size_t, size_t))                                                      \
	X(void *, valloc, (size_t))                                                                \
	X(void *, pvalloc, (size_t))                                                               \
	X(size_t, malloc_usable_size, (void *))                                                    \
	X(int, malloc_trim, (size_t))                                                              \
	X(int, mallopt, (int, int))                                                                \
	X(struct mallinfo, mallinfo, (void))                                                       \
	X(struct mallinfo2, mallinfo2, (void))                                                     \
	X(int, malloc_info, (int, FILE *))                                                         \
	X(void, malloc_stats, (void))                                                              \
	X(void, free_sized, (void *, size_t))                                                      \
	X(void, free_aligned_sized, (void *, size_t, size_t))                                      \
	X(void *, mallocx, (size_t, int))                                                          \
	X(void *, rallocx, (void *, size_t, int))                                                  \
	X(size_t, xallocx, (void *, size_t, size_t, int))                                          \
	X(size_t, sallocx, (const void *, int))                                                    \
	X(void, dallocx, (void *, int))                                                            \
	X(void, sdallocx, (void *, size_t, int))                                                   \
	X(size_t, nallocx, (size_t, int))                                                          \
	X(void *, _Znwm, (size_t))                                                                 \
	X(void *, _Znam, (size_t))                                                                 \
	X(void *, _ZnwmSt11align_val_t, (size_t, size_t))                                          \
	X(void, _ZdlPv, (void *))                                                                  \
	X(void, _ZdaPv, (void *))                                                                  \
	X(void, _ZdlPvm, (void *, size_t))                                                         \
	X(void, _ZdlPvSt11align_val_t, (void *, size_t))                                           \
	X(size_t, hakmem_trim, (void))                                                             \
	X(void, hakmem_thread_idle, (void))                                                        \
	X(void *, hakmem_malloc_at, (int, size_t))                                                 \
	X(void *, hakmem_memalign_at, (int, size_t, size_t))                                       \
	X(int, hakmem_thread_bind, (int))                                                          \
	X(int, hakmem_node_of, (const void *))                                                     \
	X(int, hakmem_stats_get, (struct hakmem_stats *, size_t))                                  \
	X(int, hakmem_stats_write, (enum hakmem_stats_format, hakmem_write_fn *, void *))          \
	X(int, hakmem_profile_write, (hakmem_write_fn *, void *))                                  \
	X(const char *, hakmem_version, (void))

static struct {
#define X(type, name, args) type(*name) args;
	FAMILY(X)
#undef X
} lib;

/* Sizes around every border: classes, tiers, pages, granules. */
static size_t borders[3 * HAK_CLASSES + 64];
static size_t border_count;

static void add_border(size_t n)
{
	borders[border_count++] = n - 1;
	borders[border_count++] = n;
	borders[border_count++] = n + 1;
}

static void setup(void)
{
	const size_t others[] = { HAK_GRANULE, 512 * 1024, HAK_L25_MAX, 2 * MIB, 5 * MIB, HAK_HUGE_OWN, 80 * MIB };
	void *so = dlopen(getenv("HAK_LIBRARY"), RTLD_NOW | RTLD_LOCAL);
	if (!so) {
		fprintf(stderr, "%s\n", dlerror());
		exit(1);
	}
#define X(type, name, args)                                                                        \
	*(void **)(void *)&lib.name = dlsym(so, #name);                                            \
	if (!lib.name) {                                                                           \
		fprintf(stderr, "no " #name "\n");                                                 \
		exit(1);                                                                           \
	}
	FAMILY(X)
#undef X
	/* the classes' strides, as the library's sizes show them; in hardened mode those are what was
	 * asked for, and steps of an eighth will do */
	for (size_t n = 1; n < HAK_SLAB_MAX;) {
		void *p = lib.malloc(n);
		size_t usable = lib.malloc_usable_size(p), stride = usable > n ? usable : (n + n / 8) | 15;
		lib.free(p);
		add_border(stride);
		n = stride + 1;
		if (border_count > 3 * HAK_CLASSES) {
			fprintf(stderr, "more classes than there are\n");
			exit(1);
		}
	}
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		add_border(others[i]);
}

static void write_pattern(void *p, size_t bytes, size_t from)
{
	for (size_t i = from; i < bytes; i += i < 4096 || i + 64 > bytes ? 1 : 61)
		((unsigned char *)p)[i] = (unsigned char)(i * 7 + i / 256 + 1);
}

/* The pattern of `bytes` bytes, of which the first `kept` must be there. */
static bool has_pattern(const void *p, size_t bytes, size_t kept)
{
	for (size_t i = 0; i < bytes && i < kept; i += i < 4096 || i + 64 > bytes ? 1 : 61)
		if (((const unsigned char *)p)[i] != (unsigned char)(i * 7 + i / 256 + 1))
			return false;
	return true;
}

START_TEST(malloc_gives_aligned_blocks_that_hold_what_was_asked)
{
	for (size_t i = 0; i < border_count; i++) {
		size_t n = borders[i];
		errno = E2BIG;
		char *p = lib.malloc(n);
		EXPECT(p && errno == E2BIG, "%zu bytes: errno %d", n, errno);
		EXPECT(((uintptr_t)p & 15) == 0, "%zu bytes: %p", n, (void *)p);
		EXPECT(lib.malloc_usable_size(p) >= n, "%zu bytes: %zu", n, lib.malloc_usable_size(p));
		p[0] = 1;
		p[lib.malloc_usable_size(p) - 1] = 1;
		errno = E2BIG;
		lib.free(p);
		EXPECT(errno == E2BIG, "free of %zu bytes: errno %d", n, errno);
	}
}
END_TEST

/* Also where a magazine is full, a slab becomes EMPTY, memory goes back to the kernel. */
START_TEST(free_never_touches_errno)
{
	static void *blocks[4000];
	const size_t sizes[] = { 64, 20000, 100000, 700000, 3 * MIB, 70 * MIB };
	for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
		size_t n = hak_min(sizeof blocks / sizeof *blocks, 300 * MIB / sizes[s]);
		for (size_t i = 0; i < n; i++)
			blocks[i] = lib.malloc(sizes[s]);
		for (size_t i = 0; i < n; i++) {
			errno = E2BIG;
			lib.free(blocks[i]);
			EXPECT(errno == E2BIG, "block %zu of %zu bytes: errno %d", i, sizes[s], errno);
		}
	}
}
END_TEST

START_TEST(malloc_of_nothing_is_a_block_of_its_own)
{
	void *p = lib.malloc(0), *q = lib.malloc(0), *r = lib.calloc(0, 8), *s = lib.calloc(8, 0), *t = lib.realloc(NULL, 0);
	ck_assert(p && q && r && s && t);
	ck_assert(p != q && q != r && r != s && s != t);
	lib.free(p), lib.free(q), lib.free(r), lib.free(s), lib.free(t);
}
END_TEST

START_TEST(free_and_usable_size_take_null)
{
	errno = E2BIG;
	lib.free(NULL);
	lib.free_sized(NULL, 8);
	lib.free_aligned_sized(NULL, 64, 8);
	lib._ZdlPv(NULL);
	lib._ZdaPv(NULL);
	ck_assert_int_eq(errno, E2BIG);
	ck_assert_uint_eq(lib.malloc_usable_size(NULL), 0);
}
END_TEST

START_TEST(every_class_keeps_every_alignment_up_to_4_mib)
{
	size_t most = 4 * MIB;
	for (size_t align = sizeof(void *); align <= most; align *= 2)
		for (size_t i = 0; i < border_count; i++) {
			size_t n = borders[i];
			if (n > 3 * MIB && i % 5)
				continue;
			void *p[4] = { lib.aligned_alloc(align, n), lib.memalign(align, n), NULL, lib._ZnwmSt11align_val_t(n, align) };
			errno = E2BIG;
			EXPECT(lib.posix_memalign(&p[2], align, n) == 0 && errno == E2BIG, "posix_memalign(%zu, %zu)", align, n);
			for (int k = 0; k < 4; k++) {
				EXPECT(p[k], "function %d(%zu, %zu): NULL", k, align, n);
				EXPECT(((uintptr_t)p[k] & (align - 1)) == 0, "function %d(%zu, %zu): %p", k, align, n, p[k]);
				EXPECT(((uintptr_t)p[k] & 15) == 0, "function %d(%zu, %zu): %p", k, align, n, p[k]);
				EXPECT(lib.malloc_usable_size(p[k]) >= n, "function %d(%zu, %zu) holds %zu", k, align, n,
				       lib.malloc_usable_size(p[k]));
				((char *)p[k])[0] = ((char *)p[k])[n - 1] = (char)k;
			}
			for (int k = 0; k < 4; k++)
				EXPECT(((char *)p[k])[n - 1] == (char)k, "blocks overlap");
			lib.free(p[0]);
			lib.free_aligned_sized(p[1], align, n);
			lib.free_sized(p[2], n);
			lib._ZdlPvSt11align_val_t(p[3], align);
		}
}
END_TEST

START_TEST(no_bytes_at_any_alignment_are_a_block)
{
	for (size_t align = sizeof(void *); align <= 8 * MIB; align *= 2) {
		void *p = lib.aligned_alloc(align, 0), *q = NULL;
		EXPECT(p && lib.posix_memalign(&q, align, 0) == 0 && q && p != q, "aligned to %zu", align);
		EXPECT((((uintptr_t)p | (uintptr_t)q) & (align - 1)) == 0, "aligned to %zu", align);
		lib.free(p);
		lib.free(q);
	}
}
END_TEST

START_TEST(posix_memalign_returns_its_error_and_touches_nothing)
{
	const size_t bad[] = { 0, 1, 2, 4, 3, 12, 24, 1000, SIZE_MAX };
	int there;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		void *out = &there;
		errno = E2BIG;
		EXPECT(lib.posix_memalign(&out, bad[i], 64) == EINVAL, "alignment %zu", bad[i]);
		EXPECT(out == &there && errno == E2BIG, "alignment %zu: errno %d", bad[i], errno);
	}
	void *out = &there;
	errno = E2BIG;
	ck_assert_int_eq(lib.posix_memalign(&out, 64, (size_t)PTRDIFF_MAX), ENOMEM);
	ck_assert(out == &there && errno == E2BIG);
}
END_TEST

START_TEST(bad_alignments_are_einval_and_memalign_rounds_them_up)
{
	const size_t bad[] = { 0, 3, 24, 1000, SIZE_MAX };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		errno = 0;
		EXPECT(!lib.aligned_alloc(bad[i], 64) && errno == EINVAL, "alignment %zu: errno %d", bad[i], errno);
	}
	void *p = lib.memalign(1000, 64);
	ck_assert(p && ((uintptr_t)p & 1023) == 0);
	lib.free(p);
	p = lib.memalign(0, 64);
	ck_assert(p && ((uintptr_t)p & 15) == 0);
	lib.free(p);
}
END_TEST

START_TEST(valloc_and_pvalloc_align_to_pages_and_pvalloc_rounds_up)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	for (size_t i = 0; i < border_count; i++) {
		size_t n = borders[i];
		void *p = lib.valloc(n), *q = lib.pvalloc(n);
		EXPECT(p && q && (((uintptr_t)p | (uintptr_t)q) & (page - 1)) == 0, "%zu bytes", n);
		EXPECT(lib.malloc_usable_size(p) >= n, "%zu bytes", n);
		EXPECT(lib.malloc_usable_size(q) >= (n + page - 1) / page * page, "%zu bytes", n);
		lib.free(p);
		lib.free(q);
	}
	void *p = lib.pvalloc(0);
	ck_assert_uint_ge(lib.malloc_usable_size(p), page);
	lib.free(p);
}
END_TEST

START_TEST(calloc_is_zero_after_the_same_memory_was_dirty)
{
	for (size_t i = 0; i < border_count; i++) {
		size_t n = borders[i];
		if (n > 6 * MIB)
			continue;
		for (int round = 0; round < 3; round++) {
			unsigned char *p = lib.calloc(1, n), *q = lib.calloc(n, 1);
			EXPECT(p && q, "no memory");
			size_t step = n > 100000 ? 97 : 1;
			for (size_t at = 0; at < n; at += step)
				EXPECT(p[at] == 0 && q[at] == 0, "%zu bytes, round %d: byte %zu", n, round, at);
			EXPECT(p[n - 1] == 0 && q[n - 1] == 0, "%zu bytes: the last", n);
			memset(p, 0xff, n);
			memset(q, 0xff, n);
			lib.free(p);
			lib.free(q);
		}
	}
}
END_TEST

START_TEST(realloc_keeps_the_contents_from_any_tier_to_any_other)
{
	const size_t sizes[] = { 1, 24, 64, 1000, 2048, 2049, 20000, 53248, 53249, 100000, 262144, 262145, 700000,
				 MIB, MIB + 1, 3 * MIB, 20 * MIB, HAK_HUGE_OWN - 1, HAK_HUGE_OWN, 70 * MIB };
	const size_t count = sizeof sizes / sizeof *sizes;
	for (size_t from = 0; from < count; from++)
		for (size_t to = 0; to < count; to++) {
			if (sizes[from] > 16 * MIB && sizes[to] > 16 * MIB && (from + to) % 3)
				continue;
			size_t a = sizes[from], b = sizes[to];
			char *p = lib.malloc(a);
			write_pattern(p, a, 0);
			errno = E2BIG;
			char *q = lib.realloc(p, b);
			EXPECT(q && errno == E2BIG, "%zu to %zu: errno %d", a, b, errno);
			EXPECT(((uintptr_t)q & 15) == 0 && lib.malloc_usable_size(q) >= b, "%zu to %zu", a, b);
			EXPECT(has_pattern(q, a, b), "%zu to %zu: contents", a, b);
			q[b - 1] = 1;
			lib.free(q);
		}
}
END_TEST

START_TEST(realloc_byte_by_byte_and_by_factors_keeps_everything)
{
	char *p = NULL;
	for (size_t n = 1; n < 6000; n++) {
		p = lib.realloc(p, n);
		EXPECT(p && has_pattern(p, n, n - 1), "%zu bytes", n);
		write_pattern(p, n, n - 1);
	}
	for (size_t n = 5999; n > 0; n--) {
		p = lib.realloc(p, n);
		EXPECT(p && has_pattern(p, 5999, n), "%zu bytes", n);
	}
	lib.free(p);
}
END_TEST

/* A file that is read, a log that is written: bytes are copied for a part of the steps. */
START_TEST(a_large_block_that_grows_by_steps_is_seldom_moved)
{
	int moves = 0;
	size_t n = 64 << 10;
	unsigned char *p = lib.malloc(n), *wall = lib.malloc(300000);
	memset(p, 1, n);
	for (int step = 0; n < 3 << 20; n += 4096, step++) {
		unsigned char *q = lib.realloc(p, n + 4096);
		EXPECT(q, "no memory");
		moves += q != p;
		p = q;
		memset(p + n, step & 127, 4096);
		if (step % 16 == 0) { /* something comes and goes behind it */
			lib.free(wall);
			wall = lib.malloc(300000 + (size_t)step * 64);
		}
	}
	for (size_t i = 0; i < n; i++)
		EXPECT(p[i] == (i < 64 << 10 ? 1 : ((i - (64 << 10)) / 4096 & 127)), "byte %zu is %d", i, p[i]);
	/* hardened, only what fits in the class stays */
	EXPECT(moves < (getenv("HAKMEM_HARDENED") ? 100 : 12), "%d moves in 736 steps", moves);
	lib.free(p);
	lib.free(wall);
}
END_TEST

START_TEST(runs_grow_and_shrink_in_place_and_keep_apart)
{
	static struct {
		unsigned char *p;
		size_t n;
	} block[24];
	uint64_t seed = 77;
	for (int step = 0; step < 20000; step++) {
		unsigned i = suite_random(&seed) % 24;
		size_t n = (256 << 10) + suite_random(&seed) % (768 << 10) + 1;
		unsigned char *p = lib.realloc(block[i].p, n);
		EXPECT(p, "no memory");
		if (block[i].p) {
			size_t kept = n < block[i].n ? n : block[i].n;
			for (size_t at = 0; at < kept; at += 65536)
				EXPECT(p[at] == i + 1, "block %u, byte %zu of %zu is %d", i, at, kept, p[at]);
			EXPECT(p[kept / 65536 * 65536 - 1] == i + 1, "block %u: its last byte", i);
		}
		for (size_t at = 0; at < n; at += 65536)
			p[at] = (unsigned char)(i + 1);
		for (size_t at = 65535; at < n; at += 65536)
			p[at] = (unsigned char)(i + 1);
		block[i].p = p;
		block[i].n = n;
	}
	for (unsigned i = 0; i < 24; i++)
		lib.free(block[i].p);
}
END_TEST

START_TEST(realloc_of_a_shrunk_block_gives_memory_back)
{
	for (size_t i = 0; i < border_count; i++) {
		if (borders[i] < 1024)
			continue;
		void *p = lib.realloc(lib.malloc(borders[i]), borders[i] / 4);
		EXPECT(p && lib.malloc_usable_size(p) <= borders[i] / 2 + 65536, "%zu to %zu bytes holds %zu", borders[i],
		       borders[i] / 4, lib.malloc_usable_size(p));
		lib.free(p);
	}
}
END_TEST

/* glibc's and C17's way: the block is freed and NULL returned, which is no error. */
START_TEST(realloc_to_nothing_frees)
{
	struct mallinfo2 before = lib.mallinfo2();
	for (int i = 0; i < 1000; i++) {
		errno = E2BIG;
		EXPECT(!lib.realloc(lib.malloc(100000), 0) && errno == E2BIG, "errno %d", errno);
		EXPECT(!lib.reallocarray(lib.malloc(100000), 0, 8), "reallocarray");
	}
	ck_assert_uint_eq(lib.mallinfo2().uordblks, before.uordblks);
}
END_TEST

START_TEST(realloc_of_an_aligned_block_keeps_contents_not_alignment)
{
	for (size_t align = 32; align <= 4 * MIB; align *= 2)
		for (size_t n = 100; n <= 10 * MIB; n *= 10) {
			char *p = lib.aligned_alloc(align, n);
			write_pattern(p, n, 0);
			p = lib.realloc(p, n * 3);
			EXPECT(p && has_pattern(p, n, n), "%zu aligned to %zu", n, align);
			lib.free(p);
		}
}
END_TEST

START_TEST(a_failed_request_is_enomem_and_keeps_the_block)
{
	const size_t huge[] = { (size_t)PTRDIFF_MAX, (size_t)PTRDIFF_MAX + 1, SIZE_MAX, SIZE_MAX - 100 };
	char *p = lib.malloc(5000);
	write_pattern(p, 5000, 0);
	for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
		errno = 0;
		EXPECT(!lib.malloc(huge[i]) && errno == ENOMEM, "malloc(%zu)", huge[i]);
		errno = 0;
		EXPECT(!lib.realloc(p, huge[i]) && errno == ENOMEM, "realloc(%zu)", huge[i]);
		errno = 0;
		EXPECT(!lib.calloc(huge[i], 2) && errno == ENOMEM, "calloc(%zu)", huge[i]);
		errno = 0;
		EXPECT(!lib.reallocarray(p, huge[i], 2) && errno == ENOMEM, "reallocarray(%zu)", huge[i]);
		errno = 0;
		EXPECT(!lib.aligned_alloc(64, huge[i]) && errno == ENOMEM, "aligned_alloc(%zu)", huge[i]);
		errno = 0;
		EXPECT(!lib.pvalloc(huge[i]) && errno == ENOMEM, "pvalloc(%zu)", huge[i]);
	}
	ck_assert(has_pattern(p, 5000, 5000));
	lib.free(p);
}
END_TEST

/* As a program linked with jemalloc calls them: redis of Debian 13, for one. */
START_TEST(jemallocs_own_functions_serve_the_same_blocks)
{
	enum { ZERO = 0x40 };
	static const size_t sizes[] = { 1, 100, 5000, 70000, 300000, 3 * MIB };
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		for (int lg = 0; lg <= 21; lg += 3) {
			size_t n = sizes[i], align = (size_t)1 << lg;
			char *p = lib.mallocx(n, lg);
			EXPECT(p && ((uintptr_t)p & (align - 1)) == 0, "%zu bytes aligned to %zu: %p", n, align, (void *)p);
			EXPECT(lib.sallocx(p, 0) == lib.malloc_usable_size(p), "%zu bytes", n);
			EXPECT(lib.nallocx(n, lg) >= n && lib.nallocx(n, lg) <= lib.sallocx(p, 0), "%zu bytes aligned to %zu", n, align);
			EXPECT(lib.xallocx(p, 2 * n, 0, lg) == lib.sallocx(p, 0), "%zu bytes", n);
			memset(p, 0xa5, n);
			char *q = lib.rallocx(p, 2 * n, lg);
			EXPECT(q && ((uintptr_t)q & (align - 1)) == 0, "%zu bytes aligned to %zu: %p", 2 * n, align, (void *)q);
			for (size_t b = 0; b < n; b++)
				EXPECT(q[b] == (char)0xa5, "byte %zu of %zu after rallocx", b, n);
			if (i % 2)
				lib.dallocx(q, lg);
			else
				lib.sdallocx(q, 2 * n, lg);
			p = lib.mallocx(n, lg | ZERO);
			for (size_t b = 0; p && b < n; b++)
				EXPECT(p[b] == 0, "byte %zu of %zu is not zero", b, n);
			lib.free(p);
		}
	}
	size_t huge = (size_t)PTRDIFF_MAX;
	ck_assert_ptr_null(lib.mallocx(huge, 0));
	ck_assert_uint_eq(lib.nallocx(huge, 0), 0);
	ck_assert_ptr_null(lib.mallocx(1, 63));
}
END_TEST

START_TEST(usable_bytes_are_usable_and_realloc_keeps_them)
{
	for (size_t i = 0; i < border_count; i++) {
		if (borders[i] > 3 * MIB)
			continue;
		char *p = lib.malloc(borders[i]);
		size_t usable = lib.malloc_usable_size(p);
		write_pattern(p, usable, 0);
		p = lib.realloc(p, usable + 5000);
		EXPECT(has_pattern(p, usable, usable), "%zu bytes", borders[i]);
		lib.free(p);
	}
}
END_TEST

START_TEST(reallocarray_multiplies)
{
	char *p = lib.reallocarray(NULL, 100, 70);
	ck_assert_uint_ge(lib.malloc_usable_size(p), 7000);
	write_pattern(p, 7000, 0);
	p = lib.reallocarray(p, 1000, 70);
	ck_assert_uint_ge(lib.malloc_usable_size(p), 70000);
	ck_assert(has_pattern(p, 7000, 7000));
	lib.free(p);
}
END_TEST

/* The program had its malloc before the library was loaded. */
START_TEST(blocks_of_the_c_library_are_freed_and_resized_by_it)
{
	for (size_t n = 1; n < 3 * MIB; n = n * 5 + 3) {
		char *p = malloc(n), *q = malloc(n);
		EXPECT(lib.malloc_usable_size(p) == malloc_usable_size(p), "%zu bytes", n);
		lib.free(p);
		write_pattern(q, n, 0);
		errno = E2BIG;
		q = lib.realloc(q, 2 * n);
		EXPECT(q && errno == E2BIG && has_pattern(q, n, n), "%zu bytes: errno %d", n, errno);
		lib.free(q);
		lib.free(lib.reallocarray(malloc(n), 3, n));
	}
}
END_TEST

START_TEST(operators_new_and_delete_are_malloc_and_free)
{
	void *p = lib._Znwm(100), *q = lib._Znam(0);
	ck_assert(p && q && p != q);
	ck_assert_uint_ge(lib.malloc_usable_size(p), 100);
	lib._ZdlPvm(p, 100);
	lib._ZdaPv(q);
	/* mixed forms meet in one heap */
	lib.free(lib._Znwm(50));
	lib._ZdlPv(lib.malloc(50));
}
END_TEST

START_TEST(mallinfo_and_malloc_info_follow_what_is_live)
{
	char text[4096] = { 0 };
	struct mallinfo2 before = lib.mallinfo2();
	void *p = lib.malloc(10 * MIB);
	struct mallinfo2 after = lib.mallinfo2();
	struct mallinfo old = lib.mallinfo();
	/* hardened, a block of whole granules has one more for its record and guard page */
	ck_assert_uint_eq((after.uordblks - before.uordblks) & ~(size_t)HAK_GRANULE, 10 * MIB);
	ck_assert_uint_ge(after.arena, after.uordblks);
	ck_assert_int_eq(old.uordblks, (int)after.uordblks);
	/* an int cannot say 3 GiB: it says the most it can, not less than nothing */
	void *q = lib.malloc(3072 * MIB);
	if (q)
		ck_assert_int_eq(lib.mallinfo().uordblks, INT_MAX);
	lib.free(q);
	FILE *f = tmpfile();
	ck_assert_int_eq(lib.malloc_info(0, f), 0);
	errno = 0;
	ck_assert(lib.malloc_info(1, f) == -1 && errno == EINVAL);
	rewind(f);
	ck_assert_uint_gt(fread(text, 1, sizeof text - 1, f), 0);
	ck_assert(!strncmp(text, "<malloc version=", 16) && strstr(text, "</malloc>"));
	fclose(f);
	lib.free(p);
	ck_assert_uint_eq(lib.mallinfo2().uordblks, before.uordblks);
}
END_TEST

START_TEST(malloc_trim_says_whether_memory_went_back)
{
	void *p = lib.malloc(20 * MIB);
	memset(p, 1, 20 * MIB);
	lib.free(p);
	ck_assert_int_eq(lib.malloc_trim(0), 1);
	ck_assert_int_eq(lib.malloc_trim(0), 0);
	ck_assert_int_eq(lib.mallopt(M_MMAP_THRESHOLD, 1), 1);
}
END_TEST

/* ---- hakmem(3) ------------------------------------------------------------------------ */

/* Where this test's machine has memory: the node it runs on, and every kind. */
static int here(void)
{
	unsigned node = 0;
	suite_stay();
	getcpu(NULL, &node);
	return (int)node;
}

START_TEST(blocks_at_a_place_are_blocks_like_others)
{
	const int places[] = { here(), HAKMEM_NODE_LOCAL, HAKMEM_NODE_BANDWIDTH, HAKMEM_NODE_CAPACITY, HAKMEM_NODE_INTERLEAVED };
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		for (size_t b = 0; b < border_count; b += 7) {
			size_t n = borders[b], align = (size_t)1 << b % 22;
			errno = E2BIG;
			char *p = lib.hakmem_malloc_at(places[i], n), *q = lib.hakmem_memalign_at(places[i], align, n);
			EXPECT(p && q && errno == E2BIG, "%zu bytes at %d: errno %d", n, places[i], errno);
			EXPECT(((uintptr_t)p & 15) == 0 && ((uintptr_t)q & (align - 1)) == 0, "%zu bytes at %d, aligned to %zu",
			       n, places[i], align);
			p[0] = q[0] = p[n - 1] = q[n - 1] = 1;
			EXPECT(lib.malloc_usable_size(p) >= n && lib.hakmem_node_of(p) >= 0, "%zu bytes at %d", n, places[i]);
			write_pattern(p, n, 0);
			p = lib.realloc(p, n + 5000);
			EXPECT(p && has_pattern(p, n, n), "%zu bytes at %d: contents", n, places[i]);
			lib.free(p);
			lib.free(q);
		}
		void *nothing = lib.hakmem_malloc_at(places[i], 0), *other = lib.hakmem_malloc_at(places[i], 0);
		ck_assert(nothing && other && nothing != other);
		lib.free(nothing), lib.free(other);
		errno = E2BIG;
		ck_assert(lib.hakmem_thread_bind(places[i]) == 0 && errno == E2BIG);
		lib.free(lib.malloc(100000));
	}
	ck_assert_int_eq(lib.hakmem_thread_bind(HAKMEM_NODE_LOCAL), 0);
}
END_TEST

START_TEST(no_such_place_is_einval)
{
	const int places[] = { HAKMEM_NODE_INTERLEAVED - 1, INT_MIN, 1023, 1024, INT_MAX };
	const size_t aligns[] = { 0, 3, 48, SIZE_MAX };
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		errno = 0;
		EXPECT(!lib.hakmem_malloc_at(places[i], 10) && errno == EINVAL, "malloc at %d: errno %d", places[i], errno);
		errno = 0;
		EXPECT(!lib.hakmem_memalign_at(places[i], 64, 10) && errno == EINVAL, "memalign at %d: errno %d", places[i], errno);
		errno = 0;
		EXPECT(lib.hakmem_thread_bind(places[i]) == -1 && errno == EINVAL, "bind to %d: errno %d", places[i], errno);
	}
	for (size_t i = 0; i < sizeof aligns / sizeof *aligns; i++) {
		errno = 0;
		EXPECT(!lib.hakmem_memalign_at(here(), aligns[i], 10) && errno == EINVAL, "alignment %zu: errno %d", aligns[i], errno);
	}
}
END_TEST

START_TEST(a_place_that_has_not_so_much_is_enomem)
{
	const size_t huge[] = { (size_t)PTRDIFF_MAX, (size_t)PTRDIFF_MAX + 1, SIZE_MAX };
	const int places[] = { here(), HAKMEM_NODE_LOCAL, HAKMEM_NODE_INTERLEAVED };
	for (size_t i = 0; i < sizeof huge / sizeof *huge; i++)
		for (size_t k = 0; k < sizeof places / sizeof *places; k++) {
			errno = 0;
			EXPECT(!lib.hakmem_malloc_at(places[k], huge[i]) && errno == ENOMEM, "%zu bytes: errno %d", huge[i], errno);
			errno = 0;
			EXPECT(!lib.hakmem_memalign_at(places[k], 4096, huge[i]) && errno == ENOMEM, "%zu bytes: errno %d",
			       huge[i], errno);
		}
	errno = 0;
	ck_assert(!lib.hakmem_memalign_at(here(), (size_t)1 << 63, 10) && errno == ENOMEM);
}
END_TEST

START_TEST(node_of_tells_where_a_block_lies_and_why_not)
{
	static char data[16];
	char *p = lib.malloc(100), *huge = lib.malloc(200 * MIB), *theirs = malloc(100);
	const void *foreign[] = { NULL, data, &p, theirs };
	*p = 1;
	errno = E2BIG;
	ck_assert(lib.hakmem_node_of(p) == here() && errno == E2BIG);
	for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
		errno = 0;
		EXPECT(lib.hakmem_node_of(foreign[i]) == -1 && errno == EINVAL, "pointer %zu: errno %d", i, errno);
	}
	errno = 0;
	ck_assert(lib.hakmem_node_of(huge) == -1 && errno == ENODATA);
	*huge = 1;
	ck_assert_int_eq(lib.hakmem_node_of(huge), here());
	lib.free(p);
	lib.free(huge);
	free(theirs);
}
END_TEST

static void *free_there(void *p)
{
	lib.free(p);
	return NULL;
}

START_TEST(any_thread_may_free_what_lies_at_a_place)
{
	const size_t sizes[] = { 100, 20000, 700000, 3 * MIB, 70 * MIB };
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		pthread_t t;
		ck_assert(!pthread_create(&t, NULL, free_there, lib.hakmem_malloc_at(here(), sizes[i])));
		pthread_join(t, NULL);
	}
}
END_TEST

static void count_bytes(void *arg, const char *text, size_t bytes)
{
	(void)text;
	*(size_t *)arg += bytes;
}

START_TEST(statistics_and_profile_return_what_the_manual_says)
{
	struct hakmem_stats s = { .mapped = 77 };
	size_t bytes = 0;
	ck_assert_int_eq(lib.hakmem_stats_get(&s, 15), -1);
	ck_assert_int_eq(lib.hakmem_stats_get(&s, 0), -1);
	ck_assert_uint_eq(s.size, 0);
	ck_assert_int_eq(lib.hakmem_stats_get(&s, 16), 0);
	ck_assert_uint_eq(s.size, sizeof s);
	ck_assert_uint_eq(s.version, HAKMEM_STATS_VERSION);
	ck_assert_uint_eq(s.mapped, 77); /* no more than was asked for */
	ck_assert_int_eq(lib.hakmem_stats_get(&s, sizeof s), 0);
	ck_assert_uint_gt(s.mapped, 77);
	for (int format = HAKMEM_STATS_TABLE; format <= HAKMEM_STATS_JSON_QUICK; format++, bytes = 0) {
		ck_assert_int_eq(lib.hakmem_stats_write((enum hakmem_stats_format)format, count_bytes, &bytes), 0);
		ck_assert_uint_gt(bytes, 500);
	}
	ck_assert_int_eq(lib.hakmem_stats_write((enum hakmem_stats_format)(HAKMEM_STATS_JSON_QUICK + 1), count_bytes, &bytes), -1);
	ck_assert_int_eq(lib.hakmem_profile_write(count_bytes, &bytes), -1);
	ck_assert_uint_eq(bytes, 0);
	ck_assert_str_eq(lib.hakmem_version(), HAKMEM_VERSION);
}
END_TEST

START_TEST(trim_returns_the_bytes_and_idle_empties_the_caches)
{
	struct hakmem_stats before, after;
	void *p = lib.malloc(20 * MIB);
	memset(p, 1, 20 * MIB);
	lib.free(p);
	ck_assert_uint_ge(lib.hakmem_trim(), 20 * MIB);
	ck_assert_uint_eq(lib.hakmem_trim(), 0);
	for (int i = 0; i < 1000; i++)
		lib.free(lib.malloc(64 + (size_t)i));
	lib.hakmem_stats_get(&before, sizeof before);
	lib.hakmem_thread_idle();
	lib.hakmem_stats_get(&after, sizeof after);
	ck_assert_uint_eq(after.cached, 0);
	ck_assert_uint_ge(before.cached, after.cached);
}
END_TEST

int main(void)
{
	const struct suite_test tests[] = {
		CALM(malloc_gives_aligned_blocks_that_hold_what_was_asked),
		CALM(free_never_touches_errno),
		CALM(malloc_of_nothing_is_a_block_of_its_own),
		CALM(free_and_usable_size_take_null),
		CALM(every_class_keeps_every_alignment_up_to_4_mib),
		CALM(no_bytes_at_any_alignment_are_a_block),
		CALM(posix_memalign_returns_its_error_and_touches_nothing),
		CALM(bad_alignments_are_einval_and_memalign_rounds_them_up),
		CALM(valloc_and_pvalloc_align_to_pages_and_pvalloc_rounds_up),
		CALM(calloc_is_zero_after_the_same_memory_was_dirty),
		CALM(realloc_keeps_the_contents_from_any_tier_to_any_other),
		CALM(realloc_byte_by_byte_and_by_factors_keeps_everything),
		CALM(a_large_block_that_grows_by_steps_is_seldom_moved),
		CALM(runs_grow_and_shrink_in_place_and_keep_apart),
		CALM(realloc_of_a_shrunk_block_gives_memory_back),
		CALM(realloc_to_nothing_frees),
		CALM(realloc_of_an_aligned_block_keeps_contents_not_alignment),
		CALM(a_failed_request_is_enomem_and_keeps_the_block),
		CALM(usable_bytes_are_usable_and_realloc_keeps_them),
		CALM(jemallocs_own_functions_serve_the_same_blocks),
		CALM(reallocarray_multiplies),
		CALM(blocks_of_the_c_library_are_freed_and_resized_by_it),
		CALM(operators_new_and_delete_are_malloc_and_free),
		CALM(mallinfo_and_malloc_info_follow_what_is_live),
		CALM(malloc_trim_says_whether_memory_went_back),
		CALM(blocks_at_a_place_are_blocks_like_others),
		CALM(no_such_place_is_einval),
		CALM(a_place_that_has_not_so_much_is_enomem),
		CALM(node_of_tells_where_a_block_lies_and_why_not),
		CALM(any_thread_may_free_what_lies_at_a_place),
		CALM(statistics_and_profile_return_what_the_manual_says),
		CALM(trim_returns_the_bytes_and_idle_empties_the_caches),
	};
	if (!getenv("HAK_LIBRARY")) {
		fprintf(stderr, "SKIP: HAK_LIBRARY names no library\n");
		printf("0 passed, 0 failed, %zu skipped\n", sizeof tests / sizeof *tests);
		return 77;
	}
	setup();
	return suite_run("api", 60, tests, sizeof tests / sizeof *tests);
}
