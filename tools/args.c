/* SPDX-License-Identifier: MIT */
/* Arguments that several subcommands have: what argp leaves to each. */
#include "tool.h"

error_t args_missing(int key, struct argp_state *state, const char *what)
{
	if (key == ARGP_KEY_NO_ARGS)
		argp_error(state, "%s is missing", what);
	return ARGP_ERR_UNKNOWN;
}

error_t args_none(int key, struct argp_state *state)
{
	if (key == ARGP_KEY_ARG)
		argp_error(state, "no arguments are expected");
	return ARGP_ERR_UNKNOWN;
}

error_t args_one(int key, char *arg, struct argp_state *state, const char **operand)
{
	if (key != ARGP_KEY_ARG)
		return ARGP_ERR_UNKNOWN;
	if (state->arg_num)
		argp_error(state, "one argument is expected, not also `%s'", arg);
	*operand = arg;
	return 0;
}

static error_t parse_json(int key, char *arg, struct argp_state *state)
{
	bool *json = state->input;
	(void)arg;
	if (key != 'j')
		return args_none(key, state);
	*json = true;
	return 0;
}

bool args_json(int argc, char **argv, const char *help)
{
	static const struct argp_option flags[] = {
		{ "json", 'j', NULL, 0, "Print an array of objects", 0 },
		{ 0 },
	};
	struct argp argp = { flags, parse_json, NULL, help, NULL, NULL, NULL };
	bool json = false;
	argp_parse(&argp, argc, argv, 0, NULL, &json);
	return json;
}
