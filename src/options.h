/* SPDX-License-Identifier: MIT */
/* Options from the environment: one table, read once at start-up. */
#ifndef HAK_OPTIONS_H
#define HAK_OPTIONS_H

#include "base.h"

enum hak_option {
#define OPT(name, def, min, max, unit, help) HAK_OPT_##name,
#define STR(name, help)
#include "options.def"
#undef OPT
#undef STR
	HAK_OPTIONS
};

enum hak_option_string {
#define OPT(name, def, min, max, unit, help)
#define STR(name, help) HAK_STR_##name,
#include "options.def"
#undef OPT
#undef STR
	HAK_STRINGS
};

extern long hak_option_values[HAK_OPTIONS]; /* immutable after the constructor */
extern const char *hak_option_strings[HAK_STRINGS]; /* NULL if not set */

static inline long hak_option_get(enum hak_option o)
{
	return hak_option_values[o];
}

/* Reads HAKMEM_* from envp; nothing in a setuid program. */
void hak_options_read(char **envp);

#endif
