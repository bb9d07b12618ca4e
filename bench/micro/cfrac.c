/* SPDX-License-Identifier: MIT */
/*
 * cfrac: what does the allocator cost a program of arbitrary-precision arithmetic, in which every
 * intermediate result is a small block that dies at once?
 *
 * After the cfrac of many comparisons: the continued fraction of the square root of a large number,
 * each of whose terms is tried for small prime factors. Every operation allocates its result; whoever
 * has used a number frees it. Each term is checked by the identity
 *     A(k-1)^2 = (-1)^k Q(k)  modulo N
 * so a single wrong bit anywhere ends the run.
 */
#include "bench.h"

static uint64_t ops = 100000;

static const struct bench_arg args[] = {
	{ "ops", &ops, 1, UINT64_MAX, "terms of the continued fraction" },
};

/* 2^127 - 3, no square: its terms do not repeat within any run of bearable length. */
#define N_LIMBS { 0xfffffffd, 0xffffffff, 0xffffffff, 0x7fffffff }

static const uint32_t primes[] = { 2,  3,  5,  7,  11, 13, 17, 19, 23, 29, 31,
				   37, 41, 43, 47, 53, 59, 61, 67, 71, 73 };

/* A natural number: no leading zero limbs, so 0 has none. Immutable once made. */
struct num {
	uint32_t used;
	uint32_t limb[];
};

static struct num *make(uint32_t limbs)
{
	struct num *n = bench_hide(malloc(sizeof(*n) + limbs * sizeof(n->limb[0])));

	if (!n)
		bench_die("malloc: %s", strerror(errno));
	n->used = limbs;
	return n;
}

static struct num *trim(struct num *n)
{
	while (n->used > 0 && n->limb[n->used - 1] == 0)
		n->used--;
	return n;
}

static struct num *small(uint32_t value)
{
	struct num *n = make(1);

	n->limb[0] = value;
	return trim(n);
}

static struct num *copy(const struct num *a)
{
	struct num *n = make(a->used);

	memcpy(n->limb, a->limb, a->used * sizeof(a->limb[0]));
	return n;
}

static int compare(const struct num *a, const struct num *b)
{
	if (a->used != b->used)
		return a->used < b->used ? -1 : 1;
	for (uint32_t i = a->used; i-- > 0;)
		if (a->limb[i] != b->limb[i])
			return a->limb[i] < b->limb[i] ? -1 : 1;
	return 0;
}

static struct num *add(const struct num *a, const struct num *b)
{
	uint32_t limbs = (a->used > b->used ? a->used : b->used) + 1;
	struct num *n = make(limbs);
	uint64_t carry = 0;

	for (uint32_t i = 0; i < limbs; i++) {
		carry += (i < a->used ? a->limb[i] : 0);
		carry += (i < b->used ? b->limb[i] : 0);
		n->limb[i] = (uint32_t)carry;
		carry >>= 32;
	}
	return trim(n);
}

/* a - b, which is not negative */
static struct num *subtract(const struct num *a, const struct num *b)
{
	struct num *n = make(a->used);
	int64_t borrow = 0;

	for (uint32_t i = 0; i < a->used; i++) {
		borrow += (int64_t)a->limb[i] - (i < b->used ? b->limb[i] : 0);
		n->limb[i] = (uint32_t)borrow;
		borrow >>= 32;
	}
	if (borrow)
		bench_die("a difference came out negative");
	return trim(n);
}

static struct num *multiply(const struct num *a, const struct num *b)
{
	struct num *n = make(a->used + b->used);

	memset(n->limb, 0, n->used * sizeof(n->limb[0]));
	for (uint32_t i = 0; i < a->used; i++) {
		uint64_t carry = 0;

		for (uint32_t j = 0; j < b->used; j++) {
			carry += (uint64_t)a->limb[i] * b->limb[j] + n->limb[i + j];
			n->limb[i + j] = (uint32_t)carry;
			carry >>= 32;
		}
		n->limb[i + b->used] = (uint32_t)carry;
	}
	return trim(n);
}

static struct num *divide_small(const struct num *a, uint32_t by, uint32_t *rest)
{
	struct num *n = make(a->used);
	uint64_t r = 0;

	for (uint32_t i = a->used; i-- > 0;) {
		r = r << 32 | a->limb[i];
		n->limb[i] = (uint32_t)(r / by);
		r %= by;
	}
	*rest = (uint32_t)r;
	return trim(n);
}

/* Knuth's algorithm D. Returns the quotient, and the rest in *rest. */
static struct num *divide(const struct num *a, const struct num *b, struct num **rest)
{
	uint32_t n = b->used, shift, m;
	struct num *u, *v, *q;

