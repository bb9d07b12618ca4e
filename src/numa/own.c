/* SPDX-License-Identifier: MIT */
/* Own mappings. */
#include "numa/own.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "counters.h"
#include "die.h"
#include "failure.h"
#include "fresh.h"
#include "hardened.h"
#include "limit.h"
#include "numa/node.h"
#include "options.h"
#include "probe.h"
#include "reclaim.h"
#include "sys/sys.h"

#define TABLE_MIN ((size_t)64)
#define KEPT_SLOTS 64u
#define POOL_NONE UINT32_MAX /* it has a policy: nobody else may have it */

struct own {
	char *base; /* NULL: none */
	size_t bytes;
	uint32_t pool; /* the node whose threads may have it next */
	bool seen;     /* kept: it was there at the reclaimer's last look */
};

struct hak_lock hak_huge_lock = HAK_LOCK_INIT(HAK_RANK_HUGE);
static struct own *table; /* under the lock, as all below; open addressing */
static size_t table_cap;
static size_t own_moving; /* entries that were taken out and come back: their room stays theirs */
/* Freed and not unmapped, oldest first. */
static struct own kept[KEPT_SLOTS];
static uint32_t kept_count;
static size_t kept_room;
static bool kept_watched; /* the reclaimer looks at it every few ms: nobody needs to wake it */

/* ---- the table -------------------------------------------------------------- */

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

static void put_locked(struct own *t, size_t cap, struct own o)
{
	size_t i = hash(o.base);
	while (t[i & (cap - 1)].base)
		i++;
	t[i & (cap - 1)] = o;
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
	table[gap] = (struct own){ .base = NULL };
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
			put_locked(t, cap, old[i]);
	/* before the old one goes: a raw fork's child may start here */
	table = t;
	table_cap = cap;
	if (old)
		hak_sys.munmap_own(old, old_cap * sizeof *old);
	return true;
}

static void enter_locked(struct own o)
{
	put_locked(table, table_cap, o);
	hak_count(own_blocks, 1);
	hak_count(own_mapped, o.bytes);
}

static bool record(struct own o)
{
	hak_lock(&hak_huge_lock);
	bool ok = reserve_locked();
	if (ok)
		enter_locked(o);
	hak_unlock(&hak_huge_lock);
	return ok;
}

/* The entry of a block that forget took out to move it: there is room. */
static void record_moved(struct own o)
{
	hak_lock(&hak_huge_lock);
	own_moving--;
	enter_locked(o);
	hak_unlock(&hak_huge_lock);
}

/* Takes the entry at p out; without a base if there is none. */
static struct own forget_locked(const char *p)
{
	struct own *found = find_own_locked(p), o = { .base = NULL };
	if (found) {
		o = *found;
		remove_locked(found);
		hak_count(own_blocks, -1);
		hak_count(own_mapped, -o.bytes);
	}
	return o;
}

/* ---- what is kept ----------------------------------------------------------- */

void hak_own_set_room(size_t bytes)
{
	hak_lock(&hak_huge_lock);
	kept_room = bytes;
	hak_unlock(&hak_huge_lock);
}

static struct own *find_kept_locked(const void *p)
{
	for (uint32_t i = 0; i < kept_count; i++)
		if ((const char *)p - kept[i].base < (ptrdiff_t)kept[i].bytes && (const char *)p >= kept[i].base)
			return &kept[i];
	return NULL;
}

static void drop_kept_locked(uint32_t i)
{
	hak_count(own_kept, -kept[i].bytes);
	memmove(&kept[i], &kept[i + 1], (--kept_count - i) * sizeof *kept);
}

/* Neighbours become one, so that what was taken apart can serve a large block again. */
static bool keep_locked(struct own o)
{
	if (o.pool == POOL_NONE || hak_counted(own_kept) + o.bytes > 2 * kept_room)
		return false;
	for (uint32_t i = kept_count; i-- > 0;) {
		struct own k = kept[i];
		if (k.pool != o.pool || (k.base + k.bytes != o.base && o.base + o.bytes != k.base))
			continue;
		o.base = k.base < o.base ? k.base : o.base;
		o.bytes += k.bytes;
		drop_kept_locked(i);
	}
	if (kept_count == KEPT_SLOTS)
		return false;
	o.seen = false;
	kept[kept_count++] = o;
	hak_count(own_kept, o.bytes);
	return true;
}

