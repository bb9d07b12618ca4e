/* SPDX-License-Identifier: MIT */
/* The gcc row: 50 functions for each of TENS, for `gcc -O2 -S`. They are never run. */
#include <stddef.h>
#include <stdint.h>

struct node {
	struct node *left, *right;
	uint64_t key, value[4];
	char name[16];
};

/* One family of functions: a search tree, a sort, a state machine, arithmetic on arrays. */
#define FAMILY(n)                                                                                  \
	struct node *find_##n(struct node *at, uint64_t key)                                       \
	{                                                                                          \
		while (at && at->key != key + n)                                                   \
			at = at->key < key + n ? at->right : at->left;                             \
		return at;                                                                         \
	}                                                                                          \
	uint64_t sum_##n(const struct node *at)                                                    \
	{                                                                                          \
		return at ? at->value[n % 4] + sum_##n(at->left) + sum_##n(at->right) : n;         \
	}                                                                                          \
	void sort_##n(uint64_t *a, size_t count)                                                   \
	{                                                                                          \
		for (size_t i = 1; i < count; i++) {                                               \
			uint64_t x = a[i];                                                         \
			size_t j = i;                                                              \
			for (; j > 0 && (a[j - 1] ^ n) > (x ^ n); j--)                             \
				a[j] = a[j - 1];                                                   \
			a[j] = x;                                                                  \
		}                                                                                  \
	}                                                                                          \
	int scan_##n(const char *text, struct node *out)                                           \
	{                                                                                          \
		int state = 0, used = 0;                                                           \
		for (; *text; text++)                                                              \
			switch (state) {                                                           \
			case 0:                                                                    \
				state = *text == '{' ? 1 : *text == '"' ? 2 : *text > ' ' ? 3 : 0; \
				break;                                                             \
			case 1:                                                                    \
				out->key = out->key * 31 + (unsigned char)*text + n;               \
				state = *text == '}' ? 0 : *text == '"' ? 2 : 1;                   \
				break;                                                             \
			case 2:                                                                    \
				if (used < 15)                                                     \
					out->name[used++] = *text;                                 \
				state = *text == '"' ? 0 : *text == '\\' ? 4 : 2;                  \
				break;                                                             \
			case 3:                                                                    \
				out->value[*text & 3] += (unsigned char)*text;                     \
				state = *text == ' ' ? 0 : *text == ';' ? 5 : 3;                   \
				break;                                                             \
			case 4:                                                                    \
				state = 2;                                                         \
				break;                                                             \
			default:                                                                   \
				return find_##n(out, out->key) ? used : -1;                        \
			}                                                                          \
		out->name[used] = 0;                                                               \
		return state;                                                                      \
	}                                                                                          \
	double mix_##n(const double *a, const double *b, double *c, int count)                     \
	{                                                                                          \
		double best = 0;                                                                   \
		for (int i = 0; i < count; i++)                                                    \
			for (int j = 0; j < 8; j++)                                                \
				c[i] += a[i * 8 + j] * b[j] + (j % 3 ? n : 0);                     \
		for (int i = 0; i < count; i++)                                                    \
			best = c[i] > best ? c[i] : best;                                          \
		return best + (double)sum_##n(0);                                                  \
	}

#define TEN(n)                                                                                     \
	FAMILY(n##0) FAMILY(n##1) FAMILY(n##2) FAMILY(n##3) FAMILY(n##4)                           \
	FAMILY(n##5) FAMILY(n##6) FAMILY(n##7) FAMILY(n##8) FAMILY(n##9)

TEN(1)
#if TENS > 1
TEN(2)
#endif
#if TENS > 2
TEN(3)
#endif
