/* SPDX-License-Identifier: MIT */
/* Span arenas and own mappings. */
#include "numa/huge.h"

#include <string.h>
#include <sys/mman.h>

#include "counters.h"
#include "numa/node.h"
#include "limit.h"
#include "options.h"
#include "probe.h"
#include "reclaim.h"
#include "sys/sys.h"

#define STEP_MIN 64u	/* granules: 4 MiB */
#define STEP_MAX 1024u	/* 64 MiB */
#define TABLE_MIN ((size_t)64)

struct own {
	char *base; /* NULL: none */
	size_t bytes;
};

struct hak_lock hak_huge_lock = HAK_LOCK_INIT(HAK_RANK_HUGE);
struct hak_arena *hak_span_arenas;
static struct own *table; /* under the lock, as all below; open addressing */
static size_t table_cap;
static size_t own_moving; /* entries that were taken out and come back: their room stays theirs */

/* ---- span arenas ------------------------------------------------------------ */

/* First run of `count` free granules aligned to `align` granules; -1 if none. */
static int64_t find_locked(const struct hak_arena *a, uint32_t count, uint32_t align)
{
	uint32_t end = atomic_load_explicit(&a->small_end, memory_order_relaxed);
	uint32_t start = 0; /* of the run that reaches up to g */
	for (uint32_t g = 0; g < end;) {
		/* relaxed: written under the lock */
		uint64_t word = atomic_load_explicit(&a->super[g / 32], memory_order_relaxed);
		uint32_t rest = (HAK_WORD_EMPTY(word) | HAK_WORD_UNUSED(word)) >> (g % 32);
		uint32_t left = 32 - g % 32;
		if (rest == 0) { /* taken to the end of the SuperSlab */
			g += left;
			start = g;
			continue;
		}
		uint32_t free = ~rest ? (uint32_t)__builtin_ctz(~rest) : 32;
		free = (uint32_t)hak_min(free, left);
		g += free;
		uint32_t at = (uint32_t)hak_align_up(start, align);
		if (at + count <= g)
			return at;
		if (free < left) {
			uint32_t used = (uint32_t)__builtin_ctz(rest >> free | 0x80000000u);
			g += (uint32_t)hak_max(1, hak_min(used, left - free));
			start = g;
		}
	}
	return -1;
}

/* Clears or sets the run's bits. Returns whether all of it was UNUSED. */
static bool mark_locked(struct hak_arena *a, uint32_t granule, uint32_t count, bool taken, uint32_t empty,
			uint32_t unused)
{
	bool zero = true;
	for (uint32_t g = granule; g < granule + count;) {
		uint32_t n = (uint32_t)hak_min(32 - g % 32, granule + count - g);
		uint32_t mask = (n == 32 ? UINT32_MAX : (1u << n) - 1) << g % 32;
		uint64_t word = atomic_load_explicit(&a->super[g / 32], memory_order_relaxed);
		if ((HAK_WORD_UNUSED(word) & mask) != mask)
			zero = false;
		if (taken)
			hak_super_claimed(a, g / 32, mask);
		word = taken ? word & ~HAK_WORD(mask, mask) : word | HAK_WORD(mask & empty, mask & unused);
		/* relaxed: under the lock; racy readers take it as a hint */
		atomic_store_explicit(&a->super[g / 32], word, memory_order_relaxed);
		g += n;
	}
	return zero;
}

static bool grow_locked(struct hak_arena *a, uint32_t count, uint32_t align)
{
	uint32_t end = atomic_load_explicit(&a->small_end, memory_order_relaxed);
	uint32_t at = (uint32_t)hak_align_up(end, align);
	uint32_t need = at + count - end;
	if (a->small_full || end + need > HAK_ARENA_GRANULES)
		return false;
	uint32_t step = (uint32_t)hak_min(hak_max(end, STEP_MIN), STEP_MAX);
	step = (uint32_t)hak_min(hak_max(step, need), HAK_ARENA_GRANULES - end);
	bool thp = hak_option_get(HAK_OPT_thp);
	int err = hak_arena_map(a, end, step, thp);
	if (err && step > need) {
		step = need;
		err = hak_arena_map(a, end, step, thp);
	}
	if (err)
		return false;
	atomic_store_explicit(&a->small_end, end + step, memory_order_relaxed);
	mark_locked(a, end, step, false, 0, UINT32_MAX);
	hak_count(span_mapped, (size_t)step * HAK_GRANULE);
	return true;
}

