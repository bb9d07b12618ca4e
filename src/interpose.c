/* SPDX-License-Identifier: MIT */
/*
 * The malloc family under libc's names: argument checks and errno, nothing else. The
 * only file with these names.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fast.h"
#include "foreign.h"
#include "front.h"
#include "hakmem/hakmem.h"
#include "heap.h"
#include "init.h"
#include "options.h"
#include "reclaim.h"
#include "record.h"
#include "stats.h"

/* C23; not yet in the C library's headers. */
void free_sized(void *p, size_t bytes);
void free_aligned_sized(void *p, size_t align, size_t bytes);

static inline void *checked(void *p)
{
	if (hak_unlikely(!p))
		errno = ENOMEM;
	return p;
}

static HAK_COLD void *malloc_slow(size_t bytes)
{
	return checked(hak_malloc_slow(bytes));
}

HAK_EXPORT void *malloc(size_t bytes)
{
	void *p = hak_malloc_fast(bytes);
	return hak_likely(p) ? p : malloc_slow(bytes);
}

HAK_EXPORT void free(void *p)
{
	hak_free_fast(p);
}

HAK_EXPORT void *calloc(size_t count, size_t bytes)
{
	return checked(hak_calloc(count, bytes));
}

/*
 * realloc(p, 0) frees and returns NULL, as glibc does. Exported functions never call each
 * other: after dlopen those names are the C library's.
 */
static void *resize(void *p, size_t bytes)
{
	if (p && bytes == 0) {
		hak_free(p);
		return NULL;
	}
	return checked(hak_realloc(p, bytes));
}

HAK_EXPORT void *realloc(void *p, size_t bytes)
{
	return resize(p, bytes);
}

HAK_EXPORT void *reallocarray(void *p, size_t count, size_t bytes)
{
	size_t total;
	if (__builtin_mul_overflow(count, bytes, &total)) {
		errno = ENOMEM;
		return NULL;
	}
	return resize(p, total);
}

HAK_EXPORT void *aligned_alloc(size_t align, size_t bytes)
{
	if (!hak_is_pow2(align)) {
		errno = EINVAL;
		return NULL;
	}
	return checked(hak_memalign(align, bytes));
}

/* The historical function takes any alignment; glibc rounds it up to a power of two. */
HAK_EXPORT void *memalign(size_t align, size_t bytes)
{
	if (align > SIZE_MAX / 2 + 1) { /* the largest power of two */
		errno = EINVAL;
		return NULL;
	}
	size_t pow2 = HAK_MIN_ALIGN;
	while (pow2 < align)
		pow2 *= 2;
	return checked(hak_memalign(pow2, bytes));
}

HAK_EXPORT int posix_memalign(void **out, size_t align, size_t bytes)
{
	if (!hak_is_pow2(align) || align % sizeof(void *))
		return EINVAL;
	void *p = hak_memalign(align, bytes);
	if (!p)
		return ENOMEM;
	*out = p;
	return 0;
}

HAK_EXPORT void *valloc(size_t bytes)
{
	return checked(hak_memalign((size_t)sysconf(_SC_PAGESIZE), bytes));
}

HAK_EXPORT void *pvalloc(size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	if (bytes > HAK_MAX_REQUEST) {
		errno = ENOMEM;
		return NULL;
	}
	return checked(hak_memalign(page, hak_align_up(bytes ? bytes : 1, page)));
}

HAK_EXPORT size_t malloc_usable_size(void *p)
{
	size_t n = hak_usable_size(p);
	return n || !p ? n : hak_foreign_usable_size(p);
}

/* The size is the caller's promise; the tag knows it better. */
HAK_EXPORT void free_sized(void *p, size_t bytes)
{
	(void)bytes;
	hak_free(p);
}

HAK_EXPORT void free_aligned_sized(void *p, size_t align, size_t bytes)
{
	(void)align;
	(void)bytes;
	hak_free(p);
}

static size_t trim(void)
{
	hak_fork_check();
	if (hak_heap_self != &hak_heap_none)
		hak_heap_empty(hak_heap_self);
	return hak_reclaim_all();
}

HAK_EXPORT int malloc_trim(size_t pad)
{
	(void)pad;
	return trim() != 0;
}

/* None of glibc's parameters has a counterpart here; accepting them keeps programs going. */
HAK_EXPORT int mallopt(int param, int value)
{
	(void)param;
	(void)value;
	return 1;
}

static struct mallinfo2 info(void)
{
	struct mallinfo2 m;
	struct hakmem_stats s;
	memset(&m, 0, sizeof m);
	hak_stats_snapshot(&s);
	m.arena = s.mapped;
	m.uordblks = s.live;
	m.fordblks = s.mapped - s.live - s.metadata;
	m.fsmblks = s.cached;
	return m;
}

HAK_EXPORT struct mallinfo2 mallinfo2(void)
{
	return info();
}

