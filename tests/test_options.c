/* SPDX-License-Identifier: MIT */
/* Are HAKMEM_* variables read as the table says, and does what is wrong warn once and change nothing? */
#include "options.h"

#include <unistd.h>

#include "suite.h"

struct row {
	const char *name; /* as the table has it */
	long value, min, max;
};

static const struct row rows[] = {
#define OPT(name, def, min, max, unit, help) { #name, def, min, max },
#define STR(name, help)
#include "options.def"
#undef OPT
#undef STR
};
#define ROWS (sizeof rows / sizeof *rows)

static char said[65536]; /* what the last read wrote to stderr */

static void read_env(const char *const *env)
{
	FILE *f = tmpfile();
	int err = dup(STDERR_FILENO);
	EXPECT(f && err >= 0 && dup2(fileno(f), STDERR_FILENO) >= 0, "no file for stderr");
	hak_options_read((char **)(uintptr_t)env);
	dup2(err, STDERR_FILENO);
	close(err);
	rewind(f);
	said[fread(said, 1, sizeof said - 1, f)] = 0;
	fclose(f);
}

static void read_one(const char *var)
{
	const char *const env[] = { "PATH=/bin", var, "HOME=/", NULL };
	read_env(env);
}

static int lines(void)
{
	int n = 0;
	for (const char *s = said; (s = strchr(s, '\n')); s++)
		n++;
	return n;
}

/* "HAKMEM_" NAME "=" value; by turns in two buffers */
static const char *var(const char *name, const char *value)
{
	static char text[2][1024];
	static int turn;
	char *s = text[turn ^= 1];
	size_t n = (size_t)snprintf(s, sizeof *text, "HAKMEM_%s=%s", name, value);
	EXPECT(n < sizeof *text, "too long");
	for (char *p = s; *p != '='; p++)
		if (*p >= 'a' && *p <= 'z')
			*p = (char)(*p - 'a' + 'A');
	return s;
}

static const char *number(long v)
{
	static char text[32];
	snprintf(text, sizeof text, "%ld", v);
	return text;
}

static void expect_defaults(const char *after)
{
	for (size_t i = 0; i < ROWS; i++)
		EXPECT(hak_option_values[i] == rows[i].value, "after %s: %s is %ld", after, rows[i].name, hak_option_values[i]);
}

START_TEST(without_variables_every_option_has_its_default_within_its_limits)
{
	read_one("LANG=C");
	ck_assert_str_eq(said, "");
	expect_defaults("nothing");
	for (size_t i = 0; i < ROWS; i++)
		EXPECT(rows[i].min <= rows[i].value && rows[i].value <= rows[i].max, "%s", rows[i].name);
	ck_assert_ptr_null(hak_option_strings[HAK_STR_stats]);
	read_env((const char *const[]){ NULL });
	hak_options_read(NULL); /* a program may have no environment at all */
	expect_defaults("no environment");
}
END_TEST

START_TEST(every_option_takes_its_least_and_its_greatest_value)
{
	for (size_t i = 0; i < ROWS; i++) {
		const long values[] = { rows[i].min, rows[i].max, (rows[i].min + rows[i].max) / 2 };
		for (int k = 0; k < 3; k++) {
			read_one(var(rows[i].name, number(values[k])));
			EXPECT(!*said, "%s=%ld: %s", rows[i].name, values[k], said);
			EXPECT(hak_option_values[i] == values[k], "%s: %ld", rows[i].name, hak_option_values[i]);
		}
		hak_option_values[i] = rows[i].value;
		expect_defaults(rows[i].name);
	}
}
END_TEST

START_TEST(a_bad_value_warns_once_names_it_and_keeps_the_default)
{
	static const char *const bad[] = { "", " ", "no", "-1", "+1", "1 ", " 1", "1x", "0x1", "1.0", "1e3", "9223372036854775808",
					   "18446744073709551616", "99999999999999999999999999999999999999999" };
	for (size_t i = 0; i < ROWS; i++) {
		for (size_t k = 0; k < sizeof bad / sizeof *bad + 2; k++) {
			const char *value = k < sizeof bad / sizeof *bad ? bad[k] : number(rows[i].max + 1);
			if (k == sizeof bad / sizeof *bad + 1) {
				if (rows[i].min == 0)
					continue;
				value = number(rows[i].min - 1);
			}
			const char *v = var(rows[i].name, value);
			read_one(v);
			EXPECT(lines() == 1 && !strncmp(said, "hakmem: ", 8), "%s: %s", v, said);
			EXPECT(strstr(said, v), "%s: %s", v, said);
			expect_defaults(v);
		}
	}
}
END_TEST

START_TEST(an_overlong_value_still_warns_with_one_whole_line)
{
	char text[900];
	memset(text, '7', sizeof text - 1);
	text[sizeof text - 1] = 0;
	read_one(var("decay_ms", text));
	ck_assert_int_eq(lines(), 1);
	ck_assert_int_eq(said[strlen(said) - 1], '\n');
	ck_assert_ptr_nonnull(strstr(said, "HAKMEM_DECAY_MS"));
	expect_defaults("900 digits");
}
END_TEST

