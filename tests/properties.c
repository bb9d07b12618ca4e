/* SPDX-License-Identifier: MIT */
/*
 * What other allocators' and C libraries' tests ask of any malloc, in tests of our own: each
 * group's comment names those that ask. What they ask of one function at a time is in
 * test_api.c; here are the rest, under the C library's names in a program of its own.
 *
 *   properties NAME   one of them;   properties   their names
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define PAGE ((size_t)4096)
#define TOP_BIT (SIZE_MAX / 2 + 1)

/* C23; the C library has them not yet. */
void free_sized(void *p, size_t bytes) __attribute__((weak));
void free_aligned_sized(void *p, size_t align, size_t bytes) __attribute__((weak));

#define CHECK(cond, ...)                                                                            \
	do {                                                                                        \
		if (!(cond)) {                                                                      \
			fprintf(stderr, "line %d: %s (errno %d): ", __LINE__, #cond, errno);        \
			fprintf(stderr, __VA_ARGS__);                                               \
			fputc('\n', stderr);                                                        \
			_exit(1);                                                                   \
		}                                                                                   \
	} while (0)

/* Both ends and one byte of each page: their place and a number of the block's own. */
static size_t next_probe(size_t at, size_t bytes)
{
	if (bytes <= 256 || at < 64 || at + 64 >= bytes)
		return at + 1;
	size_t page = (at / PAGE + 1) * PAGE;
	return page + 64 < bytes ? page : bytes - 64;
}
static void mark(unsigned char *p, size_t bytes, unsigned number)
{
	for (size_t i = 0; i < bytes; i = next_probe(i, bytes))
		p[i] = (unsigned char)(i * 31 + (i >> 12) + number);
}
/* The marks of a block of `bytes`, as far as `kept`. */
static bool marked(const unsigned char *p, size_t bytes, unsigned number, size_t kept)
{
	for (size_t i = 0; i < bytes && i < kept; i = next_probe(i, bytes))
		if (p[i] != (unsigned char)(i * 31 + (i >> 12) + number))
			return false;
	return true;
}
static bool aligned(const void *p, size_t align)
{
	return ((uintptr_t)p & (align - 1)) == 0;
}

/* ---- requests that cannot be met --------------------------------------------------------
 * glibc's tst-malloc-too-large, jemalloc's overflow and aligned_alloc, mimalloc's test-api, the
 * reallocarray tests of the BSDs, scudo's wrappers_c_test: near SIZE_MAX and above PTRDIFF_MAX
 * nothing wraps around to a small block, at any alignment, and a small block freed just before
 * is not handed out for it. */

static void refused(size_t n)
{
	unsigned char *old = malloc(16);
	mark(old, 16, 7);
	free(malloc(16));
	errno = 0;
	CHECK(!malloc(n) && errno == ENOMEM, "%zu", n);
	errno = 0;
	CHECK(!realloc(old, n) && errno == ENOMEM, "%zu", n);
	for (size_t parts = 1; parts <= 8 && n % parts == 0; parts *= 2) {
		errno = 0;
		CHECK(!calloc(parts, n / parts) && errno == ENOMEM, "%zu of %zu", parts, n / parts);
		errno = 0;
		CHECK(!calloc(n / parts, parts) && errno == ENOMEM, "%zu of %zu", n / parts, parts);
		errno = 0;
		CHECK(!reallocarray(old, parts, n / parts) && errno == ENOMEM, "%zu of %zu", parts, n / parts);
		errno = 0;
		CHECK(!reallocarray(old, n / parts, parts) && errno == ENOMEM, "%zu of %zu", n / parts, parts);
	}
	for (size_t align = 1; align; align *= 2) {
		void *out = old;
		errno = 0;
		CHECK(!memalign(align, n) && errno == ENOMEM, "%zu at %zu", n, align);
		errno = 0;
		CHECK(!aligned_alloc(align, n) && errno == ENOMEM, "%zu at %zu", n, align);
		if (align >= sizeof(void *))
			CHECK(posix_memalign(&out, align, n) == ENOMEM && out == old, "%zu at %zu", n, align);
	}
	errno = 0;
	CHECK(!valloc(n) && errno == ENOMEM, "%zu", n);
	errno = 0;
	CHECK(!pvalloc(n) && errno == ENOMEM, "%zu", n);
	CHECK(marked(old, 16, 7, 16), "the old block, at %zu", n);
	free(old);
}

static void too_large(void)
{
	for (size_t i = 0; i < 600; i++) {
		size_t step = i < 300 ? i : (i - 299) * 61;
		refused(SIZE_MAX - step);
		refused((size_t)PTRDIFF_MAX + 1 + step);
	}
	for (size_t high = SIZE_MAX >> 50; high; high -= high > 64 ? 37 : 1) {
		refused(high << 50);
		refused(high << 50 | (((size_t)1 << 50) - 1));
	}
}

/* Alignments that no address space has (glibc, and mimalloc's aligned9). */
static void alignments_too_large(void)
{
	for (size_t align = (size_t)1 << 48; align; align *= 2)
		for (size_t n = 0; n <= MIB; n = n * 32 + 1) {
			void *out = &out;
			errno = 0;
			CHECK(!aligned_alloc(align, n) && errno == ENOMEM, "%zu at %zu", n, align);
			errno = 0;
			CHECK(!memalign(align, n) && errno == ENOMEM, "%zu at %zu", n, align);
			CHECK(posix_memalign(&out, align, n) == ENOMEM && out == (void *)&out, "%zu at %zu", n, align);
		}
	errno = 0;
	CHECK(!memalign(TOP_BIT + 1, 8) && errno == EINVAL, "no power of two is as large");
}

/* jemalloc, OpenBSD, musl, mimalloc's calloc-overflow: products whose low 64 bits are small. */
static void products_that_wrap(void)
{
	unsigned char *old = malloc(100);
	mark(old, 100, 3);
	for (unsigned a = 1; a < 64; a++)
		for (size_t more = 0; more < 3; more++) {
			size_t count = ((size_t)1 << a) + more, bytes = ((size_t)1 << (64 - a)) + more, product;
			if (!__builtin_mul_overflow(count, bytes, &product))
				continue;
			errno = 0;
			CHECK(!calloc(count, bytes) && errno == ENOMEM, "%zu of %zu", count, bytes);
			errno = 0;
			CHECK(!reallocarray(old, count, bytes) && errno == ENOMEM, "%zu of %zu", count, bytes);
			errno = 0;
			CHECK(!reallocarray(NULL, count, bytes) && errno == ENOMEM, "%zu of %zu", count, bytes);
		}
	CHECK(marked(old, 100, 3, 100), "the old block");
	free(old);
}

/* ---- nothing ------------------------------------------------------------------------------
 * musl's malloc-0, OpenBSD's malloc0test, mimalloc's *-zero, glibc: no bytes are a block that no
 * other is, however many there are, and that every function takes. */

static int by_address(const void *a, const void *b)
{
	const char *p = *(char *const *)a, *q = *(char *const *)b;
	return (p > q) - (p < q);
}

static void no_bytes(void)
{
	enum { MANY = 7000 };
	static char *p[MANY];
	void *out = NULL;
	for (int i = 0; i < MANY; i++) {
		switch (i % 7) {
		case 0: p[i] = malloc(0); break;
		case 1: p[i] = calloc(0, 1000); break;
		case 2: p[i] = calloc(SIZE_MAX, 0); break;
		case 3: p[i] = realloc(NULL, 0); break;
		case 4: p[i] = reallocarray(NULL, 0, SIZE_MAX); break;
		case 5: p[i] = memalign(64, 0); break;
		default: p[i] = posix_memalign(&out, 32, 0) ? NULL : out;
		}
		CHECK(p[i], "%d", i);
	}
	qsort(p, MANY, sizeof *p, by_address);
	for (int i = 1; i < MANY; i++)
		CHECK(p[i] != p[i - 1], "%p twice", (void *)p[i]);
	for (int i = 0; i < MANY; i++)
		free(i % 2 ? realloc(p[i], 100) : p[i]);
}

/* ---- realloc ----------------------------------------------------------------------------- */

/* glibc's tst-realloc, NetBSD, jemalloc's rallocx, mimalloc's umalloc: from every power of two,
 * one less and one more, to every other. */
static void realloc_at_powers(void)
{
	size_t sizes[80], count = 0;
	for (size_t n = 2; n <= 8 * MIB; n *= 2)
		for (size_t i = 0; i < 3; i++)
			sizes[count++] = n - 1 + i;
	for (size_t a = 0; a < count; a++)
		for (size_t b = 0; b < count; b++) {
			size_t from = sizes[a], to = sizes[b];
			unsigned char *p = malloc(from);
			CHECK(p, "%zu", from);
			mark(p, from, 5);
			p = realloc(p, to);
			CHECK(p && marked(p, from, 5, to), "%zu to %zu", from, to);
			mark(p, to, 6);
			p = realloc(p, from);
			CHECK(p && marked(p, to, 6, from), "%zu to %zu and back", from, to);
			free(p);
		}
}

/* mimalloc's realloc-guarded, LTP's mallocstress: one block that grows and shrinks at random,
 * while others lie around it. */
static void realloc_at_random(void)
{
	enum { BLOCKS = 64 };
	static struct { unsigned char *p; size_t n; } b[BLOCKS];
	unsigned short seed[3] = { 1, 2, 3 };
	for (int i = 0; i < 20000; i++) {
		unsigned k = (unsigned)nrand48(seed) % BLOCKS;
		size_t n = (size_t)nrand48(seed) % ((size_t)16 << nrand48(seed) % 16);
		unsigned char *p = realloc(b[k].p, n);
		CHECK(n ? p != NULL : b[k].p == NULL || p == NULL, "%zu to %zu", b[k].n, n);
		CHECK(!b[k].p || !p || marked(p, b[k].n, k, n), "%zu to %zu", b[k].n, n);
		b[k].p = p;
		b[k].n = p ? n : 0;
		mark(p, b[k].n, k);
	}
	for (unsigned k = 0; k < BLOCKS; k++) {
		CHECK(marked(b[k].p, b[k].n, k, b[k].n), "block %u", k);
		free(b[k].p);
	}
}

/* ---- places and contents -------------------------------------------------------------------- */

/* glibc's tst-mallocalign1 and tst-malloc-usable, scudo's combined_test, jemalloc: at every small
 * size the alignment is max_align_t's, what is usable may be written, and no two blocks meet. */
static void every_small_size(void)
{
	enum { SIZES = 5000 };
	static char *p[SIZES], *sorted[SIZES];
	static size_t usable[SIZES];
	for (size_t n = 0; n < SIZES; n++) {
		p[n] = sorted[n] = n % 3 ? malloc(n) : calloc(n, 1);
		CHECK(p[n] && aligned(p[n], _Alignof(max_align_t)), "%zu: %p", n, (void *)p[n]);
		usable[n] = malloc_usable_size(p[n]);
		CHECK(usable[n] >= n, "%zu", n);
		memset(p[n], (int)(n % 251), usable[n]);
	}
	for (size_t n = 0; n < SIZES; n++)
		for (size_t i = 0; i < usable[n]; i++)
			CHECK(p[n][i] == (char)(n % 251), "%zu bytes: byte %zu", n, i);
	qsort(sorted, SIZES, sizeof *sorted, by_address);
	for (size_t i = 1; i < SIZES; i++)
		CHECK(sorted[i - 1] + malloc_usable_size(sorted[i - 1]) <= sorted[i], "%p and %p", (void *)sorted[i - 1], (void *)sorted[i]);
	for (size_t n = 0; n < SIZES; n += 2)
		free(p[n]);
	for (size_t n = 1; n < SIZES; n += 2)
		free(p[n]);
}

/* glibc's tst-calloc, musl, scudo, mimalloc's zalloc: zero where other blocks have just been. */
static void calloc_after_others(void)
{
	for (size_t n = 1; n <= 4 * MIB; n = n < 2200 ? n + 1 : n + n / 7) {
		enum { AT_ONCE = 3 };
		unsigned char *p[AT_ONCE];
		for (int i = 0; i < AT_ONCE; i++) {
			p[i] = malloc(n);
			CHECK(p[i], "%zu", n);
			memset(p[i], 0xff, malloc_usable_size(p[i]));
		}
		for (int i = 0; i < AT_ONCE; i++)
			free(p[i]);
		for (int i = 0; i < AT_ONCE; i++) {
			p[i] = calloc(i ? n : 1, i ? 1 : n);
			CHECK(p[i] && p[i][0] == 0 && memcmp(p[i], p[i] + 1, n - 1) == 0, "%zu", n);
		}
		for (int i = 0; i < AT_ONCE; i++)
			free(p[i]);
	}
}

/* ---- alignment --------------------------------------------------------------------------- */

/* NetBSD's t_posix_memalign, glibc's tst-memalign, tst-posix_memalign and tst-aligned-alloc,
 * valgrind's memalign2, the Open POSIX tests: which alignments are wrong, and what then. */
static void which_alignments(void)
{
	for (size_t align = 0; align < 1100; align++) {
		bool power = align && (align & (align - 1)) == 0;
		void *out = &out;
		int err = posix_memalign(&out, align, 100);
		CHECK(err == (power && align >= sizeof(void *) ? 0 : EINVAL), "%zu: %d", align, err);
		CHECK(err ? out == (void *)&out : aligned(out, align), "%zu", align);
		if (!err)
			free(out);
		errno = 0;
		void *p = aligned_alloc(align, align * 3);
		CHECK(power ? p && aligned(p, align) : !p && errno == EINVAL, "%zu", align);
		free(p);
		size_t up = 16;
		while (up < align)
			up *= 2;
		p = memalign(align, 100);
		CHECK(p && aligned(p, up), "%zu: %p", align, p);
		free(p);
	}
}

/* mimalloc's aligned9, jemalloc's aligned_alloc and posix_memalign, glibc's
 * tst-aligned-alloc-random: all alignments to 1 GiB, several alive at once. */
static void alignments_to_a_gib(void)
{
	const size_t sizes[] = { 0, 8, 100, 512, 5000, MIB, 3 * MIB };
	enum { SIZES = sizeof sizes / sizeof *sizes };
	for (size_t align = 8; align <= 1024 * MIB; align *= 2) {
		unsigned char *p[SIZES];
		for (unsigned i = 0; i < SIZES; i++) {
			p[i] = memalign(align, sizes[i]);
			CHECK(p[i] && aligned(p[i], align), "%zu at %zu: %p", sizes[i], align, (void *)p[i]);
			mark(p[i], sizes[i], i);
		}
		for (unsigned i = 0; i < SIZES; i++) {
			CHECK(marked(p[i], sizes[i], i, sizes[i]), "%zu at %zu", sizes[i], align);
			p[i] = realloc(p[i], sizes[i] + 1000);
			CHECK(p[i] && marked(p[i], sizes[i], i, sizes[i]), "%zu at %zu, resized", sizes[i], align);
			free(p[i]);
		}
	}
}

/* glibc's tst-memalign-2 and -3, OpenBSD's: aligned blocks that come and go leave nothing behind. */
static void aligned_blocks_leave_nothing(void)
{
	size_t first = 0, last = 0;
	for (int round = 0; round < 40; round++) {
		for (size_t align = 32; align <= 64 * 1024; align *= 2)
			for (size_t n = 10; n < 100000; n = n * 7 + 3) {
				void *p[20];
				for (int i = 0; i < 20; i++)
					p[i] = memalign(align, n);
				for (int i = 0; i < 20; i++)
					free(p[i]);
			}
		last = mallinfo2().arena;
		if (round == 4)
			first = last;
	}
	CHECK(last <= first + 4 * MIB, "%zu mapped, then %zu", first, last);
}

/* glibc's tst-valloc and tst-pvalloc. */
static void pages(void)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE), sizes[] = { 0, 1, page - 1, page, page + 1, 10 * page - 1, MIB + 1 };
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		unsigned char *p = valloc(sizes[i]), *q = pvalloc(sizes[i]);
		size_t up = (sizes[i] + page - 1) / page * page;
		CHECK(p && q && aligned(p, page) && aligned(q, page), "%zu", sizes[i]);
		memset(p, 1, sizes[i]);
		memset(q, 2, up);
		CHECK(malloc_usable_size(q) >= up && (!sizes[i] || p[sizes[i] - 1] == 1), "%zu", sizes[i]);
		free(p);
		free(q);
	}
}

