/* SPDX-License-Identifier: MIT */
/*
 * hakmem symbolize: copies text, and puts functions and lines in the place of the addresses in reports of
 * guarded blocks. A stack is printed when its last line has come: a program's output can go through this.
 */
#include "tool.h"

#include <errno.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH 64

static const char *input;

/* The lines of a stack. */
struct stack {
	size_t depth;
	char *lines[DEPTH];
	char *before[DEPTH]; /* of each line, what is before the file's name: a log's own words, too */
	struct symbol symbols[DEPTH];
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	return args_one(key, arg, state, &input);
}

static void print(struct stack *s)
{
	symbols_resolve(s->symbols, s->depth);
	for (size_t i = 0; i < s->depth; i++) {
		if (s->symbols[i].text)
			symbols_print(s->before[i], &s->symbols[i]);
		else
			fputs(s->lines[i], stdout);
		free(s->lines[i]);
		free(s->before[i]);
		free((char *)(uintptr_t)s->symbols[i].file);
		free(s->symbols[i].text);
	}
	s->depth = 0;
}

static bool add(struct stack *s, const char *line, const regmatch_t *part)
{
	size_t i = s->depth;
	char *file = strndup(line + part[1].rm_so, (size_t)(part[1].rm_eo - part[1].rm_so));
	s->lines[i] = strdup(line);
	s->before[i] = strndup(line, (size_t)part[1].rm_so);
	if (!file || !s->lines[i] || !s->before[i])
		return false;
	uint64_t offset = strtoull(line + part[2].rm_so, NULL, 16), pc = strtoull(line + part[3].rm_so, NULL, 16);
	s->symbols[i] = (struct symbol){ .pc = pc, .file = file, .address = symbols_fixed(file) ? pc : offset };
	s->depth++;
	return true;
}

static bool copy(FILE *from)
{
	static struct stack stack;
	regex_t frame;
	regmatch_t part[4];
	char *line = NULL;
	size_t cap = 0;
	if (regcomp(&frame, "    (/.+)\\+(0x[0-9a-f]+) \\[(0x[0-9a-f]+)\\]$", REG_EXTENDED | REG_NEWLINE))
		return false;
	while (getline(&line, &cap, from) > 0) {
		bool is_frame = !regexec(&frame, line, 4, part, 0);
		if (!is_frame || stack.depth == DEPTH)
			print(&stack);
		if (!is_frame || !add(&stack, line, part))
			fputs(line, stdout);
		if (!is_frame)
			fflush(stdout);
	}
	print(&stack);
	regfree(&frame);
	free(line);
	return !ferror(from) && !fflush(stdout);
}

int tool_symbolize(int argc, char **argv)
{
	static const struct argp argp = { NULL, parse, "[FILE]",
					  "Copies FILE, or its input, and puts functions and lines in the place of the "
					  "addresses in reports of guarded blocks (hakmem run --guarded).", NULL, NULL, NULL };
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	bool is_input = !input || !strcmp(input, "-");
	FILE *from = is_input ? stdin : fopen(input, "re");
	if (!from) {
		tool_warn("%s: %s", input, strerror(errno));
		return TOOL_FAILED;
	}
	bool ok = copy(from);
	if (!ok)
		tool_warn("%s: %s", is_input ? "-" : input, strerror(errno));
	if (!is_input)
		fclose(from);
	return ok ? TOOL_OK : TOOL_FAILED;
}
