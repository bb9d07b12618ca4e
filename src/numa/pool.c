/* SPDX-License-Identifier: MIT */
/*
 * A node's pool of granules: searching, claiming and releasing (models/superslab.pml),
 * and growth of its arenas.
 */
#include <errno.h>

#include "failure.h"
#include "numa/node.h"
#include "options.h"
#include "price.h"
#include "reclaim.h"
#include "step.h"

#define STEP_SMALL_MIN 4u   /* granules: 256 KiB */
#define STEP_SMALL_MAX 1024u /* 64 MiB */
#define STEP_HUGE_MIN 1u    /* SuperSlabs */
#define STEP_HUGE_MAX 32u   /* 64 MiB */

/* A node's share of a block is then at most one huge page in 64 from even: 1.6 points */
#define INTERLEAVED_HUGE (64 * HAK_SUPER)

#define CALLS 32u	    /* score of a place where guard pages are to be closed or opened */
#define LOOKS 4u	    /* at SuperSlabs whose longest runs are alike */
#define ARENAS 4u	    /* looked at once one has a place */

/* Aligned granules are so to their number, or the next power of two. */
static uint32_t alignment(uint32_t count)
{
	return count <= 1 ? 1 : 2u << (31 - __builtin_clz(count - 1));
}

/* The places in a mask where a run of set bits begins. */
static uint32_t starts(uint32_t mask, uint32_t count)
{
	/* after each round a set bit begins a run of `have` set bits */
	for (uint32_t have = 1; have < count;) {
		uint32_t s = (uint32_t)hak_min(have, count - have);
		mask &= mask >> s;
		have += s;
	}
	return mask;
}

static int first_aligned(uint32_t mask, uint32_t count, bool aligned)
{
	uint32_t align = aligned ? alignment(count) : 1;
	if (align > 1)
		mask &= align == 32 ? 1u : UINT32_MAX / ((1u << align) - 1);
	return mask ? __builtin_ctz(mask) : -1;
}

int hak_mask_fit(uint32_t mask, uint32_t count, bool aligned)
{
	return first_aligned(starts(mask, count), count, aligned);
}

int hak_mask_fit_guarded(uint32_t mask, uint32_t closed, uint32_t count, bool aligned)
{
	uint32_t before = count > 1 ? starts(mask & ~closed, count - 1) : UINT32_MAX;
	return first_aligned(before & (mask & closed) >> (count - 1), count, aligned);
}

/* Takes a run out of the word; on success *zero tells whether all of it was UNUSED. */
static bool take(struct hak_arena *a, uint32_t super, uint64_t word, uint32_t mask, bool *zero)
{
	uint64_t taken = HAK_WORD(mask, mask);
	HAK_STEP(P11);
	HAK_STEP(S2);
	/* acquire POOL: the last owner's writes to the granules' metadata are before ours */
	if (!atomic_compare_exchange_strong_explicit(&a->super[super], &word, word & ~taken,
						     memory_order_acquire, memory_order_relaxed))
		return false;
	hak_super_claimed(a, super, mask);
	/* now the rest of a huge page that was fresh is resident */
	if ((HAK_WORD_EMPTY(word) | HAK_WORD_UNUSED(word)) == UINT32_MAX)
		hak_super_note(a, super, word & ~taken);
	*zero = (HAK_WORD_UNUSED(word) & mask) == mask;
	atomic_fetch_add_explicit(&hak_nodes[a->node].live_bytes, (uint64_t)hak_popcount(mask) * HAK_GRANULE,
				  memory_order_relaxed);
	return true;
}

/* In hardened mode: where in the mask no guard page need be closed or opened; slabs on huge pages have none. */
static HAK_NOINLINE int fit_guarded(const struct hak_arena *a, uint32_t super, bool huge, uint32_t mask, uint32_t count, bool slab)
{
	if (slab && huge)
		return hak_mask_fit(mask, count, slab);
	/* relaxed: a hint */
	return hak_mask_fit_guarded(mask, atomic_load_explicit(&a->closed[super], memory_order_relaxed), count, slab);
}

