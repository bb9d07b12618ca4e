/* SPDX-License-Identifier: MIT */
/* Telling the C library's blocks from bad pointers. */
#include "foreign.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <string.h>

#include "counters.h"
#include "die.h"
#include "front.h"
#include "numa/huge.h"
#include "sys/sys.h"

/* glibc's own names for them, which no preload replaces. */
extern void __libc_free(void *p) __attribute__((weak));

/* the last anonymous mapping found to be the C library's; both or neither are fresh
 * enough: a stale pair only costs a look */
static _Atomic uintptr_t known_from, known_to;

struct mapping {
	uintptr_t at; /* the address looked for */
	uintptr_t from, to;
	bool file, stack, writable;
};

static uintptr_t hex(const char **s)
{
	uintptr_t v = 0;
	for (;; (*s)++) {
		char c = **s;
		if (c >= '0' && c <= '9')
			v = v << 4 | (uintptr_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			v = v << 4 | (uintptr_t)(c - 'a' + 10);
		else
			return v;
	}
}

/* One line of /proc/self/maps: from-to perms offset dev inode  name */
static bool parse_line(const char *line, void *arg)
{
	struct mapping *m = arg;
	m->from = hex(&line);
	line++;
	m->to = hex(&line);
	if (m->at < m->from || m->at >= m->to)
		return false;
	m->writable = line[1] == 'r' && line[2] == 'w';
	for (int field = 0; line && field < 3; field++) /* past perms, offset, device */
		line = strchr(line + 1, ' ');
	m->file = line && line[1] != '0'; /* the inode */
	m->stack = line && strstr(line, "[stack");
	return true;
}

/* Finds the mapping of p. False: not mapped, or no /proc. */
static bool find_mapping(const void *p, struct mapping *m, bool *readable)
{
	*m = (struct mapping){ .at = (uintptr_t)p };
	int found = hak_sys_each_line("/proc/self/maps", parse_line, m);
	*readable = found >= 0;
	return found > 0;
}

/*
 * In use on the calling thread's stack. A thread's stack is anonymous memory without a
 * name, and may have been merged with a neighbour; glibc keeps the thread's descriptor,
 * which pthread_self() names, at its upper end.
 */
static bool on_our_stack(const void *p, const struct mapping *m)
{
	uintptr_t frame = (uintptr_t)__builtin_frame_address(0), end = (uintptr_t)pthread_self();
	return frame >= m->from && end < m->to && (uintptr_t)p >= frame && (uintptr_t)p < end;
}

static int segment_has(struct dl_phdr_info *info, size_t size, void *arg)
{
	uintptr_t at = *(uintptr_t *)arg;
	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		if (ph->p_type == PT_LOAD && at - (info->dlpi_addr + ph->p_vaddr) < ph->p_memsz)
			return 1;
	}
	return 0;
}

/* Static data that no file backs (.bss) is anonymous memory too. */
static bool in_object(const void *p)
{
	uintptr_t at = (uintptr_t)p;
	return dl_iterate_phdr(segment_has, &at) != 0;
}

static bool in_arena(const void *p)
{
	struct hak_arena *a = hak_arena_of(p);
	if (!a)
		return false;
	uint32_t g = hak_granule_of(p);
	return g < atomic_load_explicit(&a->small_end, memory_order_relaxed) ||
	       hak_super_is_huge(a, g / HAK_SUPER_GRANULES);
}

/* True if p may be a block of the C library; else the fault has been reported. */
static bool plausible(const void *p)
{
	struct mapping m;
	bool readable;
	uintptr_t v = (uintptr_t)p;
	const char *fault = NULL;
	if (v >= atomic_load_explicit(&known_from, memory_order_relaxed) &&
	    v < atomic_load_explicit(&known_to, memory_order_relaxed))
		return true;
	if (in_arena(p)) /* with a tag: of realloc, which has found no block that starts here */
		fault = atomic_load_explicit(hak_tag_of(p), memory_order_relaxed) ?
			"not the start of a block" : "not an allocated block (freed twice, or never allocated)";
	else if (hak_own_contains(p))
		fault = "not the start of a block";
	else if (!find_mapping(p, &m, &readable))
		fault = readable ? "address is not mapped" : NULL;
	else if (m.stack || on_our_stack(p, &m))
		fault = "address is on the stack";
	else if (m.file)
		fault = "address is in a mapped file";
	else if (!m.writable)
		fault = "address is in memory that cannot be written";
	else if (in_object(p))
		fault = "address is in a program or library";
	else if (v & (HAK_MIN_ALIGN - 1))
		fault = "misaligned address";
	if (fault) {
		hak_fault(fault, p, 0, 0);
		return false;
	}
	if (readable) {
		atomic_store_explicit(&known_from, m.from, memory_order_relaxed);
		atomic_store_explicit(&known_to, m.to, memory_order_relaxed);
	}
	return true;
}

void hak_foreign_free(void *p)
{
	if (!plausible(p))
		return;
	/* relaxed: a counter */
	hak_count(foreign_frees, 1);
	if (__libc_free)
		__libc_free(p);
}

size_t hak_foreign_usable_size(const void *p)
{
	size_t (*next)(void *) = (size_t (*)(void *))dlsym(RTLD_NEXT, "malloc_usable_size");
	return next && plausible(p) ? next((void *)(uintptr_t)p) : 0;
}

void *hak_foreign_realloc(void *p, size_t bytes)
{
	if (!plausible(p))
		return NULL;
	size_t old = hak_foreign_usable_size(p);
	void *q = hak_malloc(bytes);
	if (q) {
		memcpy(q, p, hak_min(old, bytes));
		hak_foreign_free(p);
	}
	return q;
}
