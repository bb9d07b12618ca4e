/* SPDX-License-Identifier: MIT */
/* Windows and arenas: finding address space, and mapping it in steps. */
#include "numa/arena.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>

#include "counters.h"
#include "failure.h"
#include "limit.h"
#include "numa/node.h"
#include "options.h"
#include "probe.h"
#include "sys/sys.h"

#define GIB ((size_t)1 << 30)
#define SLOTS_MIN 4u
#define SLOTS_FLOOR 64u
#define SLOTS_CEILING 16384u

size_t hak_arena_guard;
struct hak_window hak_windows[HAK_WINDOWS];
struct hak_lock hak_arena_lock = HAK_LOCK_INIT(HAK_RANK_ARENA);
_Atomic uint64_t hak_arena_grown;

#define META_BYTES (hak_align_up(sizeof(struct hak_arena), HAK_GRANULE))

static void *map_none(size_t bytes, int prot)
{
	void *p = hak_sys.mmap(NULL, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

/*
 * Four times the machine's memory in slots, so that address space taken by other
 * mappings does not matter; less where the process may not have that much.
 */
static size_t window_slots(void)
{
	struct sysinfo info;
	struct rlimit as;
	size_t slots = SLOTS_FLOOR;
	if (sysinfo(&info) == 0)
		while (slots < SLOTS_CEILING && slots * GIB < 4 * (size_t)info.totalram * info.mem_unit)
			slots *= 2;
	if (getrlimit(RLIMIT_AS, &as) == 0 && as.rlim_cur != RLIM_INFINITY)
		while (slots > SLOTS_MIN && slots * GIB > 4 * (size_t)as.rlim_cur)
			slots /= 2;
	return slots;
}

/* True if a page at p could be mapped right now. */
static bool usable(uintptr_t p)
{
	void *want = (void *)p;
	void *got = hak_sys.mmap(want, HAK_PAGE, PROT_NONE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	if (got == MAP_FAILED)
		return false;
	hak_sys.munmap_own(got, HAK_PAGE);
	return got == want;
}

/*
 * Below a probe mapping, so that ASLR is inherited and 39-bit address spaces,
 * sanitizers and valgrind work; first far enough below that the program's own
 * mappings, which grow down from there, do not meet the window.
 */
static uintptr_t window_base(uintptr_t probe, size_t slots)
{
	static const size_t below[] = { 256 * GIB, 32 * GIB, 0 };
	uintptr_t top = hak_align_down(probe, HAK_ARENA);
	/* the slots of a window that have no arena look free to the kernel: stay below all */
	for (int i = 0; i < HAK_WINDOWS && hak_windows[i].granules; i++)
		top = hak_min(top, hak_windows[i].base);
	for (size_t i = 0; i < sizeof below / sizeof *below; i++) {
		size_t need = below[i] + slots * GIB;
		if (top < need + 4 * GIB)
			continue;
		/* both ends; a mapping between them costs slots, no more */
		if (usable(top - need) && usable(top - below[i] - HAK_ARENA))
			return top - need;
	}
	/* valgrind maps low and leaves the room above */
	for (size_t above = 64 * GIB; above <= 1024 * GIB && !hak_windows[0].granules; above *= 16)
		if (usable(top + above) && usable(top + above + slots * GIB - HAK_ARENA))
			return top + above;
	return 0;
}

static bool window_new_locked(struct hak_window *w)
{
	size_t slots = window_slots();
	for (; slots >= 1; slots /= 2) {
		size_t granules = slots * HAK_ARENA_GRANULES;
		size_t tag_bytes = granules * sizeof(uint32_t);
		size_t table_bytes = hak_align_up(slots * sizeof(void *), HAK_PAGE);
		/* tags are read for every pointer, written only where an arena is: a
		 * readable mapping costs no commit charge, a slot's part is made
		 * writable with its arena */
		char *tags = map_none(tag_bytes, PROT_READ);
		if (!tags)
			continue;
		uintptr_t base = window_base((uintptr_t)tags, slots);
		void *table = base ? hak_sys_map(table_bytes) : NULL;
		if (!table) {
			hak_sys.munmap_own(tags, tag_bytes);
			continue;
		}
		hak_sys_name(tags, tag_bytes, "hakmem: tags");
		hak_count(metadata, table_bytes);
		w->base = base;
		w->tags = (_Atomic uint32_t *)(void *)tags;
		w->arenas = table;
		/* release WINDOW: the fields above before the count that opens it. The
		 * fast path reads without acquire: a thread that got a block from this
		 * window saw it published by what handed it the block. */
		__atomic_store_n(&w->granules, granules, __ATOMIC_RELEASE);
		return true;
	}
	return false;
}

bool hak_arena_init(void)
{
	hak_lock(&hak_arena_lock);
	bool ok = hak_windows[0].granules || window_new_locked(&hak_windows[0]);
	hak_unlock(&hak_arena_lock);
	return ok;
}

static int map_at(char *want, size_t bytes)
{
	void *got = hak_sys.mmap(want, bytes, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (got == MAP_FAILED)
		return errno ? errno : ENOMEM;
	if (got != (void *)want) { /* a kernel before 4.17, or a sanitizer that moved it */
		hak_sys.munmap_own(got, bytes);
		return EEXIST;
	}
	return 0;
}

/* Within the hard limit: EDQUOT beyond it. */
static int map_fixed(char *want, size_t bytes)
{
	if (!hak_limit_take(bytes))
		return EDQUOT;
	int err = map_at(want, bytes);
	if (err)
		hak_limit_give(bytes);
	return err;
}

/* What is refused here costs speed or memory, never correctness. */
static void dress(struct hak_arena *arena, char *p, size_t bytes, bool huge)
{
	hak_sys.madvise_own(p, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	if (arena->kind == HAK_ARENA_SLABS)
		hak_node_bind(arena->node, p, bytes);
	else
		hak_node_memory_only_last(arena->node, p, bytes);
	hak_sys_name(p, bytes, arena->kind == HAK_ARENA_SPANS ? "hakmem: huge blocks" :
			       huge			      ? "hakmem: huge zone" :
								"hakmem: small zone");
}

int hak_arena_map(struct hak_arena *arena, uint32_t granule, uint32_t count, bool huge)
{
	char *p = arena->base + (size_t)granule * HAK_GRANULE;
	size_t bytes = (size_t)count * HAK_GRANULE;
	int err = map_fixed(p, bytes);
	if (!err) {
		dress(arena, p, bytes, huge);
		HAK_PROBE(grow, p, bytes);
		atomic_fetch_add_explicit(&hak_arena_grown, bytes, memory_order_relaxed); /* a threshold */
	}
	return err;
}

void hak_arena_adopt_first(struct hak_arena *arena, uint32_t granules)
{
	dress(arena, arena->base, (size_t)granules * HAK_GRANULE, arena->huge_spans);
}

static struct hak_arena *meta_new(void)
{
	char *p = map_none(META_BYTES + 2 * HAK_GRANULE, PROT_NONE);
	if (!p)
		return NULL;
	if (hak_sys.mprotect(p + HAK_GRANULE, META_BYTES, PROT_READ | PROT_WRITE)) {
		hak_sys.munmap_own(p, META_BYTES + 2 * HAK_GRANULE);
		return NULL;
	}
	hak_sys.madvise_own(p + HAK_GRANULE, META_BYTES, MADV_NOHUGEPAGE);
	hak_sys_name(p + HAK_GRANULE, META_BYTES, "hakmem: metadata");
	return (struct hak_arena *)(void *)(p + HAK_GRANULE);
}

/* *full: NULL is for want of a slot, not of memory. */
static struct hak_arena *arena_in_locked(struct hak_window *w, unsigned node, enum hak_arena_kind kind,
					 uint32_t granules, bool *full)
{
	size_t slots = w->granules / HAK_ARENA_GRANULES;
	*full = false;
	/* from the top: the window's far end stays free for the program's mappings */
	for (size_t i = slots; i-- > 0;) {
		/* relaxed: written under this lock only */
		if (atomic_load_explicit(&w->arenas[i], memory_order_relaxed))
			continue;
		char *base = (char *)w->base + i * HAK_ARENA;
		size_t bytes = (size_t)granules * HAK_GRANULE;
		int err = map_fixed(base, bytes);
		if (err == EEXIST || err == EINVAL)
			continue;
		if (err) {
			hak_failure_map(bytes, err);
			return NULL;
		}
		_Atomic uint32_t *tags = w->tags + i * HAK_ARENA_GRANULES;
		struct hak_arena *a = NULL;
		if (hak_sys.mprotect((void *)tags, HAK_ARENA_GRANULES * sizeof *tags, PROT_READ | PROT_WRITE) == 0)
			a = meta_new();
		if (!a) {
			hak_sys.munmap_own(base, bytes);
			hak_limit_give(bytes);
			return NULL;
		}
		a->base = base;
		a->slot = (uint32_t)i;
		a->node = (uint16_t)node;
		a->kind = (uint16_t)kind;
		atomic_init(&a->small_end, 0);
		atomic_init(&a->huge_start, HAK_ARENA_GRANULES);
		hak_count(metadata, META_BYTES + HAK_ARENA_GRANULES * sizeof *tags);
		/* release ARENA: its fields */
		atomic_store_explicit(&w->arenas[i], a, memory_order_release);
		return a;
	}
	*full = true;
	return NULL;
}

struct hak_arena *hak_arena_new(unsigned node, enum hak_arena_kind kind, uint32_t granules)
{
	struct hak_arena *a = NULL;
	bool full = true;
	hak_lock(&hak_arena_lock);
	for (int i = 0; i < HAK_WINDOWS && full && !a; i++) {
		if (!hak_windows[i].granules && !window_new_locked(&hak_windows[i]))
			break;
		a = arena_in_locked(&hak_windows[i], node, kind, granules, &full);
	}
	hak_unlock(&hak_arena_lock);
	return a;
}

/* Outside of the first window. */
HAK_COLD _Atomic uint32_t *hak_tag_of_far(const void *p)
{
	for (int i = 1; i < HAK_WINDOWS && hak_windows[i].granules; i++) {
		size_t g = ((uintptr_t)p - hak_windows[i].base) >> HAK_GRANULE_SHIFT;
		if (g < hak_windows[i].granules)
			return &hak_windows[i].tags[g];
	}
	return NULL;
}

void hak_tags_set(struct hak_arena *arena, uint32_t granule, uint32_t count, uint32_t first, uint32_t rest)
{
	_Atomic uint32_t *t = hak_tag_of(arena->base + (size_t)granule * HAK_GRANULE);
	/* release TAG: of a slab that is adopted with blocks out, who reads the new owner's
	 * number finds its heap. All else is older than the blocks */
	for (uint32_t i = 0; i < count; i++)
		atomic_store_explicit(t + i, i ? rest : first, memory_order_release);
}

void hak_arena_each(void (*visit)(struct hak_arena *arena, void *arg), void *arg)
{
	for (int i = 0; i < HAK_WINDOWS; i++) {
		struct hak_window *w = &hak_windows[i];
		size_t granules = __atomic_load_n(&w->granules, __ATOMIC_ACQUIRE); /* acquire WINDOW */
		for (size_t s = 0; s < granules / HAK_ARENA_GRANULES; s++) {
			/* acquire ARENA */
			struct hak_arena *a = atomic_load_explicit(&w->arenas[s], memory_order_acquire);
			if (a)
				visit(a, arg);
		}
	}
}
