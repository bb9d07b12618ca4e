/* SPDX-License-Identifier: MIT */
/* Slabs: making and carving. */
#include "slab.h"

#include <string.h>

#include "die.h"
#include "meta.h"
#include "numa/arena.h"

bool hak_slab_init(struct hak_arena *arena, uint32_t granule, unsigned class, uint32_t owner, bool zero)
{
	struct hak_slab *s = &arena->slabs[granule];
	const struct hak_class *c = &hak_classes[class];
	uint64_t *words = s->words_;
	if (c->words > HAK_SLAB_INLINE_WORDS) {
		words = hak_meta_alloc(sizeof(uint64_t) * c->words);
		if (!words)
			return false;
	}
	memset(words, 0xff, sizeof(uint64_t) * c->words);
	if (c->capacity % 64)
		words[c->capacity / 64] = ((uint64_t)1 << (c->capacity % 64)) - 1;
	s->base = arena->base + (size_t)granule * HAK_GRANULE;
	s->free_words = words;
	s->class = (uint16_t)class;
	s->zero = zero;
	s->available = false;
	s->calm = false;
	s->hollow = 0;
	s->hint = 0;
	s->set_aside = 0;
	s->loose_at = UINT16_MAX;
	s->nfree = c->capacity;
	s->carved = 0;
	s->next = s->prev = NULL;
	uint32_t tag = hak_tag(owner, HAK_CODE(class));
	hak_tags_set(arena, granule, c->granules, tag, tag);
	return true;
}

void hak_slab_fini(struct hak_arena *arena, struct hak_slab *s)
{
	const struct hak_class *c = hak_slab_class(s);
	hak_tags_set(arena, hak_granule_of(s->base), c->granules, 0, 0);
	if (c->words > HAK_SLAB_INLINE_WORDS)
		hak_meta_free(s->free_words, sizeof(uint64_t) * c->words);
}

uint32_t hak_slab_take(struct hak_slab *s, uint32_t want, void ***end)
{
	const struct hak_class *c = hak_slab_class(s);
	uint32_t stride = c->stride, got = 0, past = 0, w = s->hint;
	void **to = *end;
	if (want > s->nfree)
		want = s->nfree;
	for (; got < want; w++) {
		uint64_t word = s->free_words[w];
		while (word && got < want) {
			/* neighbours together: in a new slab that is the whole word */
			uint32_t first = (uint32_t)__builtin_ctzll(word);
			uint64_t others = ~(word >> first);
			uint32_t run = others ? (uint32_t)__builtin_ctzll(others) : 64;
			run = (uint32_t)hak_min(run, want - got);
			word &= ~(UINT64_MAX >> (64 - run) << first);
			char *p = s->base + (size_t)(w * 64 + first) * stride;
			for (void **stop = to - run; to != stop; p += stride)
				*--to = p;
			got += run;
			past = w * 64 + first + run;
		}
		s->free_words[w] = word;
		if (word)
			break;
	}
	s->hint = (uint8_t)w;
	s->nfree -= got;
	s->carved = (uint32_t)hak_max(s->carved, past);
	*end = to;
	return got;
}

uint32_t hak_slab_put_run(struct hak_slab *s, void *const *blocks, uint32_t n, uint32_t owner)
{
	const struct hak_class *c = hak_slab_class(s);
	uintptr_t base = (uintptr_t)s->base, used = (uintptr_t)c->capacity * c->stride;
	uint64_t *words = s->free_words, inverse = c->inverse;
	uint32_t bad = 0, low = UINT32_MAX;
	void *const *at = blocks, *const *end = blocks + n;
	for (; at != end; at++) {
		uintptr_t offset = (uintptr_t)*at - base;
		if (hak_unlikely(offset >= used)) {
			if (offset >= c->granules * HAK_GRANULE)
				break;
			hak_fault("not the start of a block", *at, c->stride, owner);
			bad++;
			continue;
		}
		unsigned __int128 product = (unsigned __int128)offset * inverse;
		uint32_t index = (uint32_t)(product >> 64);
		/* it was on a stride when it was freed, but the slab may have become another class's since if it
		 * was freed twice */
		if (hak_unlikely((uint64_t)product >= inverse)) {
			hak_fault("not the start of a block", *at, c->stride, owner);
			bad++;
			continue;
		}
		uint64_t *word = &words[index / 64], is = *word, will = is | (uint64_t)1 << index % 64;
		if (hak_unlikely(is == will)) {
			hak_fault("double free", *at, c->stride, owner);
			bad++;
			continue;
		}
		*word = will;
		low = index < low ? index : low;
	}
	s->hint = (uint8_t)hak_min(s->hint, low / 64);
	s->nfree += (uint32_t)(at - blocks) - bad;
	return (uint32_t)(at - blocks);
}

/* The first block at or after `from`, below the capacity, that is free (or, `invert`, is not); else the capacity. */
static uint32_t next_block(const struct hak_slab *s, uint32_t from, uint64_t invert)
{
	uint32_t capacity = hak_slab_class(s)->capacity;
	while (from < capacity) {
		uint64_t bits = (s->free_words[from / 64] ^ invert) >> from % 64;
		if (bits)
			return (uint32_t)hak_min(capacity, from + (uint32_t)__builtin_ctzll(bits));
		from = (from | 63) + 1;
	}
	return capacity;
}

bool hak_slab_hole(const struct hak_slab *s, uint32_t from, struct hak_hole *hole)
{
	const struct hak_class *c = hak_slab_class(s);
	for (uint32_t end; (from = next_block(s, from, 0)) < c->capacity; from = end) {
		end = next_block(s, from, UINT64_MAX);
		*hole = (struct hak_hole){ from, end - from };
		size_t low = hak_hole_start(c, *hole), high = hak_hole_end(c, *hole);
		if (low >= high)
			continue;
		hole->first = (uint32_t)(low / c->stride);
		hole->count = (uint32_t)((high - 1) / c->stride) + 1 - hole->first;
		return true;
	}
	return false;
}

void hak_slab_take_hole(struct hak_slab *s, struct hak_hole hole)
{
	for (uint32_t i = hole.first; i < hole.first + hole.count; i++)
		s->free_words[i / 64] &= ~((uint64_t)1 << i % 64);
	s->nfree -= hole.count;
}

void hak_slab_check(const struct hak_slab *s)
{
#if HAK_DEBUG
	const struct hak_class *c = hak_slab_class(s);
	uint32_t n = 0;
	for (uint32_t w = 0; w < c->words; w++) {
		n += (uint32_t)__builtin_popcountll(s->free_words[w]);
		if (w < s->hint && s->free_words[w])
			hak_die("slab: free block below the hint", s);
	}
	if (n + s->set_aside != s->nfree || n > c->capacity)
		hak_die("slab: free count and bitmap differ", s);
	if (s->carved > c->capacity)
		hak_die("slab: carved beyond its capacity", s);
#else
	(void)s;
#endif
}