static void *span_alloc_locked(unsigned node, uint32_t count, uint32_t align, bool *zero)
{
	for (int grown = 0;; grown = 1) {
		for (struct hak_arena *a = hak_span_arenas; a; a = a->next) {
			int64_t at = a->node == node ? find_locked(a, count, align) : -1;
			if (at < 0)
				continue;
			*zero = mark_locked(a, (uint32_t)at, count, true, 0, 0);
			a->slabs[at].carved = count;
			hak_count(span_live, (size_t)count * HAK_GRANULE);
			hak_tags_set(a, (uint32_t)at, count, HAK_CODE_SPAN, HAK_CODE_SPAN_REST);
			return a->base + (size_t)at * HAK_GRANULE;
		}
		if (grown)
			return NULL;
		struct hak_arena *a = hak_span_arenas;
		while (a && (a->node != node || !grow_locked(a, count, align)))
			a = a->next;
		if (a)
			continue;
		a = hak_arena_new(node, HAK_ARENA_SPANS, STEP_MIN);
		if (!a)
			return NULL;
		hak_arena_adopt_first(a, STEP_MIN);
		atomic_store_explicit(&a->small_end, STEP_MIN, memory_order_relaxed);
		mark_locked(a, 0, STEP_MIN, false, 0, UINT32_MAX);
		hak_count(span_mapped, (size_t)STEP_MIN * HAK_GRANULE);
		a->next = hak_span_arenas;
		hak_span_arenas = a;
		if (find_locked(a, count, align) < 0 && !grow_locked(a, count, align))
			return NULL;
	}
}

void hak_huge_release(struct hak_arena *a, uint32_t granule, uint32_t count)
{
	hak_lock(&hak_huge_lock);
	mark_locked(a, granule, count, false, UINT32_MAX, 0);
	hak_count(span_live, -((size_t)count * HAK_GRANULE));
	hak_unlock(&hak_huge_lock);
	hak_reclaim_note((size_t)count * HAK_GRANULE);
}

static bool is_free_locked(const struct hak_arena *a, uint32_t granule, uint32_t count)
{
	for (uint32_t g = granule; g < granule + count; g++) {
		uint64_t word = atomic_load_explicit(&a->super[g / 32], memory_order_relaxed);
		if (!((HAK_WORD_EMPTY(word) | HAK_WORD_UNUSED(word)) >> (g % 32) & 1))
			return false;
	}
	return true;
}

bool hak_huge_resize(struct hak_arena *a, uint32_t granule, uint32_t old_count, uint32_t count)
{
	bool ok = true;
	uint32_t at = granule + (uint32_t)hak_min(old_count, count);
	uint32_t diff = count > old_count ? count - old_count : old_count - count;
	if (granule + count > HAK_ARENA_GRANULES)
		return false;
	hak_lock(&hak_huge_lock);
	if (count > old_count) {
		uint32_t end = atomic_load_explicit(&a->small_end, memory_order_relaxed);
		if (granule + old_count == end || granule + count > end)
			if (!is_free_locked(a, at, end - at) || !grow_locked(a, granule + count - end, 1))
				ok = false;
		ok = ok && is_free_locked(a, at, diff);
		if (ok) {
			mark_locked(a, at, diff, true, 0, 0);
			hak_tags_set(a, at, diff, HAK_CODE_SPAN_REST, HAK_CODE_SPAN_REST);
			hak_count(span_live, (size_t)diff * HAK_GRANULE);
		}
	} else if (diff) {
		hak_tags_set(a, at, diff, 0, 0);
		mark_locked(a, at, diff, false, UINT32_MAX, 0);
		hak_count(span_live, -((size_t)diff * HAK_GRANULE));
	}
	if (ok)
		a->slabs[granule].carved = count;
	hak_unlock(&hak_huge_lock);
	return ok;
}

/* ---- own mappings ----------------------------------------------------------- */

static size_t hash(const char *p)
{
	return ((uintptr_t)p >> HAK_SUPER_SHIFT) * 0x9e3779b97f4a7c15u >> 32;
}