/* ---- C23 ----------------------------------------------------------------------------------
 * glibc's tst-free-sized and tst-free-aligned-sized, jemalloc's free_sized and sdallocx. */
static void sized_free(void)
{
	CHECK(free_sized && free_aligned_sized, "not there");
	free_sized(NULL, 0);
	free_sized(NULL, SIZE_MAX);
	free_aligned_sized(NULL, 64, 64);
	for (size_t n = 0; n <= 4 * MIB; n = n < 300 ? n + 1 : n * 2 - 17) {
		errno = EDOM;
		free_sized(malloc(n), n);
		free_sized(calloc(1, n), n);
		free_sized(realloc(malloc(1), n ? n : 1), n ? n : 1);
		for (size_t align = 16; align <= 8192; align *= 2)
			free_aligned_sized(aligned_alloc(align, n), align, n);
		CHECK(errno == EDOM, "%zu bytes", n);
	}
}

/* ---- what it says of itself -------------------------------------------------------------------
 * glibc's tst-mallinfo2, tst-malloc_info, tst-mallopt and tst-trim, LTP's mallinfo and mallopt
 * tests, scudo's wrappers_c_test. */
static void figures(void)
{
	enum { BLOCKS = 2000, BYTES = 3000 };
	static void *p[BLOCKS];
	struct mallinfo2 before = mallinfo2();
	for (int i = 0; i < BLOCKS; i++)
		p[i] = malloc(BYTES);
	struct mallinfo2 full = mallinfo2();
	CHECK(full.uordblks - before.uordblks >= (size_t)BLOCKS * BYTES, "%zu, then %zu", before.uordblks, full.uordblks);
	CHECK(full.arena >= full.uordblks, "%zu mapped, %zu live", full.arena, full.uordblks);
	for (int i = 0; i < BLOCKS; i++)
		free(p[i]);
	struct mallinfo2 after = mallinfo2();
	CHECK(after.uordblks <= full.uordblks - (size_t)BLOCKS * BYTES, "%zu, then %zu", full.uordblks, after.uordblks);
	CHECK(after.fordblks > full.fordblks, "%zu free, then %zu", full.fordblks, after.fordblks);

	const int params[] = { M_MXFAST, M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_CHECK_ACTION,
			       M_PERTURB, M_ARENA_TEST, M_ARENA_MAX };
	for (size_t i = 0; i < sizeof params / sizeof *params; i++)
		CHECK(mallopt(params[i], 1) == 1, "%d", params[i]);
	int trimmed = malloc_trim(SIZE_MAX / 2);
	CHECK(trimmed == 0 || trimmed == 1, "%d", trimmed);

	char *text = NULL;
	size_t length = 0;
	FILE *f = open_memstream(&text, &length); /* which allocates while it is written to */
	CHECK(malloc_info(0, f) == 0, "malloc_info");
	fclose(f);
	CHECK(strncmp(text, "<malloc version=\"", 17) == 0 && strcmp(text + length - 10, "</malloc>\n") == 0, "%s", text);
	free(text);
	CHECK(malloc_info(1, stderr) != 0, "an option that is none");
}

