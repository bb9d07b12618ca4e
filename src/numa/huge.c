/* SPDX-License-Identifier: MIT */
/* Span arenas: some on huge pages, and for blocks that the program touches in part others on small ones. */
#include "numa/huge.h"

#include <string.h>
#include <sys/mman.h>

#include "counters.h"
#include "failure.h"
#include "fresh.h"
#include "numa/node.h"
#include "limit.h"
#include "options.h"
#include "probe.h"
#include "reclaim.h"
#include "sys/sys.h"
#include "touched.h"

#define STEP_MIN 64u	/* granules: 4 MiB */
#define STEP_MAX 1024u	/* 64 MiB */
/* Blocks from here on, in granules (8 MiB), lie on huge pages in any case: who uses them up to some point wastes a
 * part of one huge page. */
#define LARGE 128u
/* Granules, 32 MiB: so do a program's first blocks, before anything can be known. */
#define TRUSTED 512u

struct hak_arena *hak_span_arenas;
/* Fresh granules on huge pages that nothing had shown to pay; under the lock. */
static uint64_t on_trust;

/* ---- where runs fit ------------------------------------------------------------------
 * Two numbers a SuperSlab, exact under the lock: how many free granules follow one another from its
 * first on, and from the best of its free granules on. A search so reads as many numbers as there are
 * SuperSlabs, whatever lies in them. */

static uint32_t free_mask(const struct hak_arena *a, uint32_t super)
{
	/* relaxed: written under the lock */
	uint64_t word = atomic_load_explicit(&a->super[super], memory_order_relaxed);
	return HAK_WORD_EMPTY(word) | HAK_WORD_UNUSED(word);
}

static uint32_t free_at_start(uint32_t mask)
{
	return ~mask ? (uint32_t)__builtin_ctz(~mask) : HAK_SUPER_GRANULES;
}

static uint32_t free_at_end(uint32_t mask)
{
	return ~mask ? (uint32_t)__builtin_clz(~mask) : HAK_SUPER_GRANULES;
}

/* The words of SuperSlabs [first, last] have changed. */
static void note_runs_locked(struct hak_arena *a, uint32_t first, uint32_t last)
{
	for (uint32_t s = last;; s--) {
		uint32_t mask = free_mask(a, s), before = a->run_from_start[s];
		uint32_t start = free_at_start(mask), end = free_at_end(mask), longest = mask ? hak_room_order(mask) + 1 : 0;
		/* of the last SuperSlab the next one's number is 0 for ever */
		uint32_t next = a->run_from_start[s + 1];
		a->run_from_start[s] = (uint16_t)(start + (start == HAK_SUPER_GRANULES ? next : 0));
		a->run_from_best[s] = (uint16_t)hak_max(longest, end ? end + next : 0);
		if (s == 0 || (s <= first && a->run_from_start[s] == before))
			return;
	}
}

/* Where a run of `count` granules begins in the SuperSlab, in which one does. */
static uint32_t place_in(const struct hak_arena *a, uint32_t super, uint32_t count)
{
	uint32_t mask = free_mask(a, super), at = 0;
	while (at < HAK_SUPER_GRANULES - free_at_end(mask)) {
		uint32_t n = free_at_start(mask >> at);
		if (n >= count)
			break;
		at += n + 1;
	}
	return super * HAK_SUPER_GRANULES + (uint32_t)hak_min(at, HAK_SUPER_GRANULES - free_at_end(mask));
}

/* First run of `count` free granules, from a SuperSlab's first on if `aligned`; -1 if none. An arena
 * that has none is not looked through again until something has come back. */
