/* SPDX-License-Identifier: MIT */
/*
 * Can any environment make the option parser misread, leave its table's bounds or go wrong?
 * For libFuzzer: an input is an environment, one variable a line.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "limit.h"
#include "options.h"
#include "record.h"

#define VARIABLES 64u

static const struct {
	long value, min, max;
} table[] = {
#define OPT(name, def, min, max, unit, help) { def, min, max },
#define STR(name, help)
#include "options.def"
#undef OPT
#undef STR
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_back(void)
{
	for (int i = 0; i < HAK_OPTIONS; i++)
		hak_option_values[i] = table[i].value;
	for (int i = 0; i < HAK_STRINGS; i++)
		hak_option_strings[i] = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *env[VARIABLES + 1];
	size_t count = 0;
	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = 0;
	for (char *line = strtok(text, "\n"); line && count < VARIABLES; line = strtok(NULL, "\n"))
		env[count++] = line;
	env[count] = NULL;
	hak_options_read(env);
	for (int i = 0; i < HAK_OPTIONS; i++)
		if (hak_option_values[i] < table[i].min || hak_option_values[i] > table[i].max)
			abort();
	for (int i = 0; i < HAK_STRINGS; i++) {
		const char *s = hak_option_strings[i];
		if (!s)
			continue;
		if (s < text || s >= text + size)
			abort();
		uint64_t bytes = hak_limit_parse(s, 1u << 30), more = hak_limit_parse(s, 1u << 31);
		if (bytes > more || (strchr(s, '%') && bytes > 1u << 30))
			abort();
	}
	/* what those strings say; no handler, which would be the fuzzer's own signals' */
	hak_option_values[HAK_OPT_stats_signal] = 0;
	hak_record_start();
	hak_limit_start();
	put_back();
	/* nothing may be written to a made-up path, at exit above all */
	hak_record_start();
	hak_limit_start();
	free(text);
	return 0;
}
