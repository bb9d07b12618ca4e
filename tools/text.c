/* SPDX-License-Identifier: MIT */
/* Output, and small files of the kernel's. */
#include "tool.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void tool_warn(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fflush(stdout);
	fputs("hakmem: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

static const char *escape(const char *sequence)
{
	static int colour = -1;
	if (colour < 0) {
		const char *no = getenv("NO_COLOR"), *terminal = getenv("TERM");
		colour = isatty(STDOUT_FILENO) && !(no && *no) && !(terminal && !strcmp(terminal, "dumb"));
	}
	return colour ? sequence : "";
}

const char *text_bold(void)
{
	return escape("\033[1m");
}
const char *text_red(void)
{
	return escape("\033[31m");
}
const char *text_green(void)
{
	return escape("\033[32m");
}
const char *text_dim(void)
{
	return escape("\033[2m");
}
const char *text_plain(void)
{
	return escape("\033[0m");
}

const char *text_bytes(double bytes)
{
	static char buffers[8][32];
	static unsigned turn;
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
	char *s = buffers[turn++ % 8];
	size_t u = 0;
	while (bytes >= 1024 && u + 1 < sizeof units / sizeof *units) {
		bytes /= 1024;
		u++;
	}
	snprintf(s, sizeof *buffers, u && bytes < 100 ? "%.1f %s" : "%.0f %s", bytes, units[u]);
	return s;
}

char *text_file(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;
	size_t cap = 0;
	if (!f)
		return NULL;
	ssize_t n = getdelim(&text, &cap, 0, f);
	int err = errno;
	fclose(f);
	errno = err;
	if (n < 0) {
		/* empty, or it cannot be read after all */
		free(text);
		return NULL;
	}
	if (n > 0 && text[n - 1] == '\n')
		text[n - 1] = 0;
	return text;
}

long long text_number(const char *path)
{
	char *text = text_file(path), *end;
	long long v = -1;
	if (text && *text >= '0' && *text <= '9') {
		v = strtoll(text, &end, 10);
		if (*end && *end != '\n' && *end != ' ')
			v = -1;
	}
	free(text);
	return v;
}

void text_json(const json_t *object, FILE *to)
{
	json_dumpf(object, to, JSON_COMPACT);
	fputc('\n', to);
}