static int64_t find_locked(struct hak_arena *a, uint32_t count, bool aligned)
{
	const uint16_t *run = aligned ? a->run_from_start : a->run_from_best;
	uint32_t supers = (atomic_load_explicit(&a->small_end, memory_order_relaxed) + 31) / HAK_SUPER_GRANULES;
	if (a->none_of[aligned] && count >= a->none_of[aligned])
		return -1;
	for (uint32_t s = 0; s < supers; s++)
		if (run[s] >= count)
			return aligned ? s * HAK_SUPER_GRANULES : place_in(a, s, count);
	a->none_of[aligned] = count;
	return -1;
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

/* Has all of this free run been in use before? */
static bool is_empty_locked(const struct hak_arena *a, uint32_t granule, uint32_t count)
{
	for (uint32_t g = granule; g < granule + count;) {
		uint32_t n = (uint32_t)hak_min(32 - g % 32, granule + count - g);
		if (hak_run_mask(n, g % 32) & HAK_WORD_UNUSED(atomic_load_explicit(&a->super[g / 32], memory_order_relaxed)))
			return false;
		g += n;
	}
	return true;
}

void hak_huge_words_changed(struct hak_arena *a, uint32_t super, uint32_t count)
{
	a->none_of[false] = a->none_of[true] = 0;
	note_runs_locked(a, super, super + count - 1);
}

void hak_huge_fork_raw(void)
{
	/* somebody was changing it, who is gone: what is out of the words is lost, and no block's */
	if (hak_huge_lock.state)
		for (struct hak_arena *a = hak_span_arenas; a; a = a->next)
			hak_huge_words_changed(a, 0, HAK_ARENA_SUPERS);
}

/* ---- claiming and releasing ------------------------------------------------------------- */

/* Clears or sets the run's bits. Returns whether all of it was UNUSED. */
static bool mark_locked(struct hak_arena *a, uint32_t granule, uint32_t count, bool taken, uint32_t empty,
			uint32_t unused)
{
	bool zero = true;
	for (uint32_t g = granule; g < granule + count;) {
		uint32_t n = (uint32_t)hak_min(32 - g % 32, granule + count - g);
		uint32_t mask = hak_run_mask(n, g % 32);
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
	if (!taken)
		a->none_of[false] = a->none_of[true] = 0;
	note_runs_locked(a, granule / 32, (granule + count - 1) / 32);
	return zero;
}

/* How many granules the arena must grow by for such a run, which then begins in the free ones at its end. */
static uint32_t need_locked(const struct hak_arena *a, uint32_t count, bool aligned)
{
	uint32_t end = atomic_load_explicit(&a->small_end, memory_order_relaxed), at = end;
	while (at && is_free_locked(a, at - 1, 1))
		at--;
	return (aligned ? (uint32_t)hak_align_up(at, HAK_SUPER_GRANULES) : at) + count - end;
}

/* By whole SuperSlabs: a part of one could be no huge page, nor go back as one. */
static bool grow_locked(struct hak_arena *a, uint32_t need)
{
	uint32_t end = atomic_load_explicit(&a->small_end, memory_order_relaxed);
	need = (uint32_t)hak_align_up(need, HAK_SUPER_GRANULES);
	if (a->small_full || end + need > HAK_ARENA_GRANULES)
		return false;
	uint32_t step = (uint32_t)hak_min(hak_max(end, STEP_MIN), STEP_MAX);
	step = (uint32_t)hak_min(hak_max(step, need), HAK_ARENA_GRANULES - end);
	int err = hak_arena_map(a, end, step, a->huge_spans);
	if (err && step > need) {
		step = need;
		err = hak_arena_map(a, end, step, a->huge_spans);
	}
	if (err) {
		hak_failure_map((size_t)step * HAK_GRANULE, err);
		return false;
	}
	atomic_store_explicit(&a->small_end, end + step, memory_order_relaxed);
	mark_locked(a, end, step, false, 0, UINT32_MAX);
	hak_count(span_mapped, (size_t)step * HAK_GRANULE);
	return true;
}

static struct hak_arena *new_arena_locked(unsigned node, bool huge)
{
	struct hak_arena *a = hak_arena_new(node, HAK_ARENA_SPANS, STEP_MIN);
	if (!a)
		return NULL;
	a->huge_spans = huge;
	hak_arena_adopt_first(a, STEP_MIN);
	atomic_store_explicit(&a->small_end, STEP_MIN, memory_order_relaxed);
	mark_locked(a, 0, STEP_MIN, false, 0, UINT32_MAX);
	hak_count(span_mapped, (size_t)STEP_MIN * HAK_GRANULE);
	a->next = hak_span_arenas;
	hak_span_arenas = a;
	return a;
}

/* A run, and what it lies in. */
struct place {
	struct hak_arena *arena; /* NULL: none */
	uint32_t at;
};

/* In the node's arenas on huge pages, or on small ones; `empty`: where all of it was in use before. */
static struct place look_locked(unsigned node, uint32_t count, bool aligned, bool huge, bool empty)
{
	for (struct hak_arena *a = hak_span_arenas; a; a = a->next) {
		int64_t at = a->node == node && a->huge_spans == huge ? find_locked(a, count, aligned) : -1;
		if (at >= 0 && (!empty || is_empty_locked(a, (uint32_t)at, count)))
			return (struct place){ a, (uint32_t)at };
	}
	return (struct place){ NULL, 0 };
}

static struct place grow_and_look_locked(unsigned node, uint32_t count, bool aligned, bool huge)
{
	struct hak_arena *a = hak_span_arenas;
	while (a && (a->node != node || a->huge_spans != huge || !grow_locked(a, need_locked(a, count, aligned))))
		a = a->next;
	/* a new one has room for some */
	if (!a && (!(a = new_arena_locked(node, huge)) ||
		   (find_locked(a, count, aligned) < 0 && !grow_locked(a, need_locked(a, count, aligned)))))
		return (struct place){ NULL, 0 };
	return look_locked(node, count, aligned, huge, false);
}

/*
 * On huge pages, or not. Instead of new huge pages free small ones that are resident will do; not the reverse,
 * for nobody knows what of a free run was touched, and the rest would cost huge pages. If memory is short, any
 * place. Returns one whose granules are taken. *zero: it is known to be zero.
 */
static struct place claim_locked(unsigned node, uint32_t count, bool aligned, bool huge, bool *zero)
{
	struct place p = look_locked(node, count, aligned, huge, false);
	if (!p.arena && huge)
		p = look_locked(node, count, aligned, false, true);
	if (!p.arena)
		p = grow_and_look_locked(node, count, aligned, huge);
	if (!p.arena)
		p = look_locked(node, count, aligned, !huge, false);
	if (p.arena) {
		*zero = mark_locked(p.arena, p.at, count, true, 0, 0);
		hak_count(span_live, (size_t)count * HAK_GRANULE);
	}
	return p;
}

void hak_huge_release(struct hak_arena *a, uint32_t granule, uint32_t count)
{
	hak_lock(&hak_huge_lock);
	mark_locked(a, granule, count, false, UINT32_MAX, 0);
	hak_count(span_live, -((size_t)count * HAK_GRANULE));
	hak_unlock(&hak_huge_lock);
	hak_reclaim_note((size_t)count * HAK_GRANULE);
}

bool hak_huge_resize(struct hak_arena *a, uint32_t granule, uint32_t old_count, uint32_t count)
{
	bool ok = true;
	uint32_t at = granule + (uint32_t)hak_min(old_count, count);
	uint32_t diff = count > old_count ? count - old_count : old_count - count;
	if (granule + count > HAK_ARENA_GRANULES)
		return false;
	/* it grows no further on small pages */
	if (count >= LARGE && count > old_count && !a->huge_spans && hak_node_thp(a->node, HAK_SUPER))
		return false;
	hak_lock(&hak_huge_lock);
	if (count > old_count) {
		uint32_t end = atomic_load_explicit(&a->small_end, memory_order_relaxed);
		if (granule + old_count == end || granule + count > end)
			if (!is_free_locked(a, at, end - at) || !grow_locked(a, granule + count - end))
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

void *hak_huge_alloc(unsigned node, size_t bytes, size_t align, bool *zero)
{
	if (bytes >= HAK_HUGE_OWN || align > HAK_SUPER)
		return hak_own_alloc_on(node, bytes, align, zero);
	uint32_t count = (uint32_t)(hak_align_up(bytes, HAK_GRANULE) >> HAK_GRANULE_SHIFT);
	bool aligned = align > HAK_GRANULE, thp = hak_node_thp(node, HAK_SUPER);
	hak_lock(&hak_huge_lock);
	bool pays = count >= LARGE || on_trust < TRUSTED || hak_touched(HAK_TOUCHED_SPANS);
	struct place p = claim_locked(node, count, aligned, thp && pays, zero);
	bool fresh = p.arena && *zero, huge = p.arena && p.arena->huge_spans;
	on_trust += fresh && huge && count < LARGE ? count : 0;
	hak_unlock(&hak_huge_lock);
	if (!p.arena)
		return NULL;
	p.arena->slabs[p.at].carved = count;
	hak_tags_set(p.arena, p.at, count, HAK_CODE_SPAN, HAK_CODE_SPAN_REST);
	if (fresh)
		hak_fresh_huge((size_t)count << HAK_GRANULE_SHIFT, huge);
	if (fresh && thp && !huge)
		hak_touched_ask(node, HAK_TOUCHED_SPANS, count);
	char *block = p.arena->base + (size_t)p.at * HAK_GRANULE;
	if (!*zero)
		*zero = hak_node_respread(node, block, (size_t)count << HAK_GRANULE_SHIFT);
	return block;
}