/* Where in the mask of a SuperSlab; in hardened mode rather where it costs no calls. */
static int fit(const struct hak_arena *a, uint32_t super, bool huge, uint32_t mask, uint32_t count, bool slab)
{
	int at = hak_unlikely(hak_arena_guard) ? fit_guarded(a, super, huge, mask, count, slab) : -1;
	return at < 0 ? hak_mask_fit(mask, count, slab) : at;
}

static bool costs_calls(const struct hak_arena *a, uint32_t super, bool huge, uint32_t at, uint32_t count, bool slab)
{
	return hak_unlikely(hak_arena_guard) && fit_guarded(a, super, huge, hak_run_mask(count, at), count, slab) < 0;
}

struct best {
	struct hak_arena *arena;
	uint64_t word;
	uint32_t super, at;
	unsigned order, score;
};

/* Nothing is better than a place that fills its SuperSlab. */
static bool fills(const struct best *best, uint32_t count)
{
	return best->arena && best->score == count;
}

/* The first SuperSlab in [from, to) of the bitmap, or `to`. */
static uint32_t next_room(const _Atomic uint64_t *room, uint32_t from, uint32_t to)
{
	while (from < to) {
		/* relaxed: a hint; a bit that is missed is there for the next search */
		uint64_t bits = atomic_load_explicit(&room[from / 64], memory_order_relaxed) >> from % 64;
		if (bits)
			return (uint32_t)hak_min(to, from + (uint32_t)__builtin_ctzll(bits));
		from = (from | 63) + 1;
	}
	return to;
}

/* Is there a better place in the SuperSlab, which was found among those with such room? False: it
 * has no such room any more. */
static bool look(struct hak_arena *a, uint32_t s, enum hak_room kind, unsigned order, uint32_t count, bool aligned,
		 struct best *best)
{
	HAK_STEP(S1);
	/* relaxed: the CAS that claims decides */
	uint64_t word = atomic_load_explicit(&a->super[s], memory_order_relaxed);
	bool huge = hak_super_is_huge(a, s);
	uint32_t mask = hak_room_mask(word, huge, kind), empty = HAK_WORD_EMPTY(word);
	unsigned score = hak_popcount(HAK_WORD_EMPTY(word) | HAK_WORD_UNUSED(word));
	if (mask && score >= best->score) /* a denser one is known */
		return true;
	int at = kind == HAK_ROOM_RESIDENT && empty ? fit(a, s, huge, empty, count, aligned) : -1;
	if (at < 0 && mask && mask != empty)
		at = fit(a, s, huge, mask, count, aligned);
	if (at < 0) {
		bool right = mask && hak_room_order(mask) == order;
		if (!right)
			hak_super_put_right(a, s, kind, order);
		return right;
	}
	score += costs_calls(a, s, huge, (uint32_t)at, count, aligned) ? CALLS : 0;
	if (score < best->score)
		*best = (struct best){ a, word, s, (uint32_t)at, order, score };
	return true;
}

/*
 * Looks through the SuperSlabs [from, to) of the arena for a place of the kind: in the densest of
 * those with the shortest runs that do. Of each length no more than a few are looked at, those at
 * the lowest addresses: a claim costs the same in any heap, and what is high and sparse becomes
 * free. A place that another arena has is to be beaten, in a run that is no longer.
 */
static void search(struct hak_arena *a, uint32_t from, uint32_t to, enum hak_room kind, uint32_t count, bool aligned,
		   struct best *best)
{
	unsigned known = best->score;
	/* relaxed: a hint, as a bit of the bitmaps */
	uint32_t orders = atomic_load_explicit(&a->orders[kind], memory_order_relaxed) & UINT32_MAX << (count - 1) &
			  UINT32_MAX >> (HAK_ROOM_ORDERS - 1 - best->order);
	for (; orders && best->score == known; orders &= orders - 1) {
		unsigned order = (unsigned)__builtin_ctz(orders), looks = 0;
		const _Atomic uint64_t *room = a->room[kind][order];
		uint32_t s = next_room(room, from, to);
		if (s == to)
			hak_order_put_right(a, kind, order);
		for (; s < to && looks < LOOKS; s = next_room(room, s + 1, to)) {
			looks += look(a, s, kind, order, count, aligned, best);
			if (fills(best, count))
				return;
		}
	}
}

