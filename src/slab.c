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
	s->hint = 0;
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
	uint32_t stride = c->stride, got = 0, last = 0, w = s->hint;
	void **to = *end;
	if (want > s->nfree)
		want = s->nfree;
	for (; got < want; w++) {
		uint64_t word = s->free_words[w];
		while (word && got < want) {
			last = w * 64 + (uint32_t)__builtin_ctzll(word);
			word &= word - 1;
			*--to = s->base + (size_t)last * stride;
			got++;
		}
		s->free_words[w] = word;
		if (word)
			break;
	}
	s->hint = (uint16_t)w;
	s->nfree -= got;
	if (got && last >= s->carved)
		s->carved = last + 1;
	*end = to;
	return got;
}

uint32_t hak_slab_put_run(struct hak_slab *s, void *const *blocks, uint32_t n, uint32_t owner)
{
	const struct hak_class *c = hak_slab_class(s);
	uint64_t *words = s->free_words;
	uint32_t i, put = 0, low = s->hint;
	for (i = 0; i < n && ((uintptr_t)blocks[i] & ~(uintptr_t)c->mask) == (uintptr_t)s->base; i++) {
		uint32_t index = hak_block_index(blocks[i], c), w = index / 64;
		uint64_t bit = (uint64_t)1 << index % 64;
		if (index >= c->capacity || words[w] & bit) {
			hak_fault(index >= c->capacity ? "not the start of a block" : "double free", blocks[i],
				  c->stride, owner);
			continue;
		}
		words[w] |= bit;
		low = (uint32_t)hak_min(low, w);
		put++;
	}
	s->hint = (uint16_t)low;
	s->nfree += put;
	return i;
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
	if (n != s->nfree || n > c->capacity)
		hak_die("slab: free count and bitmap differ", s);
	if (s->carved > c->capacity)
		hak_die("slab: carved beyond its capacity", s);
#else
	(void)s;
#endif
}
