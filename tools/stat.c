/* SPDX-License-Identifier: MIT */
/* hakmem stat and hakmem top: what processes on hakmem hold, from outside. */
#include "tool.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct settings {
	pid_t pid;
	bool json, pages, watch, once;
	double interval; /* seconds */
};

static struct settings settings = { .interval = 1 };

static error_t parse_common(int key, char *arg, struct argp_state *state)
{
	char *end;
	switch (key) {
	case 'j':
		settings.json = true;
		return 0;
	case 'p':
		settings.pages = true;
		return 0;
	case 'i':
		settings.interval = strtod(arg, &end);
		if (*end || !(settings.interval >= 0.01 && settings.interval <= 86400))
			argp_error(state, "an interval is 0.01 to 86400 seconds, not `%s'", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static void pause_between(void)
{
	struct timespec t = { (time_t)settings.interval,
			      (long)((settings.interval - (double)(time_t)settings.interval) * 1e9) };
	fflush(stdout);
	nanosleep(&t, NULL);
}

static uint64_t get(const json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

static void clear_screen(void)
{
	if (*text_plain())
		fputs("\033[H\033[J", stdout);
}

/* ---- stat ------------------------------------------------------------------------ */

static error_t parse_stat(int key, char *arg, struct argp_state *state)
{
	char *end;
	switch (key) {
	case 'w':
		settings.watch = true;
		return 0;
	case ARGP_KEY_ARG:
		settings.pid = (pid_t)strtol(arg, &end, 10);
		if (settings.pid <= 0 || *end || state->arg_num)
			argp_error(state, "one process id is expected, not `%s'", arg);
		return 0;
	case ARGP_KEY_NO_ARGS:
		return args_missing(key, state, "a process id");
	default:
		return parse_common(key, arg, state);
	}
}

static void heading(const char *text)
{
	printf("\n%s%s%s\n", text_bold(), text, text_plain());
}

static void bytes_row(const char *name, uint64_t bytes)
{
	printf("  %-28s %12s\n", name, text_bytes((double)bytes));
}

/* The count, and where there was a look before how many a second it makes. */
static void count_row(const char *name, uint64_t now, uint64_t before, double seconds)
{
	printf("  %-28s %12" PRIu64, name, now);
	if (seconds > 0)
		printf(" %12.0f/s", (double)(now - before) / seconds);
	putchar('\n');
}

static void print_node(const json_t *n)
{
	char title[64];
	snprintf(title, sizeof title, get(n, "policy") ? "node %" PRIu64 " under a policy, mode %" PRIu64 : "node %" PRIu64,
		 get(n, "node"), get(n, "policy"));
	heading(title);
	bytes_row("mapped", get(n, "mapped"));
	bytes_row("in slabs and runs", get(n, "claimed"));
	if (json_object_get(n, "resident")) {
		bytes_row("resident", get(n, "resident"));
		bytes_row("on huge pages", get(n, "huge"));
	}
	bytes_row("live in slabs", get(n, "live"));
	printf("  %-28s %12" PRIu64 "\n", "SuperSlabs in use", get(n, "superslabs"));
}

static void print_stat(const struct process *p, const json_t *now, const json_t *before)
{
	static const char *const counts[][2] = {
		{ "refills", "refills" },	      { "drains", "drains" },
		{ "slab_requests", "slab requests" }, { "remote_in", "remote frees" },
		{ "foreign_frees", "foreign frees" }, { "failed", "failed requests" },
		{ "faults", "bad frees survived" },
	};
	static const char *const tiers[][2] = {
		{ "tiny", "  to 2 KiB" }, { "pool", "  to 52 KiB" }, { "l25", "  to 1 MiB" }, { "huge", "  above" }
	};
	double seconds = before ? (double)(get(now, "monotonic_ms") - get(before, "monotonic_ms")) / 1000 : 0;
	const char *key;
	json_t *value;
	size_t i;
	printf("%s%s%s (process %" PRIu64 ") on hakmem %s\n", text_bold(), process_name(p), text_plain(), get(now, "pid"),
	       json_string_value(json_object_get(now, "library")));
	heading("memory");
	bytes_row("resident, all of the process", get(now, "rss"));
	bytes_row("mapped by hakmem", get(now, "mapped"));
	bytes_row("live", get(now, "live"));
	for (i = 0; i < sizeof tiers / sizeof *tiers; i++)
		bytes_row(tiers[i][1], get(json_object_get(now, "tiers"), tiers[i][0]));
	bytes_row("cached in magazines", get(now, "cached"));
	bytes_row("metadata", get(now, "metadata"));
	bytes_row("given back so far", get(now, "released"));
	heading("events");
	count_row("heaps", get(now, "heaps"), get(before, "heaps"), 0);
	for (i = 0; i < sizeof counts / sizeof *counts; i++)
		count_row(counts[i][1], get(now, counts[i][0]), get(before, counts[i][0]), seconds);
	heading("slabs found");
	json_object_foreach(json_object_get(now, "stages"), key, value)
		count_row(key, (uint64_t)json_integer_value(value), get(json_object_get(before, "stages"), key), seconds);
	json_array_foreach(json_object_get(now, "nodes"), i, value)
		print_node(value);
	heading("engines");
	json_object_foreach(json_object_get(now, "engines"), key, value)
		if (json_is_string(value))
			printf("  %-28s %12s\n", key, json_string_value(value));
}

int tool_stat(int argc, char **argv)
{
	static const struct argp_option flags[] = {
		{ "json", 'j', NULL, 0, "Print one JSON object, as HAKMEM_STATS=json: writes it", 0 },
		{ "pages", 'p', NULL, 0, "Also resident and huge pages by node. The kernel counts them and holds up the "
					 "process's mmap meanwhile", 0 },
		{ "watch", 'w', NULL, 0, "Again and again, with rates, until the process ends", 0 },
		{ "interval", 'i', "SECONDS", 0, "Time between two looks (1)", 0 },
		{ 0 },
	};
	static const struct argp argp = { flags, parse_stat, "PID",
					  "Prints the statistics of a running process, read from its memory. The process "
					  "takes no part in it.", NULL, NULL, NULL };
	int why;
	json_t *before = NULL, *now;
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	struct process *p = process_open(settings.pid, &why);
	if (!p)
		return process_refused(settings.pid, why);
	while ((now = process_read(p, settings.pages))) {
		if (settings.watch && !settings.json)
			clear_screen();
		if (settings.json)
			text_json(now, stdout);
		else
			print_stat(p, now, before);
		json_decref(before);
		before = now;
		if (!settings.watch)
			break;
		pause_between();
	}
	int code = before ? TOOL_OK : process_refused(settings.pid, ESRCH);
	json_decref(before);
	process_close(p);
	return code;
}

/* ---- top ------------------------------------------------------------------------- */

struct row {
	pid_t pid;
	char name[24];
	json_t *now;
};

static error_t parse_top(int key, char *arg, struct argp_state *state)
{
	switch (key) {
	case 'o':
		settings.once = true;
		return 0;
	case ARGP_KEY_ARG:
		return args_none(key, state);
	default:
		return parse_common(key, arg, state);
	}
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = get(((const struct row *)a)->now, "rss"), y = get(((const struct row *)b)->now, "rss");
	return x < y ? 1 : x > y ? -1 : 0;
}

/* Every process that may be read. *refused: how many may not. */
static size_t look(struct row **rows, unsigned *refused)
{
	size_t count = 0;
	struct dirent *d;
	DIR *proc = opendir("/proc");
	*rows = NULL;
	*refused = 0;
	while (proc && (d = readdir(proc))) {
		int why;
		pid_t pid = (pid_t)atoi(d->d_name);
		struct process *p = pid > 0 && pid != getpid() ? process_open(pid, &why) : NULL;
		if (!p) {
			*refused += pid > 0 && why == EPERM;
			continue;
		}
		json_t *now = process_read(p, settings.pages);
		struct row *more = now ? reallocarray(*rows, count + 1, sizeof **rows) : NULL;
		if (more) {
			*rows = more;
			more[count].pid = pid;
			snprintf(more[count].name, sizeof more[count].name, "%s", process_name(p));
			more[count++].now = now;
		} else {
			json_decref(now);
		}
		process_close(p);
	}
	if (proc)
		closedir(proc);
	if (count)
		qsort(*rows, count, sizeof **rows, by_size);
	return count;
}

static uint64_t huge_of(const json_t *now)
{
	uint64_t huge = get(now, "span_huge");
	size_t i;
	json_t *n;
	json_array_foreach(json_object_get(now, "nodes"), i, n)
		huge += get(n, "huge");
	return huge;
}

static void print_rows(const struct row *rows, size_t count, unsigned refused)
{
	printf("%s%8s  %-16s %10s %10s %10s %10s %7s %12s%s%s\n", text_bold(), "PID", "COMMAND", "RESIDENT", "LIVE", "MAPPED",
	       "CACHED", "HEAPS", "REMOTE FREES", settings.pages ? "       HUGE" : "", text_plain());
	for (size_t i = 0; i < count; i++) {
		const json_t *o = rows[i].now;
		printf("%8d  %-16.16s %10s %10s %10s %10s %7" PRIu64 " %12" PRIu64, (int)rows[i].pid, rows[i].name,
		       text_bytes((double)get(o, "rss")), text_bytes((double)get(o, "live")),
		       text_bytes((double)get(o, "mapped")), text_bytes((double)get(o, "cached")), get(o, "heaps"),
		       get(o, "remote_in"));
		if (settings.pages)
			printf(" %10s", text_bytes((double)huge_of(o)));
		putchar('\n');
	}
	if (!count)
		puts("no process on hakmem");
	if (refused)
		printf("%s%u processes of others may not be read%s\n", text_dim(), refused, text_plain());
}

int tool_top(int argc, char **argv)
{
	static const struct argp_option flags[] = {
		{ "json", 'j', NULL, 0, "Print one JSON object a process and a look", 0 },
		{ "once", 'o', NULL, 0, "Look once; so it is, too, if the output is no terminal", 0 },
		{ "pages", 'p', NULL, 0, "Also huge pages, which the kernel counts (see hakmem stat)", 0 },
		{ "interval", 'i', "SECONDS", 0, "Time between two looks (1)", 0 },
		{ 0 },
	};
	static const struct argp argp = { flags, parse_top, NULL, "Lists all processes on hakmem, the largest first.", NULL,
					  NULL, NULL };
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	bool once = settings.once || !isatty(STDOUT_FILENO);
	for (;;) {
		struct row *rows;
		unsigned refused;
		size_t count = look(&rows, &refused);
		if (!settings.json) {
			if (!once)
				clear_screen();
			print_rows(rows, count, refused);
		}
		for (size_t i = 0; i < count; i++) {
			if (settings.json)
				text_json(rows[i].now, stdout);
			json_decref(rows[i].now);
		}
		free(rows);
		if (once)
			return TOOL_OK;
		pause_between();
	}
}