/* mimalloc's realpath, scudo, LTP: what the C library allocates is ours to free and resize. */
static void blocks_from_the_c_library(void)
{
	char *s = strdup("x"), *line = NULL, *r = realpath("/", NULL), *d = getcwd(NULL, 0), *printed = NULL;
	size_t room = 0;
	FILE *f = fmemopen((void *)(uintptr_t) "a line\n", 7, "r");
	CHECK(f && getline(&line, &room, f) == 7 && room <= malloc_usable_size(line), "getline");
	fclose(f);
	CHECK(asprintf(&printed, "%5000d", 1) == 5000, "asprintf");
	s = realloc(s, 10000);
	CHECK(s && r && d && s[0] == 'x' && !s[1], "strdup");
	free(s), free(line), free(r), free(d), free(printed);
}

/* ---- threads, exit, fork and signals ------------------------------------------------------- */

static pthread_key_t key;
static atomic_int destroyed;

static void destroy(void *value)
{
	uintptr_t *rounds = value, left = *rounds - 1;
	free(rounds);
	for (size_t n = 1; n < 3 * MIB; n = n * 5 + 1)
		free(realloc(malloc(n), 2 * n));
	if (left) { /* pthread_exit calls again, and again */
		rounds = malloc(sizeof *rounds);
		*rounds = left;
		pthread_setspecific(key, rounds);
	}
	destroyed++;
}

