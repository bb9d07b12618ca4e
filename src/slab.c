/* SPDX-License-Identifier: MIT */
/* Slabs: making, carving, collecting. */
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
		words = hak_meta_alloc(2 * sizeof(uint64_t) * c->words);
		if (!words)
			return false;
	}
	memset(words, 0, 2 * sizeof(uint64_t) * c->words);
	for (uint32_t i = 0; i < c->capacity / 64; i++)
		words[i] = UINT64_MAX;
	if (c->capacity % 64)
		words[c->capacity / 64] = ((uint64_t)1 << (c->capacity % 64)) - 1;
	s->base = arena->base + (size_t)granule * HAK_GRANULE;
	s->free_words = words;
	s->remote_words = (_Atomic uint64_t *)(words + c->words);
	s->class = (uint16_t)class;
	s->zero = zero;
	s->available = false;
	s->hint = 0;
	s->nfree = c->capacity;
	s->carved = 0;
	s->next = s->prev = s->pending_next = NULL;
	/* relaxed: nobody has a block of it */
	atomic_store_explicit(&s->owner, owner, memory_order_relaxed);
	/* release REMOTE-OWNER: whoever sees QUEUED clear sees the owner */
	atomic_store_explicit(&s->remote_state, 0, memory_order_release);
	uint32_t tag = hak_tag(owner, HAK_CODE(class));
	hak_tags_set(arena, granule, c->granules, tag, tag);
	return true;
}

void hak_slab_fini(struct hak_arena *arena, struct hak_slab *s)
{
	const struct hak_class *c = hak_slab_class(s);
	hak_tags_set(arena, hak_granule_of(s->base), c->granules, 0, 0);
	if (c->words > HAK_SLAB_INLINE_WORDS)
		hak_meta_free(s->free_words, 2 * sizeof(uint64_t) * c->words);
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

bool hak_slab_collect(struct hak_slab *s)
{
	const struct hak_class *c = hak_slab_class(s);
	bool once = true;
	/* before the words are read, or a bit set in between would be lost. acquire
	 * REMOTE-QUEUED: the bits of all who saw it set; release REMOTE-OWNER: the owner */
	atomic_fetch_and_explicit(&s->remote_state, ~HAK_SLAB_QUEUED, memory_order_acq_rel);
	for (uint32_t w = 0; w < c->words; w++) {
		/* relaxed: a stale 0 means its setter will find QUEUED clear and queue */
		if (atomic_load_explicit(&s->remote_words[w], memory_order_relaxed) == 0)
			continue;
		/* acquire REMOTE-HANDOFF: the blocks may be handed out again */
		uint64_t bits = atomic_exchange_explicit(&s->remote_words[w], 0, memory_order_acquire);
		uint64_t twice = s->free_words[w] & bits;
		if (twice) {
			uint32_t i = w * 64 + (uint32_t)__builtin_ctzll(twice);
			hak_fault("double free", s->base + (size_t)i * c->stride, c->stride,
				  atomic_load_explicit(&s->owner, memory_order_relaxed));
			once = false; /* the others must come home all the same */
		}
		bits &= ~twice;
		s->free_words[w] |= bits;
		s->nfree += (uint32_t)__builtin_popcountll(bits);
		if (bits && w < s->hint)
			s->hint = (uint16_t)w;
	}
	hak_slab_check(s);
	return once;
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
