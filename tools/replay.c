/* SPDX-License-Identifier: MIT */
/*
 * hakmem replay: decides again what the learner decided, by its own code, from the inputs in its
 * log (HAKMEM_ACE_LOG), and compares. A file may hold several processes.
 */
#include "tool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "ace/walk.h"
#include "hakmem/hakmem.h"

static const char *input;

static error_t parse(int key, char *arg, struct argp_state *state)
{
	return key == ARGP_KEY_ARG ? args_one(key, arg, state, &input) : args_missing(key, state, "a learner's log");
}

/* ---- a line's values ---------------------------------------------------------------- */

static char fault[256]; /* of this line, the first; "": none */

static __attribute__((format(printf, 1, 2))) void blame(const char *format, ...)
{
	va_list args;
	if (fault[0])
		return;
	va_start(args, format);
	vsnprintf(fault, sizeof fault, format, args);
	va_end(args);
}

struct reader {
	struct hak_walk walk;
	bool compare;	    /* with what is there, not put there */
	const json_t *from; /* an object */
	const char *table;
	const json_t *rows;
	size_t row; /* the next of them */
};

static void take(const struct reader *r, struct hak_cell cell, const json_t *value, const char *where)
{
	json_int_t v = value ? json_integer_value(value) : 0;
	if (value && (!json_is_integer(value) || v < 0 || (cell.bytes < 8 && (uint64_t)v >> 8 * cell.bytes)))
		blame("%s is not a number that can be there", where);
	else if (!r->compare)
		hak_cell_set(cell, (uint64_t)v);
	else if (hak_cell_get(cell) != (uint64_t)v)
		blame("%s is %" JSON_INTEGER_FORMAT " in the log, and %" PRIu64 " when decided again", where, v, hak_cell_get(cell));
}

static void take_number(struct hak_walk *w, const char *name, struct hak_cell cell)
{
	struct reader *r = (struct reader *)w;
	const json_t *value = json_object_get(r->from, name);
	if (value)
		take(r, cell, value, name);
	else
		blame("%s is missing", name);
}

static void take_table(struct hak_walk *w, const char *name)
{
	struct reader *r = (struct reader *)w;
	r->table = name;
	r->rows = json_object_get(r->from, name);
	r->row = 0;
	if (!json_is_array(r->rows))
		blame("%s is missing", name);
}

static bool is_key(const json_t *row, size_t i, uint32_t key)
{
	const json_t *k = json_array_get(row, i);
	return json_is_integer(k) && json_integer_value(k) == key;
}

/* A row that is not there is all 0. */
static void take_row(struct hak_walk *w, uint32_t key, uint32_t second, const struct hak_cell *cells, unsigned count)
{
	struct reader *r = (struct reader *)w;
	const json_t *row = json_array_get(r->rows, r->row);
	size_t keys = second == HAK_WALK_NONE ? 1 : 2;
	char where[64];
	bool there = is_key(row, 0, key) && (keys == 1 || is_key(row, 1, second));
	r->row += there;
	if (there && json_array_size(row) != keys + count)
		blame("a row of %s has %zu numbers", r->table, json_array_size(row));
	for (unsigned i = 0; i < count; i++) {
		if (keys == 1)
			snprintf(where, sizeof where, "%s of %" PRIu32, r->table, key);
		else
			snprintf(where, sizeof where, "%s of %" PRIu32 ", %" PRIu32, r->table, key, second);
		if (count > 1)
			snprintf(where + strlen(where), sizeof where - strlen(where), ", number %u,", i + 1);
		take(r, cells[i], there ? json_array_get(row, keys + i) : NULL, where);
	}
}

static void take_end(struct hak_walk *w)
{
	const struct reader *r = (const struct reader *)w;
	if (r->row != json_array_size(r->rows))
		blame("row %zu of %s does not belong there", r->row + 1, r->table);
}

static struct reader reader(const json_t *from, bool compare)
{
	return (struct reader){ .walk = { take_number, take_table, take_row, take_end }, .compare = compare, .from = from };
}

/* ---- processes ---------------------------------------------------------------------- */

static struct process_log {
	struct process_log *next;
	json_int_t pid, looks;
	char library[32];
	struct hak_ace_config config;
	struct hak_learner learner;
} *processes;
static uint64_t decisions, changes, process_count;

/* The learner's code trusts its own figures; a file's are another's. */
static void check_ranges(const struct process_log *p, const struct hak_look *look)
{
	for (unsigned d = 0; d < HAK_DYNS; d++)
		if (p->config.dyn[d] > HAK_SLAB_MAX || p->learner.plan.dyn[d] > HAK_SLAB_MAX)
			blame("dyn is no size of a class");
	for (unsigned t = 0; t < HAK_TIERS; t++)
		if (p->learner.trial[t].arm >= HAK_BANDIT_ARMS || p->learner.trial[t].kept >= HAK_BANDIT_ARMS)
			blame("trial has no such arm");
	if (!p->config.samples)
		blame("samples is 0");
	if (look->nodes > HAK_LOOK_NODES)
		blame("there are too many nodes");
}

