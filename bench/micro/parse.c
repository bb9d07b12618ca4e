/* SPDX-License-Identifier: MIT */
/*
 * parse: what does it cost to parse text into a tree of strings, numbers and growing arrays?
 *
 * A document in the manner of JSON is written once from the seed, outside the measured section.
 * Each operation parses it as most parsers do (a node for each value, a string block for each name
 * and text, arrays that double by realloc), sums the tree against the sum known from the writing,
 * and drops it.
 */
#include "bench.h"

static uint64_t values = 20000, ops = 100;

static const struct bench_arg args[] = {
	{ "values", &values, 100, 1u << 22, "values of the document, about" },
	{ "ops", &ops, 1, UINT64_MAX, "times that it is parsed and dropped" },
};

#define DEPTH_MAX 8u
#define TEXT_MAX 60u
#define BYTES_A_VALUE 128u /* room in the document: more than any value and its name take */

enum kind { NUMBER, TEXT, ARRAY, OBJECT };

struct value {
	enum kind kind;
	uint32_t used, room; /* of the members */
	char *name;	     /* of a member of an object, else NULL */
	union {
		int64_t number;
		char *text;
		struct value **member;
	} as;
};

/* ---- writing -------------------------------------------------------------------------------- */

static char *document;
static uint64_t length, left, sum; /* `sum` of all numbers, letters and containers */

static void put(char c)
{
	document[length++] = c;
}

static void put_text(struct bench_rng *rng)
{
	uint32_t n = 1 + bench_below(rng, TEXT_MAX);

	/* short ones are more frequent, as in real documents */
	n = 1 + bench_below(rng, n);
	put('"');
	for (uint32_t i = 0; i < n; i++) {
		char c = (char)('a' + bench_below(rng, 26));

		sum += (unsigned char)c;
		put(c);
	}
	put('"');
}

static void put_value(struct bench_rng *rng, uint32_t depth)
{
	uint32_t what = bench_below(rng, 10), members;
	bool object;

	if (left > 0)
		left--;
	if (depth == DEPTH_MAX || left == 0 || (depth > 1 && what < 7)) {
		uint32_t number = bench_below(rng, 1000000000);

		if (what < 3) {
			sum += number;
			length += (uint64_t)snprintf(document + length, 16, "%u", number);
		} else {
			put_text(rng);
		}
		return;
	}
	object = what % 2 == 0;
	members = depth == 0 ? UINT32_MAX : bench_below(rng, 24);
	sum++;
	put(object ? '{' : '[');
	for (uint32_t i = 0; i < members && left > 0; i++) {
		if (i > 0)
			put(',');
		if (object) {
			put_text(rng);
			put(':');
		}
		put_value(rng, depth + 1);
	}
	put(object ? '}' : ']');
}

/* ---- parsing -------------------------------------------------------------------------------- */

static void *must(void *p)
{
	if (!p)
		bench_die("out of memory: %s", strerror(errno));
	return bench_hide(p);
}

static char *parse_text(const char **at)
{
	const char *begin = ++*at;
	char *text;
	size_t n;

	while (**at != '"')
		++*at;
	n = (size_t)(*at - begin);
	text = must(malloc(n + 1));
	memcpy(text, begin, n);
	text[n] = 0;
	++*at;
	return text;
}

static struct value *parse(const char **at)
{
	struct value *v = must(malloc(sizeof(*v)));
	char end;

	*v = (struct value){ .kind = NUMBER };
	if (**at == '"') {
		v->kind = TEXT;
		v->as.text = parse_text(at);
		return v;
	}
	if (**at >= '0' && **at <= '9') {
		while (**at >= '0' && **at <= '9')
			v->as.number = v->as.number * 10 + (*(*at)++ - '0');
		return v;
	}
	v->kind = **at == '{' ? OBJECT : ARRAY;
	end = **at == '{' ? '}' : ']';
	++*at;
	while (**at != end) {
		char *name = NULL;

		if (**at == ',')
			++*at;
		if (v->kind == OBJECT) {
			name = parse_text(at);
			++*at; /* the colon */
		}
		if (v->used == v->room) {
			v->room = v->room ? 2 * v->room : 4;
			v->as.member =
				must(realloc(v->as.member, v->room * sizeof(struct value *)));
		}
		v->as.member[v->used] = parse(at);
		v->as.member[v->used++]->name = name;
	}
	++*at;
	return v;
}

static uint64_t letters(const char *text)
{
	uint64_t all = 0;

	while (text && *text)
		all += (unsigned char)*text++;
	return all;
}

/* The sum of a value, which is dropped. */
static uint64_t drop(struct value *v)
{
	uint64_t all = letters(v->name);

	if (v->kind == NUMBER) {
		all += (uint64_t)v->as.number;
	} else if (v->kind == TEXT) {
		all += letters(v->as.text);
		free(v->as.text);
	} else {
		all++;
		for (uint32_t i = 0; i < v->used; i++)
			all += drop(v->as.member[i]);
		free(v->as.member);
	}
	free(v->name);
	free(v);
	return all;
}

int main(int argc, char **argv)
{
	struct bench_section section;
	struct bench_rng rng;

	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	document = bench_table(values + 1, BYTES_A_VALUE);
	rng = bench_seed(bench_seed_arg, 0);
	left = values;
	put_value(&rng, 0);
	document[length] = 0;

	section = bench_begin();
	for (uint64_t i = 0; i < ops; i++) {
		const char *at = document;
		struct value *v = parse(&at);

		if ((uint64_t)(at - document) != length || drop(v) != sum)
			bench_die("the document was not read as it was written");
	}
	section = bench_end(section);

	bench_report("parse", ops, section,
		     (const struct bench_figure[]){ { "document_bytes", (double)length } }, 1);
	return 0;
}