struct left { unsigned char *p[64]; };

static size_t left_bytes(unsigned i)
{
	return (size_t)(i % 8 == 7 ? 50000 : 40) * (i + 1);
}

static void *leave_blocks(void *arg)
{
	struct left *l = arg;
	uintptr_t *rounds = malloc(sizeof *rounds);
	*rounds = 3;
	pthread_setspecific(key, rounds);
	for (unsigned i = 0; i < 64; i++)
		mark(l->p[i] = malloc(left_bytes(i)), left_bytes(i), i);
	return NULL;
}

static void *only_free(void *arg)
{
	struct left *l = arg;
	for (unsigned i = 0; i < 64; i += 2)
		free(l->p[i]);
	return NULL;
}

/* glibc's tst-malloc-thread-exit and tst-malloc-tcache-leak, mimalloc's test-pthread-exit and
 * test-realloc-thread, jemalloc's tsd: blocks outlive their thread, others resize and free them,
 * and destructors of thread-specific data allocate. */
static void threads_end_with_blocks(void)
{
	pthread_key_create(&key, destroy);
	size_t first = 0;
	for (int i = 0; i < 400; i++) {
		struct left l;
		pthread_t t;
		CHECK(pthread_create(&t, NULL, leave_blocks, &l) == 0, "no thread");
		pthread_join(t, NULL);
		for (unsigned k = 0; k < 64; k++)
			CHECK(marked(l.p[k], left_bytes(k), k, left_bytes(k)), "block %u", k);
		CHECK(pthread_create(&t, NULL, only_free, &l) == 0, "no thread");
		pthread_join(t, NULL);
		for (unsigned k = 1; k < 64; k += 2) {
			l.p[k] = realloc(l.p[k], left_bytes(k) + 3000);
			CHECK(marked(l.p[k], left_bytes(k), k, left_bytes(k)), "block %u, resized", k);
			free(l.p[k]);
		}
		if (i == 50)
			first = mallinfo2().arena;
	}
	CHECK(destroyed == 3 * 400, "%d destructors", destroyed);
	/* memory may be mapped in one more step, in which hakmem's grow; 64 KiB a round would be more */
	CHECK(mallinfo2().arena <= first + 20 * MIB, "%zu mapped, then %zu", first, mallinfo2().arena);
}

