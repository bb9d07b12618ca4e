/* SPDX-License-Identifier: MIT */
/*
 * UCB1 (Auer, Cesa-Bianchi and Fischer, 2002): which of a few arms to play, so that the sum of
 * rewards falls behind the best arm's by no more than a bound that grows with the logarithm of
 * the plays. Pure: no clock, randomness, lock or memory, and integers only, so that a log is
 * replayed to the same plays on every machine.
 */
#ifndef HAK_BANDIT_H
#define HAK_BANDIT_H

#include <stdint.h>

#define HAK_BANDIT_ARMS 4u
#define HAK_BANDIT_ONE 65536u /* a reward is 0 to ONE */

struct hak_bandit {
	uint32_t arms;
	uint32_t plays[HAK_BANDIT_ARMS];
	uint64_t sum[HAK_BANDIT_ARMS]; /* of rewards */
};

/* The arm to play next: one that was never played, or the one with the greatest
 * mean + sqrt(2 ln(all plays) / its plays). */
uint32_t hak_bandit_choose(const struct hak_bandit *b);

void hak_bandit_reward(struct hak_bandit *b, uint32_t arm, uint32_t reward);

/* Halves what is known, so that a program that has changed is learnt anew. */
void hak_bandit_age(struct hak_bandit *b);

#endif
