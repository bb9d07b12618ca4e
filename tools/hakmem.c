/* SPDX-License-Identifier: MIT */
/* hakmem COMMAND ...: the subcommands, and which is meant. */
#include "tool.h"

#include <stdlib.h>
#include <string.h>

#include "hakmem/hakmem.h"

const char *argp_program_version = "hakmem " HAKMEM_VERSION;

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
} commands[] = {
	{ "run", tool_run, "run a program on hakmem; --compare runs it without as well" },
	{ "stat", tool_stat, "statistics of a running process" },
	{ "top", tool_top, "all processes on hakmem" },
	{ "report", tool_report, "a page with pictures from recorded statistics" },
	{ "replay", tool_replay, "decides again what the learner decided, from its log" },
	{ "leaks", tool_leaks, "what a heap profile says is held, and by whom" },
	{ "symbolize", tool_symbolize, "functions and lines in reports of guarded blocks" },
	{ "topo", tool_topo, "nodes, memory, huge pages, and what the kernel allows" },
	{ "options", tool_options, "every HAKMEM_* variable" },
	{ "doctor", tool_doctor, "what to change on this machine, and why" },
};
#define COMMANDS (sizeof commands / sizeof *commands)

static const struct command *chosen;

static char *filter(int key, const char *text, void *input)
{
	char *out = NULL;
	size_t bytes;
	(void)input;
	if (key != ARGP_KEY_HELP_POST_DOC)
		return (char *)(uintptr_t)text;
	FILE *f = open_memstream(&out, &bytes);
	if (!f)
		return NULL;
	fputs("Commands:\n\n", f);
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].help);
	fputs("\n`hakmem COMMAND --help' has each command's options; hakmem(1) has all.", f);
	fclose(f);
	return out;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	switch (key) {
	case ARGP_KEY_ARG:
		for (size_t i = 0; i < COMMANDS; i++)
			if (!strcmp(arg, commands[i].name))
				chosen = &commands[i];
		if (!chosen)
			argp_error(state, "there is no command `%s'", arg);
		state->next--; /* the command's name is its argv[0] */
		return ARGP_ERR_UNKNOWN; /* the rest is the command's */
	case ARGP_KEY_ARGS:
		state->next = state->argc;
		return 0;
	default:
		return args_missing(key, state, "a command");
	}
}

int main(int argc, char **argv)
{
	static const struct argp argp = { NULL, parse, "COMMAND [ARGUMENT...]",
					  "Runs programs on the hakmem allocator and says what it does there.\v ", NULL,
					  filter, NULL };
	int first = 1;
	argp_err_exit_status = TOOL_USAGE;
	while (first < argc && argv[first][0] == '-')
		first++;
	/* what follows the command's name is for its own parser */
	argp_parse(&argp, first < argc ? first + 1 : argc, argv, ARGP_IN_ORDER, NULL, NULL);
	char name[64];
	snprintf(name, sizeof name, "hakmem %s", chosen->name);
	argv[first] = name;
	return chosen->run(argc - first, argv + first);
}