/* The best place on the node of what is resident already, or else of what is fresh in the zone. */
static struct best find(struct hak_node *node, enum hak_room kind, uint32_t count, bool aligned, bool huge)
{
	struct best best = { .order = HAK_ROOM_ORDERS - 1, .score = UINT32_MAX };
	unsigned more = ARENAS;
	/* acquire ARENAS: the newest arena's fields */
	struct hak_arena *a = atomic_load_explicit(&node->arenas, memory_order_acquire);
	for (; a && more && !fills(&best, count); a = a->next) {
		/* relaxed: both may be stale, which costs a look or a growth */
		uint32_t end = (atomic_load_explicit(&a->small_end, memory_order_relaxed) + 31) / 32;
		uint32_t start = atomic_load_explicit(&a->huge_start, memory_order_relaxed) / 32;
		bool resident = kind == HAK_ROOM_RESIDENT;
		search(a, huge && !resident ? start : 0, huge || resident ? HAK_ARENA_SUPERS : end, kind, count, aligned,
		       &best);
		more -= best.arena != NULL;
	}
	return best;
}

static bool claim_existing(struct hak_node *node, uint32_t count, bool aligned, bool huge, struct hak_run *run)
{
	for (;;) {
		struct best best = find(node, HAK_ROOM_RESIDENT, count, aligned, huge);
		if (!best.arena)
			best = find(node, HAK_ROOM_FRESH, count, aligned, huge);
		if (!best.arena)
			return false;
		if (!take(best.arena, best.super, best.word, hak_run_mask(count, best.at), &run->zero))
			continue; /* someone else was faster: look again */
		uint32_t all = HAK_WORD_EMPTY(best.word) | HAK_WORD_UNUSED(best.word);
		run->arena = best.arena;
		run->granule = best.super * 32 + best.at;
		run->stage = HAK_WORD_EMPTY(best.word) & hak_run_mask(count, best.at) ? HAK_STAGE_EMPTY :
			     all == UINT32_MAX ? HAK_STAGE_NEW : HAK_STAGE_UNUSED;
		if (all == UINT32_MAX && hak_super_is_huge(best.arena, best.super))
			hak_reclaim_begun(best.arena->node);
		return true;
	}
}

/* Opens granules [from, from + count) of a new mapping for claims. */
static void open_granules(struct hak_arena *a, uint32_t from, uint32_t count)
{
	struct hak_node *node = &hak_nodes[a->node];
	atomic_fetch_add_explicit(&node->mapped_bytes, (uint64_t)count * HAK_GRANULE, memory_order_relaxed);
	for (uint32_t g = from; g < from + count;) {
		uint32_t n = (uint32_t)hak_min(32 - g % 32, from + count - g);
		hak_super_put(a, g / 32, HAK_WORD(0, hak_run_mask(n, g % 32)));
		g += n;
	}
}

/* How many granules the small zone must grow by to hold the run. */
static uint32_t small_need(uint32_t end, uint32_t count, bool aligned)
{
	uint32_t at = aligned ? (uint32_t)hak_align_up(end, alignment(count)) : end;
	if (at / 32 != (at + count - 1) / 32) /* a run stays within a SuperSlab */
		at = (uint32_t)hak_align_up(at, 32);
	return at + count - end;
}

static bool grow_small_locked(struct hak_arena *a, uint32_t count, bool aligned)
{
	uint32_t end = atomic_load_explicit(&a->small_end, memory_order_relaxed);
	uint32_t limit = atomic_load_explicit(&a->huge_start, memory_order_relaxed);
	uint32_t need = small_need(end, count, aligned);
	if (a->small_full || end + need > limit)
		return false;
	/* doubling: few mappings to make, and never more unused than used */
	uint32_t step = (uint32_t)hak_min(hak_max(end, STEP_SMALL_MIN), STEP_SMALL_MAX);
	step = (uint32_t)hak_min(hak_max(step, need), limit - end);
	int err = hak_arena_map(a, end, step, false);
	if (err && step > need) {
		step = need;
		err = hak_arena_map(a, end, step, false);
	}
	if (err) {
		a->small_full = err == EEXIST;
		hak_failure_map((size_t)step * HAK_GRANULE, err);
		return false;
	}
	atomic_store_explicit(&a->small_end, end + step, memory_order_relaxed);
	open_granules(a, end, step);
	return true;
}

