/* SPDX-License-Identifier: MIT */
/* hakmem options: the library's table of HAKMEM_* variables. */
#include "tool.h"

#include <ctype.h>
#include <string.h>

static const struct option_row {
	const char *name;
	long def, min, max; /* min > max: a string */
	const char *unit, *help;
} rows[] = {
#define OPT(name, def, min, max, unit, help) { #name, def, min, max, unit, help },
#define STR(name, help) { #name, 0, 1, 0, "text", help },
#include "options.def"
#undef OPT
#undef STR
};
#define ROWS (sizeof rows / sizeof *rows)

static const char *variable(const char *name)
{
	static char upper[64];
	size_t n = (size_t)snprintf(upper, sizeof upper, "HAKMEM_%s", name);
	for (size_t i = 0; i < n; i++)
		upper[i] = (char)toupper((unsigned char)upper[i]);
	return upper;
}

/* Word number n of a list with bars. */
static const char *word(const char *list, long n)
{
	static char text[32];
	while (n-- && strchr(list, '|'))
		list = strchr(list, '|') + 1;
	snprintf(text, sizeof text, "%.*s", (int)strcspn(list, "|"), list);
	return text;
}

static void print_json(void)
{
	json_t *list = json_array();
	for (size_t i = 0; i < ROWS; i++) {
		json_t *o = json_pack("{s:s, s:s, s:s}", "name", variable(rows[i].name), "unit", rows[i].unit, "help",
				      rows[i].help);
		if (rows[i].min <= rows[i].max)
			json_object_update_new(o, json_pack("{s:I, s:I, s:I}", "default", (json_int_t)rows[i].def, "min",
							    (json_int_t)rows[i].min, "max", (json_int_t)rows[i].max));
		json_array_append_new(list, o);
	}
	text_json(list, stdout);
	json_decref(list);
}

int tool_options(int argc, char **argv)
{
	if (args_json(argc, argv, "Prints every HAKMEM_* variable: default, range and effect.")) {
		print_json();
		return TOOL_OK;
	}
	for (size_t i = 0; i < ROWS; i++) {
		const struct option_row *r = &rows[i];
		printf("%s%s%s", text_bold(), variable(r->name), text_plain());
		if (r->min > r->max)
			printf("  %snot set; text%s\n", text_dim(), text_plain());
		else if (strchr(r->unit, '|'))
			printf("  %s%s; %s%s\n", text_dim(), word(r->unit, r->def), r->unit, text_plain());
		else
			printf("  %s%ld; %ld to %ld %s%s\n", text_dim(), r->def, r->min, r->max, r->unit, text_plain());
		printf("    %s\n", r->help);
	}
	return TOOL_OK;
}
