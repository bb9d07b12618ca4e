/* SPDX-License-Identifier: MIT */
/* The parser of HAKMEM_* variables. Neither allocates nor calls getenv. */
#include "options.h"

#include <string.h>
#include <sys/auxv.h>

#include "die.h"

#define PREFIX "HAKMEM_"
#define NAME_MAX_ 32

struct number {
	const char *name;
	long min, max;
	const char *unit;
};

long hak_option_values[HAK_OPTIONS] = {
#define OPT(name, def, min, max, unit, help) def,
#define STR(name, help)
#include "options.def"
#undef OPT
#undef STR
};
const char *hak_option_strings[HAK_STRINGS];

static const struct number numbers[HAK_OPTIONS] = {
#define OPT(name, def, min, max, unit, help) { #name, min, max, unit },
#define STR(name, help)
#include "options.def"
#undef OPT
#undef STR
};
static const char *const strings[HAK_STRINGS] = {
#define OPT(name, def, min, max, unit, help)
#define STR(name, help) #name,
#include "options.def"
#undef OPT
#undef STR
};

/* Length of the value's name if `var` ("DECAY_MS=100") names `name`, else 0. */
static bool names(const char *var, size_t len, const char *name)
{
	if (strlen(name) != len)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = name[i] >= 'a' && name[i] <= 'z' ? (char)(name[i] - 'a' + 'A') : name[i];
		if (var[i] != c)
			return false;
	}
	return true;
}

static bool parse(const char *s, long *out)
{
	long v = 0;
	if (!*s)
		return false;
	for (; *s; s++) {
		if (*s < '0' || *s > '9' || v > (LONG_MAX - 9) / 10)
			return false;
		v = v * 10 + (*s - '0');
	}
	*out = v;
	return true;
}

/* The place of the word among the unit's, which `separators` divide; -1: it is none of them. */
static long place_of(const char *s, size_t len, const char *unit, const char *separators)
{
	for (long place = 0; *unit; place++) {
		size_t n = strcspn(unit, separators);
		if (n == len && strncmp(unit, s, n) == 0)
			return place;
		unit += n + (unit[n] != 0);
	}
	return -1;
}

/* A word of a unit like "off|on", words of one like "a,b,c", or a number. */
static bool value_of(const char *s, const char *unit, long *out)
{
	if (parse(s, out))
		return true;
	if (strchr(unit, '|')) {
		*out = place_of(s, strlen(s), unit, "|");
		return *out >= 0;
	}
	*out = 0;
	for (; strchr(unit, ',') && *s; s += *s == ',') {
		size_t len = strcspn(s, ",");
		long place = place_of(s, len, unit, ",");
		if (place < 0)
			return false;
		*out |= 2L << place;
		s += len;
	}
	return *out != 0;
}

/* Levenshtein distance, bounded by the length of option names. */
static unsigned distance(const char *a, size_t la, const char *b)
{
	unsigned char row[NAME_MAX_ + 1];
	size_t lb = strlen(b);
	if (la > NAME_MAX_ || lb > NAME_MAX_)
		return UINT_MAX;
	for (size_t j = 0; j <= lb; j++)
		row[j] = (unsigned char)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned diagonal = row[0];
		row[0] = (unsigned char)i;
		for (size_t j = 1; j <= lb; j++) {
			char c = a[i - 1] >= 'A' && a[i - 1] <= 'Z' ? (char)(a[i - 1] - 'A' + 'a') : a[i - 1];
			unsigned cost = diagonal + (c != b[j - 1]);
			diagonal = row[j];
			unsigned best = row[j - 1] < row[j] ? row[j - 1] + 1u : row[j] + 1u;
			row[j] = (unsigned char)(cost < best ? cost : best);
		}
	}
	return row[lb];
}

static void unknown(const char *var, size_t len)
{
	const char *nearest = numbers[0].name;
	unsigned best = UINT_MAX;
	char line[160];
	struct hak_text t = { line, 0, sizeof line - 1 };
	for (int i = 0; i < HAK_OPTIONS + HAK_STRINGS; i++) {
		const char *name = i < HAK_OPTIONS ? numbers[i].name : strings[i - HAK_OPTIONS];
		unsigned d = distance(var, len, name);
		if (d < best) {
			best = d;
			nearest = name;
		}
	}
	hak_text_str(&t, PREFIX);
	for (size_t i = 0; i < len && i < NAME_MAX_; i++) {
		char c[2] = { var[i], 0 };
		hak_text_str(&t, c);
	}
	hak_text_str(&t, " (did you mean " PREFIX);
	for (const char *p = nearest; *p; p++) {
		char c[2] = { *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p, 0 };
		hak_text_str(&t, c);
	}
	hak_text_str(&t, "?)");
	line[t.len] = 0;
	hak_warn("unknown option ignored", line);
}

static void read_one(const char *var)
{
	const char *eq = strchr(var, '=');
	if (!eq)
		return;
	size_t len = (size_t)(eq - var);
	for (int i = 0; i < HAK_STRINGS; i++)
		if (names(var, len, strings[i])) {
			hak_option_strings[i] = eq[1] ? eq + 1 : NULL;
			return;
		}
	for (int i = 0; i < HAK_OPTIONS; i++)
		if (names(var, len, numbers[i].name)) {
			long v;
			if (value_of(eq + 1, numbers[i].unit, &v) && v >= numbers[i].min && v <= numbers[i].max)
				hak_option_values[i] = v;
			else
				hak_warn("bad value, the default stays", var - strlen(PREFIX));
			return;
		}
	unknown(var, len);
}

void hak_options_read(char **envp)
{
	/* a setuid program's environment is its caller's, not its owner's */
	if (getauxval(AT_SECURE))
		return;
	for (; envp && *envp; envp++)
		if (strncmp(*envp, PREFIX, strlen(PREFIX)) == 0)
			read_one(*envp + strlen(PREFIX));
}