static bool grow_huge_locked(struct hak_arena *a)
{
	uint32_t start = atomic_load_explicit(&a->huge_start, memory_order_relaxed) / 32;
	uint32_t low = (atomic_load_explicit(&a->small_end, memory_order_relaxed) + 31) / 32;
	if (a->huge_full || start <= low)
		return false;
	uint32_t step = (uint32_t)hak_min(hak_max(HAK_ARENA_SUPERS - start, STEP_HUGE_MIN), STEP_HUGE_MAX);
	step = (uint32_t)hak_min(step, start - low);
	int err = hak_arena_map(a, (start - step) * 32, step * 32, true);
	if (err && step > 1) {
		step = 1;
		err = hak_arena_map(a, (start - step) * 32, step * 32, true);
	}
	if (err) {
		a->huge_full = err == EEXIST;
		hak_failure_map(step * HAK_SUPER, err);
		return false;
	}
	atomic_store_explicit(&a->huge_start, (start - step) * 32, memory_order_relaxed);
	open_granules(a, (start - step) * 32, step * 32);
	return true;
}

static bool grow_locked(struct hak_node *node, uint32_t count, bool aligned, bool huge)
{
	struct hak_arena *head = atomic_load_explicit(&node->arenas, memory_order_relaxed);
	for (struct hak_arena *a = head; a; a = a->next)
		if (huge ? grow_huge_locked(a) : grow_small_locked(a, count, aligned))
			return true;
	uint32_t first = huge ? STEP_SMALL_MIN : (uint32_t)hak_max(STEP_SMALL_MIN, small_need(0, count, aligned));
	struct hak_arena *a = hak_arena_new((unsigned)(node - hak_nodes), HAK_ARENA_SLABS, first);
	if (!a)
		return false;
	/* the first step was mapped as the slot's proof; the zone's rules as for the others */
	hak_arena_adopt_first(a, first);
	atomic_store_explicit(&a->small_end, first, memory_order_relaxed);
	a->next = head;
	open_granules(a, 0, first);
	/* release ARENAS: its fields */
	atomic_store_explicit(&node->arenas, a, memory_order_release);
	return huge ? grow_huge_locked(a) : true;
}

static bool claim_on(unsigned id, uint32_t count, bool aligned, bool huge, struct hak_run *run)
{
	struct hak_node *node = &hak_nodes[id];
	if (claim_existing(node, count, aligned, huge, run))
		return true;
	hak_lock(&node->lock);
	/* another thread may have grown the node while this one waited */
	bool ok = claim_existing(node, count, aligned, huge, run);
	while (!ok && grow_locked(node, count, aligned, huge))
		ok = claim_existing(node, count, aligned, huge, run);
	hak_unlock(&node->lock);
	return ok;
}

bool hak_pool_grow_huge(unsigned node)
{
	hak_lock(&hak_nodes[node].lock);
	bool ok = grow_locked(&hak_nodes[node], HAK_SUPER_GRANULES, true, true);
	hak_unlock(&hak_nodes[node].lock);
	return ok;
}

bool hak_pool_claim(unsigned node, uint32_t count, bool aligned, bool huge, struct hak_run *run)
{
	if (claim_on(node, count, aligned, huge, run) || claim_on(node, count, aligned, !huge, run))
		return true;
	/* address space or map count is gone: what other nodes still hold */
	uint8_t order[HAK_NODES];
	unsigned others = hak_node_order(node, order);
	for (unsigned i = 0; i < others; i++)
		if (claim_existing(&hak_nodes[order[i]], count, aligned, false, run) ||
		    claim_existing(&hak_nodes[order[i]], count, aligned, true, run)) {
			atomic_fetch_add_explicit(&hak_nodes[node].spilled_bytes, (uint64_t)count * HAK_GRANULE,
						  memory_order_relaxed);
			return true;
		}
	return false;
}

