/* SPDX-License-Identifier: MIT */
/*
 * trees: what does it cost to build trees of small nodes and to drop them again?
 *
 * After the binary-trees benchmark. One tree lives from start to end; beside it short-lived trees of
 * all depths are built, summed and dropped, so that fresh nodes lie among old ones. A node is 24 to
 * 56 bytes: two links, its number and a payload of random length.
 */
#include "bench.h"

static uint64_t depth = 16, ops = 10000000;

static const struct bench_arg args[] = {
	{ "depth", &depth, 4, 26, "levels of the long-lived tree and of the deepest others" },
	{ "ops", &ops, 1, UINT64_MAX, "nodes of the short-lived trees, at least" },
};

#define PAYLOAD_MAX 32

struct node {
	struct node *left, *right;
	uint32_t number;
	uint32_t bytes; /* of the payload: each is the number's low byte */
	unsigned char payload[];
};

static struct node *build(struct bench_rng *rng, uint64_t levels, uint32_t number)
{
	uint32_t bytes = bench_below(rng, PAYLOAD_MAX + 1);
	struct node *node = bench_hide(malloc(sizeof(*node) + bytes));

	if (!node)
		bench_die("malloc: %s", strerror(errno));
	node->number = number;
	node->bytes = bytes;
	memset(node->payload, (int)number, bytes);
	node->left = levels > 1 ? build(rng, levels - 1, 2 * number) : NULL;
	node->right = levels > 1 ? build(rng, levels - 1, 2 * number + 1) : NULL;
	return node;
}

/* The number of nodes, each one checked. */
static uint64_t count(const struct node *node, uint32_t number)
{
	if (!node)
		return 0;
	if (node->number != number ||
	    (node->bytes > 0 && node->payload[node->bytes - 1] != (unsigned char)number))
		bench_die("node %u at %p: overwritten", number, (const void *)node);
	return 1 + count(node->left, 2 * number) + count(node->right, 2 * number + 1);
}

static void drop(struct node *node)
{
	if (!node)
		return;
	drop(node->left);
	drop(node->right);
	free(node);
}

static void check(const struct node *root, uint64_t levels)
{
	if (count(root, 1) != (1ull << levels) - 1)
		bench_die("a tree of %llu levels has lost nodes", (unsigned long long)levels);
}

int main(int argc, char **argv)
{
	struct bench_section section;
	struct bench_rng rng;
	struct node *old;
	uint64_t nodes = 0, levels = 4;

	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	rng = bench_seed(bench_seed_arg, 0);

	section = bench_begin();
	old = build(&rng, depth, 1);
	while (nodes < ops) {
		struct node *young = build(&rng, levels, 1);

		check(young, levels);
		drop(young);
		nodes += (1ull << levels) - 1;
		levels = levels < depth ? levels + 1 : 4;
	}
	check(old, depth);
	drop(old);
	section = bench_end(section);

	bench_report("trees", nodes + (1ull << depth) - 1, section, NULL, 0);
	return 0;
}