static struct process_log *find(json_int_t pid)
{
	struct process_log *p = processes;
	while (p && p->pid != pid)
		p = p->next;
	return p;
}

/* A process's first line; or another process's, with the same id. */
static void begin(json_int_t pid, const json_t *o)
{
	static const struct hak_look no_look;
	struct process_log *p = find(pid);
	struct reader classes = reader(o, true), config = reader(json_object_get(o, "config"), false),
		      state = reader(json_object_get(o, "state"), false);
	const char *library = json_string_value(json_object_get(o, "library"));
	if (!p) {
		p = calloc(1, sizeof *p);
		if (!p) {
			blame("no memory");
			return;
		}
		p->next = processes;
		processes = p;
	}
	p->pid = pid;
	p->looks = 0;
	snprintf(p->library, sizeof p->library, "%s", library ? library : "?");
	hak_walk_classes(&classes.walk, hak_classes);
	if (fault[0]) {
		fault[0] = 0;
		blame("it is of hakmem %s, which has other size classes than this, %s", p->library, HAKMEM_VERSION);
	}
	hak_walk_config(&config.walk, &p->config);
	memset(&p->learner, 0, sizeof p->learner);
	hak_learner_start(&p->learner, &p->config);
	hak_walk_learner(&state.walk, &p->learner);
	check_ranges(p, &no_look);
	process_count++;
}

static void decide(json_int_t pid, const json_t *o)
{
	static struct hak_look look;
	struct process_log *p = find(pid);
	struct reader inputs = reader(json_object_get(o, "look"), false), outcome = reader(json_object_get(o, "decision"), true);
	json_int_t number = json_integer_value(json_object_get(o, "number"));
	const json_t *changed = json_object_get(o, "changed");
	if (!p) {
		blame("the process's first line is missing");
		return;
	}
	if (number != p->looks + 1)
		blame("look %" JSON_INTEGER_FORMAT " follows look %" JSON_INTEGER_FORMAT, number, p->looks);
	p->looks = number;
	hak_walk_look(&inputs.walk, &look);
	check_ranges(p, &look);
	if (fault[0])
		return;
	bool again = hak_learner_decide(&p->learner, &p->config, &look);
	if (!json_is_integer(changed) || json_integer_value(changed) != again)
		blame("%s", again ? "the policy changes when decided again, and did not in the log" :
				    "the policy changed in the log, and does not when decided again");
	hak_walk_decision(&outcome.walk, &p->learner);
	if (fault[0] && strcmp(p->library, HAKMEM_VERSION))
		snprintf(fault + strlen(fault), sizeof fault - strlen(fault), " (the log is of hakmem %s, this is %s)", p->library,
			 HAKMEM_VERSION);
	decisions++;
	changes += again;
}

/* False: the line is at fault, and was named. */
static bool replay(const char *line, size_t number)
{
	json_t *o = json_loads(line, 0, NULL);
	const json_t *pid = json_object_get(o, "pid"), *version = json_object_get(o, "version");
	fault[0] = 0;
	if (!json_is_object(o))
		blame("cut off, or no JSON");
	else if (!json_is_integer(pid) || !json_is_integer(version) || json_integer_value(version) != HAK_WALK_VERSION)
		blame("not of a learner's log of version %d", HAK_WALK_VERSION);
	else if (json_object_get(o, "state"))
		begin(json_integer_value(pid), o);
	else
		decide(json_integer_value(pid), o);
	if (fault[0] && json_is_integer(pid))
		tool_warn("%s: line %zu, process %" JSON_INTEGER_FORMAT ": %s", input, number, json_integer_value(pid), fault);
	else if (fault[0])
		tool_warn("%s: line %zu: %s", input, number, fault);
	json_decref(o);
	return !fault[0];
}

int tool_replay(int argc, char **argv)
{
	static const struct argp argp = { NULL, parse, "FILE",
					  "Decides again what the learner decided (HAKMEM_ACE_LOG=FILE), and names the first decision that "
					  "differs.", NULL, NULL, NULL };
	char *line = NULL;
	size_t cap = 0, number = 0;
	bool same = true;
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	FILE *f = strcmp(input, "-") ? fopen(input, "re") : stdin;
	if (!f) {
		tool_warn("%s: %s", input, strerror(errno));
		return TOOL_FAILED;
	}
	while (same && getline(&line, &cap, f) > 0)
		same = replay(line, ++number);
	if (ferror(f)) {
		tool_warn("%s: %s", input, strerror(errno));
		same = false;
	} else if (same && !decisions) {
		tool_warn("%s: no decision of the learner is in it", input);
		same = false;
	}
	free(line);
	if (f != stdin)
		fclose(f);
	while (processes) {
		struct process_log *p = processes;
		processes = p->next;
		free(p);
	}
	if (!same)
		return TOOL_FAILED;
	printf("%" PRIu64 " decisions of %" PRIu64 " process%s are the same; %" PRIu64 " of them changed the policy\n", decisions,
	       process_count, process_count == 1 ? "" : "es", changes);
	return TOOL_OK;
}