static struct own *find_own_locked(const char *p)
{
	if (!table)
		return NULL;
	for (size_t i = hash(p);; i++) {
		struct own *o = &table[i & (table_cap - 1)];
		if (o->base == p && p)
			return o;
		if (!o->base)
			return NULL;
	}
}

static void put_locked(struct own *t, size_t cap, char *base, size_t bytes)
{
	size_t i = hash(base);
	while (t[i & (cap - 1)].base)
		i++;
	t[i & (cap - 1)] = (struct own){ base, bytes };
}

/* Closes the gap, so that no search ends early and no room is lost to deleted entries. */
static void remove_locked(struct own *o)
{
	size_t mask = table_cap - 1, gap = (size_t)(o - table);
	for (size_t i = (gap + 1) & mask; table[i].base; i = (i + 1) & mask) {
		size_t home = hash(table[i].base) & mask;
		if (((i - home) & mask) < ((i - gap) & mask))
			continue; /* it lies between its home and the gap's far side: it stays */
		table[gap] = table[i];
		gap = i;
	}
	table[gap] = (struct own){ NULL, 0 };
}

/* Room for one more: the table doubles when it is half full. */
static bool reserve_locked(void)
{
	size_t used = hak_counted(own_blocks) + own_moving;
	if (table && used * 2 < table_cap)
		return true;
	size_t cap = hak_max(TABLE_MIN, table_cap * 2);
	struct own *t = hak_sys_map(cap * sizeof *t), *old = table;
	size_t old_cap = table_cap;
	if (!t) /* one entry stays empty: it ends every search */
		return table && used + 1 < table_cap;
	for (size_t i = 0; i < old_cap; i++)
		if (old[i].base)
			put_locked(t, cap, old[i].base, old[i].bytes);
	/* before the old one goes: a raw fork's child may start here */
	table = t;
	table_cap = cap;
	if (old)
		hak_sys.munmap(old, old_cap * sizeof *old);
	return true;
}

static bool record(char *base, size_t bytes)
{
	hak_lock(&hak_huge_lock);
	bool ok = reserve_locked();
	if (ok) {
		put_locked(table, table_cap, base, bytes);
		hak_count(own_blocks, 1);
		hak_count(own_mapped, bytes);
	}
	hak_unlock(&hak_huge_lock);
	return ok;
}

/* The entry of a block that forget took out to move it: there is room. */
static void record_moved(char *base, size_t bytes)
{
	hak_lock(&hak_huge_lock);
	put_locked(table, table_cap, base, bytes);
	own_moving--;
	hak_count(own_blocks, 1);
	hak_count(own_mapped, bytes);
	hak_unlock(&hak_huge_lock);
}

/* Takes the entry out; its size, 0 if there is none. */
static size_t forget(char *base, bool moving)
{
	size_t bytes = 0;
	hak_lock(&hak_huge_lock);
	struct own *o = find_own_locked(base);
	if (o) {
		bytes = o->bytes;
		remove_locked(o);
		own_moving += moving;
		hak_count(own_blocks, -1);
		hak_count(own_mapped, -bytes);
	}
	hak_unlock(&hak_huge_lock);
	return bytes;
}

static void *own_map(size_t bytes, size_t align)
{
	char *p = hak_sys_map(bytes);
	if (p && ((uintptr_t)p & (align - 1))) {
		hak_sys.munmap(p, bytes);
		char *wide = hak_sys_map(bytes + align);
		if (!wide)
			return NULL;
		p = (char *)hak_align_up((uintptr_t)wide, align);
		if (p > wide)
			hak_sys.munmap(wide, (size_t)(p - wide));
		if (wide + align > p)
			hak_sys.munmap(p + bytes, (size_t)(wide + align - p));
	}
	if (!p)
		return NULL;
	if (hak_option_get(HAK_OPT_thp))
		hak_sys.madvise(p, bytes, MADV_HUGEPAGE);
	hak_sys_name(p, bytes, "hakmem: huge block");
	HAK_PROBE(map, p, bytes);
	if (record(p, bytes))
		return p;
	hak_sys.munmap(p, bytes);
	return NULL;
}