/* The smallest that serves; of equals the one freed last, whose pages are the likeliest to be in the
 * processor's cache. What it has more than an eighth too much stays. */
static void *reuse(uint32_t pool, size_t bytes, size_t align)
{
	struct own o = { .base = NULL };
	uint32_t best = KEPT_SLOTS;
	hak_lock(&hak_huge_lock);
	for (uint32_t i = 0; i < kept_count; i++)
		if (kept[i].pool == pool && kept[i].bytes >= bytes && ((uintptr_t)kept[i].base & (align - 1)) == 0 &&
		    (best == KEPT_SLOTS || kept[i].bytes <= kept[best].bytes))
			best = i;
	if (best < KEPT_SLOTS && reserve_locked()) {
		size_t used = hak_align_up(bytes, HAK_SUPER);
		o = kept[best];
		if (o.bytes <= used || o.bytes - bytes <= bytes / 8) {
			drop_kept_locked(best);
		} else {
			kept[best].base += used;
			kept[best].bytes -= used;
			hak_count(own_kept, -used);
			o.bytes = used;
		}
		enter_locked(o);
	}
	hak_unlock(&hak_huge_lock);
	return o.base;
}

static void unmap(char *p, size_t bytes)
{
	HAK_PROBE(unmap, p, bytes);
	/* a full map count cannot refuse to unmap a whole mapping, but it may have been
	 * merged with a neighbour: then its pages go, its address range stays */
	if (hak_sys.munmap(p, bytes))
		hak_sys.madvise(p, bytes, MADV_DONTNEED);
	hak_limit_give(bytes);
}

/* Takes what is due out of those kept, in order of addresses. */
static uint32_t take_due(enum hak_own_due due, struct own *batch, bool *more)
{
	uint32_t n = 0, stay = 0;
	hak_lock(&hak_huge_lock);
	for (uint32_t i = 0; i < kept_count; i++) {
		struct own o = kept[i];
		if (due == HAK_OWN_ALL || (due == HAK_OWN_OLD && o.seen) ||
		    (due == HAK_OWN_OVER && hak_counted(own_kept) > kept_room)) {
			uint32_t at = n++;
			for (; at > 0 && batch[at - 1].base > o.base; at--)
				batch[at] = batch[at - 1];
			batch[at] = o;
			hak_count(own_kept, -o.bytes);
		} else {
			o.seen |= due == HAK_OWN_OLD;
			kept[stay++] = o;
		}
	}
	kept_count = stay;
	if (due == HAK_OWN_OVER)
		kept_watched = n != 0;
	hak_unlock(&hak_huge_lock);
	*more = due == HAK_OWN_OVER ? n != 0 : stay != 0;
	return n;
}

bool hak_own_give_back(enum hak_own_due due)
{
	struct own batch[KEPT_SLOTS];
	bool more;
	uint32_t n = take_due(due, batch, &more);
	for (uint32_t i = 0; i < n;) {
		char *base = batch[i].base;
		size_t bytes = 0;
		for (; i < n && batch[i].base == base + bytes; i++)
			bytes += batch[i].bytes;
		unmap(base, bytes);
		hak_count(released, bytes);
	}
	return more;
}

void hak_own_fork_raw(void)
{
	/* somebody was changing it, who is gone: what it names is lost, and stays mapped */
	if (hak_huge_lock.state)
		kept_count = 0;
	kept_room = 0;
}

/* ---- blocks ----------------------------------------------------------------- */