	if (compare(a, b) < 0) {
		*rest = copy(a);
		return small(0);
	}
	if (n == 1) {
		uint32_t r;

		q = divide_small(a, b->limb[0], &r);
		*rest = small(r);
		return q;
	}
	/* shifted so that b's top bit is set: then the estimate of a digit is at most 2 too large */
	shift = (uint32_t)__builtin_clz(b->limb[n - 1]);
	m = a->used - n;
	u = make(a->used + 1);
	v = make(n);
	q = make(m + 1);
	for (uint32_t i = 0; i < n; i++)
		v->limb[i] = (uint32_t)(((uint64_t)b->limb[i] << 32 |
					 (i > 0 ? b->limb[i - 1] : 0)) << shift >> 32);
	for (uint32_t i = 0; i <= a->used; i++)
		u->limb[i] = (uint32_t)(((uint64_t)(i < a->used ? a->limb[i] : 0) << 32 |
					 (i > 0 ? a->limb[i - 1] : 0)) << shift >> 32);
	for (uint32_t j = m + 1; j-- > 0;) {
		uint64_t top = (uint64_t)u->limb[j + n] << 32 | u->limb[j + n - 1];
		uint64_t digit = top / v->limb[n - 1], r = top % v->limb[n - 1];
		int64_t borrow = 0;
		uint64_t carry = 0;

		while (digit >> 32 ||
		       (uint64_t)(uint32_t)digit * v->limb[n - 2] > (r << 32 | u->limb[j + n - 2])) {
			digit--;
			r += v->limb[n - 1];
			if (r >> 32)
				break;
		}
		for (uint32_t i = 0; i < n; i++) {
			uint64_t product = digit * v->limb[i] + carry;

			carry = product >> 32;
			borrow += (int64_t)u->limb[i + j] - (uint32_t)product;
			u->limb[i + j] = (uint32_t)borrow;
			borrow >>= 32;
		}
		borrow += (int64_t)u->limb[j + n] - (int64_t)carry;
		u->limb[j + n] = (uint32_t)borrow;
		if (borrow < 0) { /* one too large after all: add b again */
			digit--;
			carry = 0;
			for (uint32_t i = 0; i < n; i++) {
				carry += (uint64_t)u->limb[i + j] + v->limb[i];
				u->limb[i + j] = (uint32_t)carry;
				carry >>= 32;
			}
			u->limb[j + n] += (uint32_t)carry;
		}
		q->limb[j] = (uint32_t)digit;
	}
	for (uint32_t i = 0; i < n; i++)
		u->limb[i] = (uint32_t)(((uint64_t)u->limb[i + 1] << 32 | u->limb[i]) >> shift);
	u->used = n;
	free(v);
	*rest = trim(u);
	return trim(q);
}

/* The same, of numbers that the caller is done with. */
static struct num *replace(struct num *old, struct num *now)
{
	free(old);
	return now;
}

static struct num *modulo(struct num *a, const struct num *by)
{
	struct num *rest;

	free(divide(a, by, &rest));
	return replace(a, rest);
}

/* The largest number whose square is at most n, by Newton's method from above. */
static struct num *root(const struct num *n)
{
	struct num *x = make(n->used / 2 + 1);

	memset(x->limb, 0xff, x->used * sizeof(x->limb[0]));
	for (;;) {
		struct num *rest, *next = divide(n, x, &rest);
		uint32_t odd;

		free(rest);
		next = replace(next, add(next, x));
		next = replace(next, divide_small(next, 2, &odd));
		if (compare(next, x) >= 0) {
			free(next);
			return x;
		}
		x = replace(x, next);
	}
}

/* How many small prime factors a number has. */
static uint64_t small_factors(const struct num *q)
{
	uint64_t factors = 0;
	struct num *left = copy(q);

	for (size_t i = 0; i < sizeof(primes) / sizeof(primes[0]); i++)
		for (;;) {
			uint32_t rest;
			struct num *by = divide_small(left, primes[i], &rest);

			if (rest) {
				free(by);
				break;
			}
			left = replace(left, by);
			factors++;
		}
	free(left);
	return factors;
}

static void check(const struct num *n, const struct num *a, const struct num *q, bool odd)
{
	struct num *square = modulo(multiply(a, a), n);
	struct num *wanted = odd ? subtract(n, q) : copy(q);

	wanted = modulo(wanted, n);
	if (compare(square, wanted))
		bench_die("a term of the continued fraction is wrong");
	free(square);
	free(wanted);
}

int main(int argc, char **argv)
{
	static const uint32_t limbs[] = N_LIMBS;
	struct bench_section section;
	struct num *n, *a0, *p, *q, *last_a, *a, *digit;
	uint64_t factors = 0;

	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));

	section = bench_begin();
	n = make(sizeof(limbs) / sizeof(limbs[0]));
	memcpy(n->limb, limbs, sizeof(limbs));
	a0 = root(n);
	p = small(0);
	q = small(1);
	digit = copy(a0);
	last_a = small(1);
	a = copy(a0);
	for (uint64_t k = 1; k <= ops; k++) {
		struct num *t, *u, *rest;

		/* P = digit Q - P;  Q = (N - P^2) / Q, which leaves no rest */
		t = multiply(digit, q);
		p = replace(p, subtract(t, p));
		free(t);
		t = multiply(p, p);
		t = replace(t, subtract(n, t));
		q = replace(q, divide(t, q, &rest));
		if (rest->used)
			bench_die("a division left a rest");
		free(t);
		free(rest);
		check(n, a, q, k % 2);

		/* digit = (a0 + P) / Q;  A(k) = digit A(k-1) + A(k-2) modulo N */
		t = add(a0, p);
		digit = replace(digit, divide(t, q, &rest));
		free(t);
		free(rest);
		t = multiply(digit, a);
		u = modulo(add(t, last_a), n);
		free(t);
		free(last_a);
		last_a = a;
		a = u;

		factors += small_factors(q);
	}
	free(n);
	free(a0);
	free(p);
	free(q);
	free(digit);
	free(last_a);
	free(a);
	section = bench_end(section);

	bench_report("cfrac", ops, section,
		     (const struct bench_figure[]){ { "small_factors", (double)factors } }, 1);
	return 0;
}