void *hak_own_alloc(size_t bytes, size_t align)
{
	align = hak_max(align, HAK_SUPER);
	if (align > HAK_MAX_REQUEST || bytes > HAK_MAX_REQUEST - align)
		return NULL;
	bytes = hak_align_up(bytes, HAK_GRANULE);
	if (!hak_limit_take(bytes))
		return NULL;
	void *p = own_map(bytes, align);
	if (!p)
		hak_limit_give(bytes);
	return p;
}

size_t hak_own_size(const void *p)
{
	hak_lock(&hak_huge_lock);
	struct own *o = find_own_locked(p);
	size_t bytes = o ? o->bytes : 0;
	hak_unlock(&hak_huge_lock);
	return bytes;
}

bool hak_own_contains(const void *p)
{
	bool in = false;
	hak_lock(&hak_huge_lock);
	for (size_t i = 0; i < table_cap && !in; i++)
		in = table[i].base && (const char *)p >= table[i].base &&
		     (const char *)p < table[i].base + table[i].bytes;
	hak_unlock(&hak_huge_lock);
	return in;
}

bool hak_own_free(void *p)
{
	size_t bytes = forget(p, false);
	if (!bytes)
		return false;
	HAK_PROBE(unmap, p, bytes);
	/* a full map count cannot refuse to unmap a whole mapping, but it may have been
	 * merged with a neighbour: then its pages go, its address range stays */
	if (hak_sys.munmap(p, bytes))
		hak_sys.madvise(p, bytes, MADV_DONTNEED);
	hak_limit_give(bytes);
	return true;
}

/*
 * Grows or moves a mapping, aligned to huge pages: the kernel's own choice of a new place
 * is not, and would split every huge page that it moves.
 */
static char *remap(char *p, size_t old, size_t bytes)
{
	if (hak_sys.mremap(p, old, bytes, 0, NULL) != MAP_FAILED)
		return p;
	char *wide = hak_sys.mmap(NULL, bytes + HAK_SUPER, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
				  -1, 0);
	if (wide == MAP_FAILED)
		return hak_sys.mremap(p, old, bytes, MREMAP_MAYMOVE, NULL);
	char *to = (char *)hak_align_up((uintptr_t)wide, HAK_SUPER);
	char *q = hak_sys.mremap(p, old, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	if (q == MAP_FAILED) {
		hak_sys.munmap(wide, bytes + HAK_SUPER);
		return MAP_FAILED;
	}
	if (to > wide)
		hak_sys.munmap(wide, (size_t)(to - wide));
	if (wide + HAK_SUPER > to)
		hak_sys.munmap(to + bytes, (size_t)(wide + HAK_SUPER - to));
	return q;
}

void *hak_own_resize(void *p, size_t bytes)
{
	size_t old = hak_own_size(p);
	bytes = hak_align_up(bytes, HAK_GRANULE);
	if (!old || bytes > HAK_MAX_REQUEST)
		return NULL;
	if (bytes == old)
		return p;
	if (bytes > old && !hak_limit_take(bytes - old))
		return NULL;
	/* out of the table first: once moved, the old range may be another block's */
	forget(p, true);
	char *q = remap(p, old, bytes);
	if (q == MAP_FAILED) {
		record_moved(p, old);
		if (bytes > old)
			hak_limit_give(bytes - old);
		return NULL;
	}
	record_moved(q, bytes);
	if (bytes < old)
		hak_limit_give(old - bytes);
	return q;
}

void *hak_huge_alloc(unsigned node, size_t bytes, size_t align, bool *zero)
{
	if (bytes >= HAK_HUGE_OWN || align > HAK_SUPER) {
		*zero = true;
		return hak_own_alloc(bytes, align);
	}
	uint32_t count = (uint32_t)(hak_align_up(bytes, HAK_GRANULE) >> HAK_GRANULE_SHIFT);
	/* a block of a huge page and more starts on one */
	if (bytes >= HAK_SUPER)
		align = HAK_SUPER;
	hak_lock(&hak_huge_lock);
	void *p = span_alloc_locked(node, count, (uint32_t)(align >> HAK_GRANULE_SHIFT), zero);
	hak_unlock(&hak_huge_lock);
	if (p && !*zero)
		*zero = hak_node_respread(node, p, (size_t)count << HAK_GRANULE_SHIFT);
	return p;
}