static unsigned char *from_before;
static int handlers;

static void allocate(void)
{
	for (size_t n = 1; n < 3 * MIB; n = n * 3 + 1) {
		unsigned char *p = malloc(n), *q = calloc(1, n);
		CHECK(p && q && q[n - 1] == 0, "%zu", n);
		p = realloc(p, n + 100);
		free(q);
		free(p);
	}
	handlers++;
}

static void at_the_end(void)
{
	allocate();
	CHECK(marked(from_before, 5000, 9, 5000), "from main");
	free(from_before);
	puts("exit handlers ran"); /* before stdio's own */
}

/* scudo, jemalloc, mimalloc: handlers of exit allocate and free what main left. */
static void exit_handlers(void)
{
	mark(from_before = malloc(5000), 5000, 9);
	CHECK(atexit(at_the_end) == 0, "atexit");
}

static atomic_bool stop;

static void *churn(void *arg)
{
	void *p[50] = { NULL };
	for (unsigned i = 0; !stop; i++) {
		free(p[i % 50]);
		p[i % 50] = malloc((size_t)i * 37 % (i % 64 ? 3000 : 300000));
	}
	for (int i = 0; i < 50; i++)
		free(p[i]);
	return arg;
}

static void ended_well(pid_t pid)
{
	int status;
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid, "no child");
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x", (unsigned)status);
}