static int clamp(size_t n)
{
	return n > INT_MAX ? INT_MAX : (int)n;
}

/* Its fields are ints: what does not fit reads INT_MAX, not a negative number. */
HAK_EXPORT struct mallinfo mallinfo(void)
{
	struct mallinfo2 n = info();
	struct mallinfo m;
	memset(&m, 0, sizeof m);
	m.arena = clamp(n.arena);
	m.uordblks = clamp(n.uordblks);
	m.fordblks = clamp(n.fordblks);
	m.fsmblks = clamp(n.fsmblks);
	return m;
}

HAK_EXPORT int malloc_info(int options, FILE *out)
{
	struct hakmem_stats s;
	if (options != 0) {
		errno = EINVAL;
		return -1;
	}
	hak_stats_snapshot(&s);
	return fprintf(out,
		       "<malloc version=\"hakmem-1\">\n"
		       "<total type=\"live\" size=\"%zu\"/>\n<total type=\"cached\" size=\"%zu\"/>\n"
		       "<system type=\"current\" size=\"%zu\"/>\n</malloc>\n",
		       (size_t)s.live, (size_t)s.cached, (size_t)s.mapped) < 0 ? -1 : 0;
}

HAK_EXPORT void malloc_stats(void)
{
	int fd = STDERR_FILENO;
	hak_stats_table(hak_stats_to_fd, &fd);
}

/*
 * A library opened with RTLD_DEEPBIND takes malloc and free from the C library, but gets
 * strdup's and getline's blocks from us, and frees them there: glibc aborts. PHP opens
 * its extensions so. Hence the flag is dropped, as the sanitizers' users must do by hand.
 * The call is a tail call: the dynamic linker looks at the return address to find whose
 * RPATH counts.
 */
HAK_EXPORT void *dlopen(const char *file, int mode)
{
	static void *(*_Atomic next)(const char *, int);
	/* relaxed: every thread finds the same */
	void *(*open)(const char *, int) = atomic_load_explicit(&next, memory_order_relaxed);
	if (!open) {
		open = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
		atomic_store_explicit(&next, open, memory_order_relaxed);
	}
	return open(file, hak_option_get(HAK_OPT_deepbind) ? mode : mode & ~RTLD_DEEPBIND);
}

HAK_EXPORT const char *hakmem_version(void)
{
	return HAKMEM_VERSION;
}

HAK_EXPORT size_t hakmem_trim(void)
{
	return trim();
}

HAK_EXPORT void hakmem_thread_idle(void)
{
	hak_fork_check();
	if (hak_heap_self != &hak_heap_none)
		hak_heap_empty(hak_heap_self);
}

/* ---- places ---------------------------------------------------------------------- */

HAK_EXPORT void *hakmem_memalign_at(int place, size_t align, size_t bytes)
{
	int node = hak_is_pow2(align) ? hak_node_place(place) : -1;
	void *p = node < 0 ? NULL : hak_memalign_at((unsigned)node, align, bytes);
	if (!p)
		errno = node < 0 ? EINVAL : ENOMEM;
	return p;
}

HAK_EXPORT void *hakmem_malloc_at(int place, size_t bytes)
{
	return hakmem_memalign_at(place, HAK_MIN_ALIGN, bytes);
}

HAK_EXPORT int hakmem_thread_bind(int place)
{
	int node = place == HAKMEM_NODE_LOCAL ? -1 : hak_node_place(place);
	if (node < 0 && place != HAKMEM_NODE_LOCAL) {
		errno = EINVAL;
		return -1;
	}
	hak_node_pin(node);
	hak_thread_settle();
	return 0;
}

HAK_EXPORT int hakmem_node_of(const void *block)
{
	int node = hak_block_node(block);
	if (node < 0)
		errno = node == -2 ? EINVAL : ENODATA;
	return node < 0 ? -1 : node;
}

HAK_EXPORT int hakmem_stats_get(struct hakmem_stats *stats, size_t size)
{
	struct hakmem_stats s;
	if (size < 2 * sizeof(uint64_t))
		return -1;
	hak_stats_snapshot(&s);
	memcpy(stats, &s, hak_min(size, sizeof s));
	return 0;
}

HAK_EXPORT int hakmem_stats_write(enum hakmem_stats_format format, hakmem_write_fn *write, void *arg)
{
	switch (format) {
	case HAKMEM_STATS_TABLE:
		hak_stats_table(write, arg);
		return 0;
	case HAKMEM_STATS_JSON:
	case HAKMEM_STATS_JSON_QUICK:
		hak_stats_json(write, arg, format == HAKMEM_STATS_JSON);
		return 0;
	}
	return -1;
}

HAK_EXPORT int hakmem_profile_write(hakmem_write_fn *write, void *arg)
{
	if (!hak_profile_text)
		return -1;
	hak_profile_text(write, arg);
	return 0;
}
