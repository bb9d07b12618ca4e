/* SPDX-License-Identifier: MIT */
/*
 * barnes: what does the allocator cost a numeric program that builds a tree at each step?
 *
 * After the Barnes-Hut simulation that allocators are compared by: bodies attract each other, and
 * far ones are taken together. Each step builds an octree of malloc'ed cells, works out the forces
 * with it, moves the bodies and drops the tree. Bodies are malloc'ed as well. Arithmetic takes most
 * of the time, as in such programs. Each step checks that the tree holds all of the mass.
 */
#include "bench.h" /* first: it asks libc for everything */

#include <math.h>

static uint64_t bodies = 4000, ops = 20;

static const struct bench_arg args[] = {
	{ "bodies", &bodies, 2, 1u << 22, "bodies" },
	{ "ops", &ops, 1, UINT64_MAX, "steps" },
};

#define AXES 3
#define CHILDREN 8
#define NEAR 1.0	 /* a cell is taken whole if its side over its distance is less */
#define SOFTENING 0.0025 /* squared; bodies do not collide */
#define STEP 0.001
#define DEPTH_MAX 48 /* bodies at almost the same place share a cell of this depth */

struct body {
	double at[AXES], speed[AXES], mass;
	struct body *next; /* in the same cell */
};

struct cell {
	double middle[AXES], half; /* the cube */
	double centre[AXES], mass; /* of what is in it */
	struct cell *child[CHILDREN];
	struct body *bodies; /* in a leaf */
};

static void *must(void *p)
{
	if (!p)
		bench_die("out of memory: %s", strerror(errno));
	return bench_hide(p);
}

static struct cell *new_cell(const double *middle, double half)
{
	struct cell *c = must(calloc(1, sizeof(*c)));

	memcpy(c->middle, middle, sizeof(c->middle));
	c->half = half;
	return c;
}

static void insert(struct cell *c, struct body *b, int depth);

static void insert_below(struct cell *c, struct body *b, int depth)
{
	double middle[AXES];
	int which = 0;

	for (int a = 0; a < AXES; a++) {
		bool above = b->at[a] >= c->middle[a];

		which |= above << a;
		middle[a] = c->middle[a] + (above ? c->half / 2 : -c->half / 2);
	}
	if (!c->child[which])
		c->child[which] = new_cell(middle, c->half / 2);
	insert(c->child[which], b, depth + 1);
}

static void insert(struct cell *c, struct body *b, int depth)
{
	bool empty = c->mass == 0, leaf = c->bodies != NULL;

	for (int a = 0; a < AXES; a++)
		c->centre[a] += b->at[a] * b->mass;
	c->mass += b->mass;
	if (empty || depth == DEPTH_MAX) {
		b->next = c->bodies;
		c->bodies = b;
		return;
	}
	if (leaf) {
		insert_below(c, c->bodies, depth);
		c->bodies = NULL;
	}
	insert_below(c, b, depth);
}

static void finish(struct cell *c)
{
	for (int a = 0; a < AXES; a++)
		c->centre[a] /= c->mass;
	for (int i = 0; i < CHILDREN; i++)
		if (c->child[i])
			finish(c->child[i]);
}

static void drop(struct cell *c)
{
	for (int i = 0; i < CHILDREN; i++)
		if (c->child[i])
			drop(c->child[i]);
	free(c);
}

static void pull(const double *at, const double *from, double mass, double *force)
{
	double d[AXES], r2 = SOFTENING;

	for (int a = 0; a < AXES; a++) {
		d[a] = from[a] - at[a];
		r2 += d[a] * d[a];
	}
	for (int a = 0; a < AXES; a++)
		force[a] += d[a] * mass / (r2 * sqrt(r2));
}

static void attract(const struct body *b, const struct cell *c, double *force)
{
	double r2 = 0;

	for (int a = 0; a < AXES; a++)
		r2 += (c->centre[a] - b->at[a]) * (c->centre[a] - b->at[a]);
	if (c->bodies) {
		for (const struct body *o = c->bodies; o; o = o->next)
			if (o != b)
				pull(b->at, o->at, o->mass, force);
	} else if (4 * c->half * c->half < NEAR * NEAR * r2) {
		pull(b->at, c->centre, c->mass, force);
	} else {
		for (int i = 0; i < CHILDREN; i++)
			if (c->child[i])
				attract(b, c->child[i], force);
	}
}

static void step(struct body **body)
{
	static const double middle[AXES] = { 0, 0, 0 };
	struct cell *root;
	double half = 1;

	for (uint64_t i = 0; i < bodies; i++)
		for (int a = 0; a < AXES; a++)
			while (fabs(body[i]->at[a]) >= half)
				half *= 2;
	root = new_cell(middle, half);
	for (uint64_t i = 0; i < bodies; i++)
		insert(root, body[i], 0);
	if (fabs(root->mass - 1) > 1e-9)
		bench_die("the tree has mass %.12f, not 1", root->mass);
	finish(root);
	for (uint64_t i = 0; i < bodies; i++) {
		double force[AXES] = { 0, 0, 0 };

		attract(body[i], root, force);
		for (int a = 0; a < AXES; a++)
			body[i]->speed[a] += force[a] * STEP;
	}
	for (uint64_t i = 0; i < bodies; i++)
		for (int a = 0; a < AXES; a++)
			body[i]->at[a] += body[i]->speed[a] * STEP;
	drop(root);
}

int main(int argc, char **argv)
{
	struct bench_section section;
	struct bench_rng rng;
	struct body **body;

	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	rng = bench_seed(bench_seed_arg, 0);

	section = bench_begin();
	body = must(calloc(bodies, sizeof(struct body *)));
	for (uint64_t i = 0; i < bodies; i++) {
		body[i] = must(calloc(1, sizeof(struct body)));
		body[i]->mass = 1.0 / (double)bodies;
		for (int a = 0; a < AXES; a++)
			body[i]->at[a] = (double)bench_next(&rng) / (double)UINT64_MAX - 0.5;
	}
	for (uint64_t i = 0; i < ops; i++)
		step(body);
	for (uint64_t i = 0; i < bodies; i++)
		free(body[i]);
	free(body);
	section = bench_end(section);

	bench_report("barnes", ops, section, NULL, 0);
	return 0;
}
