/* SPDX-License-Identifier: MIT */
/*
 * hakmem leaks: what a heap profile says was still held when it was written, by the stacks
 * that asked for it.
 */
#include "tool.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH 64
#define TOP 10

struct site {
	double blocks, bytes; /* scaled: an estimate of what was held */
	uint64_t samples;
	int depth;
	uint64_t pc[DEPTH];
};

struct mapping {
	uint64_t start, end, offset;
	char *path;
};

static const char *input;
static unsigned long top = TOP;
static struct site *sites;
static size_t site_count;
static struct mapping *mappings;
static size_t mapping_count;
static struct symbol *symbols;
static size_t symbol_count;

static error_t parse(int key, char *arg, struct argp_state *state)
{
	char *end;
	switch (key) {
	case 'n':
		top = strtoul(arg, &end, 10);
		if (*end || !top)
			argp_error(state, "not a number of stacks: `%s'", arg);
		return 0;
	case ARGP_KEY_ARG:
		return args_one(key, arg, state, &input);
	default:
		return args_missing(key, state, "a heap profile");
	}
}

/* ---- reading --------------------------------------------------------------------- */

/* A block of n bytes is sampled with probability 1 - exp(-n / mean): what was seen stands for
 * as many times more. */
static void add_site(const char *line, double mean)
{
	uint64_t blocks, bytes;
	int at = 0;
	struct site s = { .depth = 0 };
	if (sscanf(line, "%" SCNu64 ": %" SCNu64 " [%*u: %*u] @%n", &blocks, &bytes, &at) != 2 || !at || !blocks)
		return;
	double scale = 1 / (1 - exp(-(double)bytes / (double)blocks / mean));
	s.samples = blocks;
	s.blocks = (double)blocks * scale;
	s.bytes = (double)bytes * scale;
	for (char *next, *p = (char *)(uintptr_t)line + at; s.depth < DEPTH; p = next) {
		uint64_t pc = strtoull(p, &next, 16);
		if (next == p)
			break;
		s.pc[s.depth++] = pc;
	}
	struct site *more = reallocarray(sites, site_count + 1, sizeof s);
	if (!more)
		return;
	sites = more;
	sites[site_count++] = s;
}

static void add_mapping(const char *line)
{
	struct mapping m;
	char prot[5];
	int at = 0;
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %*s %n", &m.start, &m.end, prot, &m.offset, &at) != 4 ||
	    prot[2] != 'x' || line[at] != '/')
		return;
	struct mapping *more = reallocarray(mappings, mapping_count + 1, sizeof m);
	m.path = strndup(line + at, strcspn(line + at, "\n"));
	if (!more || !m.path)
		return;
	mappings = more;
	mappings[mapping_count++] = m;
}

static bool read_profile(void)
{
	char *line = NULL;
	size_t cap = 0;
	uint64_t mean = 0;
	bool maps = false;
	FILE *f = fopen(input, "re");
	if (!f) {
		tool_warn("%s: %s", input, strerror(errno));
		return false;
	}
	if (getline(&line, &cap, f) <= 0 || sscanf(line, "heap profile: %*u: %*u [%*u: %*u] @ heap_v2/%" SCNu64, &mean) != 1 ||
	    !mean) {
		tool_warn("%s is not a heap profile", input);
		fclose(f);
		free(line);
		return false;
	}
	while (getline(&line, &cap, f) > 0) {
		if (!strcmp(line, "MAPPED_LIBRARIES:\n"))
			maps = true;
		else if (maps)
			add_mapping(line);
		else
			add_site(line, (double)mean);
	}
	free(line);
	fclose(f);
	return true;
}

/* ---- names ----------------------------------------------------------------------- */

static const struct mapping *mapping_of(uint64_t pc)
{
	for (size_t i = 0; i < mapping_count; i++)
		if (pc >= mappings[i].start && pc < mappings[i].end)
			return &mappings[i];
	return NULL;
}

static const struct symbol *symbol_of(uint64_t pc)
{
	for (size_t i = 0; i < symbol_count; i++)
		if (symbols[i].pc == pc)
			return &symbols[i];
	return NULL;
}

/* The call is before the address to which it returns. */
static void note_symbols(const struct site *s)
{
	for (int i = 0; i < s->depth; i++) {
		const struct mapping *m = mapping_of(s->pc[i] - 1);
		struct symbol *more = !m || symbol_of(s->pc[i]) ? NULL : reallocarray(symbols, symbol_count + 1, sizeof *symbols);
		if (!more)
			continue;
		symbols = more;
		symbols[symbol_count++] = (struct symbol){
			.pc = s->pc[i], .file = m->path, .address = symbols_address(m->path, s->pc[i] - 1 - m->start + m->offset)
		};
	}
}

/* ---- output ---------------------------------------------------------------------- */

static int by_bytes(const void *a, const void *b)
{
	double x = ((const struct site *)a)->bytes, y = ((const struct site *)b)->bytes;
	return x < y ? 1 : x > y ? -1 : 0;
}

static void print_place(uint64_t pc)
{
	const struct symbol *symbol = symbol_of(pc);
	const struct mapping *m = mapping_of(pc - 1);
	if (symbol && symbol->text)
		symbols_print("    ", symbol);
	else if (m)
		printf("    %s+0x%" PRIx64 "\n", m->path, pc - 1 - m->start + m->offset);
	else
		printf("    0x%" PRIx64 "\n", pc);
}

static void print_site(const struct site *s)
{
	printf("\n%s%s%s in about %.0f blocks (%" PRIu64 " sample%s)\n", text_bold(), text_bytes(s->bytes), text_plain(),
	       s->blocks, s->samples, s->samples == 1 ? "" : "s");
	for (int i = 0; i < s->depth; i++)
		print_place(s->pc[i]);
}

int tool_leaks(int argc, char **argv)
{
	static const struct argp_option flags[] = {
		{ "top", 'n', "N", 0, "Print the N stacks that hold most (10)", 0 },
		{ 0 },
	};
	static const struct argp argp = { flags, parse, "FILE",
					  "Prints what a heap profile (hakmem run --profile) says was held when it was "
					  "written, by the stacks that asked for it. At a program's end that is what it never "
					  "freed.", NULL, NULL, NULL };
	double bytes = 0;
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	if (!read_profile())
		return TOOL_FAILED;
	if (site_count)
		qsort(sites, site_count, sizeof *sites, by_bytes);
	for (size_t i = 0; i < site_count; i++) {
		bytes += sites[i].bytes;
		if (i < top)
			note_symbols(&sites[i]);
	}
	symbols_resolve(symbols, symbol_count);
	printf("about %s held, by %zu stacks\n", text_bytes(bytes), site_count);
	for (size_t i = 0; i < site_count && i < top; i++)
		print_site(&sites[i]);
	return TOOL_OK;
}