bool hak_pool_claim_near(struct hak_arena *arena, uint32_t super, uint32_t count, bool aligned, struct hak_run *run)
{
	uint64_t word = atomic_load_explicit(&arena->super[super], memory_order_relaxed);
	bool huge = hak_super_is_huge(arena, super);
	int at = fit(arena, super, huge, HAK_WORD_EMPTY(word), count, aligned);
	/* a wholly EMPTY SuperSlab is left to be released */
	if (at < 0 || costs_calls(arena, super, huge, (uint32_t)at, count, aligned) || (HAK_WORD_EMPTY(word) | HAK_WORD_UNUSED(word)) == UINT32_MAX ||
	    !take(arena, super, word, hak_run_mask(count, (uint32_t)at), &run->zero))
		return false;
	run->arena = arena;
	run->granule = super * 32 + (uint32_t)at;
	run->stage = HAK_STAGE_NEAR;
	return true;
}

bool hak_pool_extend(struct hak_arena *arena, uint32_t granule, uint32_t count, struct hak_run *run)
{
	uint32_t super = granule / 32, at = granule % 32;
	uint32_t mask = at && at + count <= 32 ? hak_run_mask(count, at) : 0;
	while (mask) {
		uint64_t word = atomic_load_explicit(&arena->super[super], memory_order_relaxed);
		if (mask & ~(HAK_WORD_EMPTY(word) | HAK_WORD_UNUSED(word)))
			return false;
		if (!take(arena, super, word, mask, &run->zero))
			continue; /* the word has changed */
		run->arena = arena;
		run->granule = granule;
		run->stage = HAK_WORD_EMPTY(word) & mask ? HAK_STAGE_EMPTY : HAK_STAGE_UNUSED;
		return true;
	}
	return false;
}

void hak_pool_release(struct hak_arena *arena, uint32_t granule, uint32_t count)
{
	struct hak_node *n = &hak_nodes[arena->node];
	uint32_t mask = hak_run_mask(count, granule % 32);
	HAK_STEP(P9);
	HAK_STEP(S3);
	hak_super_put(arena, granule / 32, HAK_WORD(mask, 0));
	atomic_fetch_sub_explicit(&n->live_bytes, (uint64_t)count * HAK_GRANULE, memory_order_relaxed);
	hak_reclaim_note((size_t)count * HAK_GRANULE);
}

bool hak_node_thp(unsigned node, size_t bytes)
{
	return hak_option_get(HAK_OPT_thp) &&
	       (node < HAK_NODES_DIRECT || bytes >= INTERLEAVED_HUGE || !hak_node_interleaves(node));
}

bool hak_node_wants_huge(unsigned node)
{
	return hak_node_thp(node, HAK_SUPER) &&
	       hak_node_out(node) >= (uint64_t)hak_option_get(HAK_OPT_huge_zone_kib) * 1024 &&
	       hak_price_pays(node);
}

void hak_node_occupancy(unsigned node, uint64_t supers[HAK_OCCUPANCY])
{
	for (int i = 0; i < HAK_OCCUPANCY; i++)
		supers[i] = 0;
	/* acquire ARENAS; relaxed: figures for statistics */
	struct hak_arena *a = atomic_load_explicit(&hak_nodes[node].arenas, memory_order_acquire);
	for (; a; a = a->next) {
		for (uint32_t s = 0; s < HAK_ARENA_SUPERS; s++) {
			uint64_t word = atomic_load_explicit(&a->super[s], memory_order_relaxed);
			uint32_t mapped = hak_super_mapped(a, s);
			uint32_t live = mapped & ~(HAK_WORD_EMPTY(word) | HAK_WORD_UNUSED(word));
			if (mapped)
				supers[(hak_popcount(live) + 3) / 4]++;
		}
	}
}

uint64_t hak_node_supers(unsigned node)
{
	uint64_t supers[HAK_OCCUPANCY], n = 0;
	hak_node_occupancy(node, supers);
	for (int i = 1; i < HAK_OCCUPANCY; i++)
		n += supers[i];
	return n;
}