static void *map(unsigned node, size_t bytes, size_t align, uint32_t pool, bool huge)
{
	char *p = hak_sys_map(bytes);
	if (p && ((uintptr_t)p & (align - 1))) {
		hak_sys.munmap_own(p, bytes);
		char *wide = hak_sys_map(bytes + align);
		if (!wide) {
			hak_failure_map(bytes, errno);
			return NULL;
		}
		p = (char *)hak_align_up((uintptr_t)wide, align);
		if (p > wide)
			hak_sys.munmap_own(wide, (size_t)(p - wide));
		if (wide + align > p)
			hak_sys.munmap_own(p + bytes, (size_t)(wide + align - p));
	}
	if (!p) {
		hak_failure_map(bytes, errno);
		return NULL;
	}
	if (huge || hak_node_interleaves(node))
		hak_sys.madvise_own(p, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	/* relaxed: a machine with one node has no such nodes */
	if (pool != POOL_NONE && hak_unlikely(atomic_load_explicit(&hak_node_count, memory_order_relaxed) > 1))
		hak_node_memory_only_last(node, p, bytes);
	hak_sys_name(p, bytes, "hakmem: huge block");
	HAK_PROBE(map, p, bytes);
	if (record((struct own){ .base = p, .bytes = bytes, .pool = pool }))
		return p;
	hak_sys.munmap_own(p, bytes);
	return NULL;
}

static void *alloc(unsigned node, size_t bytes, size_t align, uint32_t pool, bool *zero)
{
	align = hak_max(align, HAK_SUPER);
	if (align > HAK_MAX_REQUEST || bytes > HAK_MAX_REQUEST - align)
		return NULL;
	bytes = hak_align_up(bytes, HAK_GRANULE);
	void *p = pool == POOL_NONE ? NULL : reuse(pool, bytes, align);
	*zero = !p;
	if (p)
		return p;
	if (!hak_limit_take(bytes)) {
		hak_failure_map(bytes, EDQUOT);
		return NULL;
	}
	bool huge = hak_node_thp(node, bytes);
	p = map(node, bytes, align, pool, huge);
	if (p)
		hak_fresh_huge(bytes, huge);
	else
		hak_limit_give(bytes);
	return p;
}

void *hak_own_alloc(unsigned node, size_t bytes, size_t align)
{
	bool zero;
	void *p = alloc(node, bytes, align, POOL_NONE, &zero);
	if (p)
		hak_node_bind(node, p, hak_align_up(bytes, HAK_GRANULE));
	return p;
}

void *hak_own_alloc_on(unsigned node, size_t bytes, size_t align, bool *zero)
{
	void *p = alloc(node, bytes, align, node, zero);
	if (p && !*zero)
		*zero = hak_node_respread(node, p, bytes);
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
	bool in;
	hak_lock(&hak_huge_lock);
	in = find_kept_locked(p) != NULL;
	for (size_t i = 0; i < table_cap && !in; i++)
		in = table[i].base && (const char *)p >= table[i].base &&
		     (const char *)p < table[i].base + table[i].bytes;
	hak_unlock(&hak_huge_lock);
	return in;
}

bool hak_own_free(void *p)
{
	bool over;
	hak_lock(&hak_huge_lock);
	struct own o = forget_locked(p), *twice = o.base ? NULL : find_kept_locked(p);
	bool keeps = o.base && keep_locked(o), fault = twice && twice->base == p;
	over = keeps && hak_counted(own_kept) > kept_room && !kept_watched;
	kept_watched |= over;
	hak_unlock(&hak_huge_lock);
	if (fault)
		hak_fault("double free", p, 0, 0);
	if (!o.base)
		return fault;
	if (!keeps)
		unmap(o.base, o.bytes);
	hak_reclaim_note(o.bytes);
	if (over)
		hak_reclaim_hurry();
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
		hak_sys.munmap_own(wide, bytes + HAK_SUPER);
		return MAP_FAILED;
	}
	if (to > wide)
		hak_sys.munmap_own(wide, (size_t)(to - wide));
	if (wide + HAK_SUPER > to)
		hak_sys.munmap_own(to + bytes, (size_t)(wide + HAK_SUPER - to));
	return q;
}

/* One that was joined may be several mappings for the kernel, which moves only single ones. */
static void *copy(void *p, struct own o, size_t bytes)
{
	bool zero;
	void *q = o.pool == POOL_NONE ? NULL : alloc(o.pool, bytes, HAK_SUPER, o.pool, &zero);
	if (q) {
		memcpy(q, p, hak_min(o.bytes, bytes));
		hak_own_free(p);
	}
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
	hak_lock(&hak_huge_lock);
	struct own o = forget_locked(p);
	own_moving++;
	hak_unlock(&hak_huge_lock);
	char *q = remap(p, old, bytes);
	if (q == MAP_FAILED) {
		record_moved(o);
		if (bytes > old)
			hak_limit_give(bytes - old);
		return hak_hardened ? NULL : copy(p, o, bytes); /* NULL: there is more to do than to copy */
	}
	o.base = q;
	o.bytes = bytes;
	record_moved(o);
	if (bytes < old)
		hak_limit_give(old - bytes);
	return q;
}
