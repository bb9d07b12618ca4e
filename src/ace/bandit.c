/* SPDX-License-Identifier: MIT */
/* Choosing an arm, in fixed point. */
#include "ace/bandit.h"

/* Natural logarithm, in 65536ths. */
static uint64_t logarithm(uint64_t n)
{
	uint32_t whole = 63 - (uint32_t)__builtin_clzll(n);
	uint64_t rest = (n << (63 - whole)) >> 32, log2 = (uint64_t)whole << 16; /* rest: 1 to 2, of 2^31 */
	/* a bit of the fraction each: squaring doubles the logarithm */
	for (uint32_t bit = 1u << 15; bit; bit >>= 1) {
		rest = rest * rest >> 31;
		if (rest >> 32) {
			rest >>= 1;
			log2 |= bit;
		}
	}
	return log2 * 45426 >> 16; /* ln 2 */
}

static uint64_t root(uint64_t n)
{
	uint64_t r = 0;
	for (uint64_t bit = (uint64_t)1 << 31; bit; bit >>= 1)
		if ((r | bit) * (r | bit) <= n)
			r |= bit;
	return r;
}

uint32_t hak_bandit_choose(const struct hak_bandit *b)
{
	uint64_t all = 0, greatest = 0;
	uint32_t best = 0;
	for (uint32_t i = 0; i < b->arms; i++) {
		if (!b->plays[i])
			return i;
		all += b->plays[i];
	}
	for (uint32_t i = 0; i < b->arms; i++) {
		uint64_t index = b->sum[i] / b->plays[i] + root((2 * logarithm(all) << 16) / b->plays[i]);
		if (index > greatest) {
			greatest = index;
			best = i;
		}
	}
	return best;
}

void hak_bandit_reward(struct hak_bandit *b, uint32_t arm, uint32_t reward)
{
	b->plays[arm]++;
	b->sum[arm] += reward;
}

void hak_bandit_age(struct hak_bandit *b)
{
	for (uint32_t i = 0; i < b->arms; i++) {
		b->plays[i] -= b->plays[i] / 2; /* what was played once stays so */
		b->sum[i] -= b->sum[i] / 2;
	}
}
