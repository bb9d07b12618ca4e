/* SPDX-License-Identifier: MIT */
/* Span arenas. */
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

#define STEP_MIN 64u	/* granules: 4 MiB */
#define STEP_MAX 1024u	/* 64 MiB */

struct hak_arena *hak_span_arenas;

/* First run of `count` free granules aligned to `align` granules; -1 if none. */
static int64_t look_locked(const struct hak_arena *a, uint32_t count, uint32_t align)
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

/* As above; an arena that has none is not looked through again until something has changed. */
static int64_t find_locked(struct hak_arena *a, uint32_t count, uint32_t align)
{
	if (a->none_of && count >= a->none_of && align >= a->none_align)
		return -1;
	int64_t at = look_locked(a, count, align);
	if (at < 0) {
		a->none_of = count;
		a->none_align = align;
	}
	return at;
}

/* Clears or sets the run's bits. Returns whether all of it was UNUSED. */
static bool mark_locked(struct hak_arena *a, uint32_t granule, uint32_t count, bool taken, uint32_t empty,
			uint32_t unused)
{
	bool zero = true;
	if (!taken)
		a->none_of = 0;
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
	bool thp = hak_node_thp(a->node, HAK_SUPER);
	int err = hak_arena_map(a, end, step, thp);
	if (err && step > need) {
		step = need;
		err = hak_arena_map(a, end, step, thp);
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

void *hak_huge_alloc(unsigned node, size_t bytes, size_t align, bool *zero)
{
	if (bytes >= HAK_HUGE_OWN || align > HAK_SUPER)
		return hak_own_alloc_on(node, bytes, align, zero);
	uint32_t count = (uint32_t)(hak_align_up(bytes, HAK_GRANULE) >> HAK_GRANULE_SHIFT);
	/* a block of a huge page and more starts on one */
	if (bytes >= HAK_SUPER)
		align = HAK_SUPER;
	hak_lock(&hak_huge_lock);
	void *p = span_alloc_locked(node, count, (uint32_t)(align >> HAK_GRANULE_SHIFT), zero);
	hak_unlock(&hak_huge_lock);
	if (p && *zero)
		hak_fresh_huge((size_t)count << HAK_GRANULE_SHIFT, hak_node_thp(node, HAK_SUPER));
	if (p && !*zero)
		*zero = hak_node_respread(node, p, (size_t)count << HAK_GRANULE_SHIFT);
	return p;
}