START_TEST(an_unknown_name_warns_once_and_names_the_nearest)
{
	static const struct {
		const char *wrong, *near;
	} table[] = {
		{ "HAKMEM_ABORTS=1", "HAKMEM_ABORT?" },	   { "HAKMEM_ABOTR=1", "HAKMEM_ABORT?" },
		{ "HAKMEM_DECAY=1", "HAKMEM_DECAY_MS?" },  { "HAKMEM_DELAY_MS=1", "HAKMEM_DECAY_MS?" },
		{ "HAKMEM_RECLAIMS=1", "HAKMEM_RECLAIM?" }, { "HAKMEM_TPH=1", "HAKMEM_THP?" },
		{ "HAKMEM_STATISTICS=1", "HAKMEM_STATS?" }, { "HAKMEM_STAT=1", "HAKMEM_STATS?" },
		{ "HAKMEM_HUGEZONE_KIB=1", "HAKMEM_HUGE_ZONE_KIB?" },
		{ "HAKMEM_MAGAZINE_MIB=1", "HAKMEM_MAGAZINE_KIB?" },
		{ "HAKMEM_abort=0", "HAKMEM_ABORT?" }, /* names are upper case */
	};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		read_one(table[i].wrong);
		EXPECT(lines() == 1 && strstr(said, table[i].near), "%s: %s", table[i].wrong, said);
		/* what was written is named, without its value */
		EXPECT(!strncmp(strstr(said, "HAKMEM_"), table[i].wrong, strcspn(table[i].wrong, "=")), "%s: %s",
		       table[i].wrong, said);
		expect_defaults(table[i].wrong);
	}
}
END_TEST

START_TEST(strange_names_do_no_harm)
{
	char text[500];
	memset(text, 'A', sizeof text - 1);
	memcpy(text, "HAKMEM_", 7);
	text[sizeof text - 1] = 0;
	text[sizeof text - 3] = '=';
	read_one(text);
	ck_assert_int_eq(lines(), 1);
	read_one("HAKMEM_=1");
	ck_assert_int_eq(lines(), 1);
	read_one("HAKMEM_ABORT"); /* no value: not a variable of ours or anyone's */
	ck_assert_int_eq(lines(), 0);
	read_one("HAKMEM=1");
	ck_assert_int_eq(lines(), 0);
	read_one("NOTHAKMEM_ABORT=7");
	ck_assert_int_eq(lines(), 0);
	expect_defaults("strange names");
}
END_TEST

START_TEST(many_variables_are_read_each_by_itself)
{
	const char *const env[] = { "HAKMEM_ABORT=0", "A=1", "HAKMEM_DECAY_MS=x", "HAKMEM_THP=0",
				    "HAKMEM_STATS=json:/tmp/x", "HAKMEM_NOSUCH=1", NULL };
	read_env(env);
	ck_assert_int_eq(lines(), 2);
	ck_assert_int_eq(hak_option_get(HAK_OPT_abort), 0);
	ck_assert_int_eq(hak_option_get(HAK_OPT_thp), 0);
	ck_assert_int_eq(hak_option_get(HAK_OPT_decay_ms), 1000);
	ck_assert_str_eq(hak_option_strings[HAK_STR_stats], "json:/tmp/x");
	hak_option_strings[HAK_STR_stats] = NULL; /* none at exit */
}
END_TEST

START_TEST(an_empty_string_is_none)
{
	read_one("HAKMEM_STATS=");
	ck_assert_ptr_null(hak_option_strings[HAK_STR_stats]);
	ck_assert_int_eq(lines(), 0);
}
END_TEST

START_TEST(words_stand_for_numbers)
{
	static const char *const words[] = { "off", "auto", "uring", "vector", "loop" };
	for (long i = 0; i < 5; i++) {
		read_one(var("reclaim", words[i]));
		EXPECT(!*said && hak_option_values[HAK_OPT_reclaim] == i, "%s: %ld", words[i],
		       hak_option_values[HAK_OPT_reclaim]);
	}
	hak_option_values[HAK_OPT_reclaim] = 1;
	static const char *const bad[] = { "aut", "autos", "AUTO", "auto|uring", "|", "off|auto|uring|vector|loop" };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		read_one(var("reclaim", bad[i]));
		EXPECT(lines() == 1, "%s: %s", bad[i], said);
		expect_defaults(bad[i]);
	}
}
END_TEST

SUITE("options", 20,
      CALM(without_variables_every_option_has_its_default_within_its_limits),
      CALM(every_option_takes_its_least_and_its_greatest_value),
      CALM(a_bad_value_warns_once_names_it_and_keeps_the_default),
      CALM(an_overlong_value_still_warns_with_one_whole_line),
      CALM(an_unknown_name_warns_once_and_names_the_nearest),
      CALM(strange_names_do_no_harm),
      CALM(many_variables_are_read_each_by_itself),
      CALM(an_empty_string_is_none), CALM(words_stand_for_numbers))