/* glibc's tst-malloc-fork-deadlock and tst-mallocfork3, jemalloc's fork, scudo's fork tests:
 * other threads allocate while one forks; handlers on both sides allocate, and the child goes on
 * with stdio, with blocks from before and with threads of its own. */
static void fork_beside_threads(void)
{
	pthread_t t[3], of_child;
	pthread_atfork(allocate, allocate, allocate);
	for (int i = 0; i < 3; i++)
		CHECK(pthread_create(&t[i], NULL, churn, NULL) == 0, "no thread");
	mark(from_before = malloc(5000), 5000, 9);
	for (int i = 0; i < 30; i++) {
		FILE *f = tmpfile();
		pid_t pid = fork();
		if (pid == 0) {
			alarm(60);
			CHECK(handlers == 2 * i + 2, "%d handlers", handlers);
			CHECK(marked(from_before, 5000, 9, 5000), "from before");
			free(from_before);
			fclose(f);
			allocate();
			stop = true;
			CHECK(pthread_create(&of_child, NULL, churn, NULL) == 0, "no thread");
			pthread_join(of_child, NULL);
			_exit(0);
		}
		fclose(f);
		ended_well(pid);
	}
	stop = true;
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	free(from_before);
}

/* glibc's: weak, for C libraries without it. */
pid_t _Fork(void) __attribute__((weak));

static volatile sig_atomic_t forks_in_handler;

static void on_alarm(int signal)
{
	int err = errno, status;
	pid_t pid = _Fork();
	(void)signal;
	if (pid == 0)
		_exit(0);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		_exit(2);
	forks_in_handler++;
	errno = err;
}

/* glibc's tst-mallocfork3: a handler that interrupts malloc and free forks, by _Fork, as POSIX has it since 2024. */
static void fork_in_a_handler(void)
{
	const struct itimerval each_ms = { { 0, 1000 }, { 0, 1000 } }, never = { { 0, 0 }, { 0, 0 } };
	static struct { unsigned char *p; size_t bytes; } live[200];
	if (!_Fork) {
		puts("skipped: no _Fork");
		return;
	}
	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &each_ms, NULL);
	for (unsigned i = 0; forks_in_handler < 200; i++) {
		unsigned at = i % 200;
		CHECK(!live[at].p || marked(live[at].p, live[at].bytes, at, SIZE_MAX), "block %u", i);
		free(live[at].p);
		live[at].bytes = (size_t)i * 53 % (i % 16 ? 4000 : 400000);
		CHECK((live[at].p = malloc(live[at].bytes)), "%u", i);
		mark(live[at].p, live[at].bytes, at);
	}
	setitimer(ITIMER_REAL, &never, NULL);
	for (unsigned i = 0; i < 200; i++)
		free(live[i].p);
}

/* ---- one of them ----------------------------------------------------------------------------- */

static const struct {
	const char *name;
	void (*run)(void);
} properties[] = {
#define PROPERTY(name) { #name, name }
	PROPERTY(too_large),
	PROPERTY(alignments_too_large),
	PROPERTY(products_that_wrap),
	PROPERTY(no_bytes),
	PROPERTY(realloc_at_powers),
	PROPERTY(realloc_at_random),
	PROPERTY(every_small_size),
	PROPERTY(calloc_after_others),
	PROPERTY(which_alignments),
	PROPERTY(alignments_to_a_gib),
	PROPERTY(aligned_blocks_leave_nothing),
	PROPERTY(pages),
	PROPERTY(sized_free),
	PROPERTY(figures),
	PROPERTY(blocks_from_the_c_library),
	PROPERTY(threads_end_with_blocks),
	PROPERTY(exit_handlers),
	PROPERTY(fork_beside_threads),
	PROPERTY(fork_in_a_handler),
};

int main(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof properties / sizeof *properties; i++) {
		if (argc < 2)
			puts(properties[i].name);
		else if (!strcmp(argv[1], properties[i].name))
			return properties[i].run(), 0;
	}
	return argc < 2 ? 0 : 2;
}
