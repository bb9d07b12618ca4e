/* SPDX-License-Identifier: MIT */
/* hakmem run: a program on hakmem, and beside the malloc it would have had. */
#include "tool.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hakmem/hakmem.h"

#define OPTION_KEYS 1000 /* argp keys of the library's options, in the order of the table */
#define KEY_COMPARE 1
#define KEY_RUNS 2
#define KEY_LIBRARY 3
#define RUNS_MOST 100
#define PROFILE_FILE "hakmem-%p.heap"

static const char *const names[] = {
#define OPT(name, def, min, max, unit, help) #name,
#define STR(name, help) #name,
#include "options.def"
#undef OPT
#undef STR
};
#define NAMES (sizeof names / sizeof *names)

static struct {
	const char *values[NAMES]; /* of HAKMEM_* variables; NULL: as they are */
	const char *library;
	char **command;
	bool compare, profile;
	unsigned runs;
} settings = { .runs = 1 };

/* ---- arguments ------------------------------------------------------------------- */

static struct argp_option *flags(void)
{
	static const char *const helps[] = {
#define OPT(name, def, min, max, unit, help) help,
#define STR(name, help) help,
#include "options.def"
#undef OPT
#undef STR
	};
	static const char *const units[] = {
#define OPT(name, def, min, max, unit, help) unit,
#define STR(name, help) "HOW",
#include "options.def"
#undef OPT
#undef STR
	};
	static struct argp_option all[NAMES + 6] = {
		{ "compare", KEY_COMPARE, NULL, 0, "Run it without hakmem as well, and print both", 1 },
		{ "runs", KEY_RUNS, "N", 0, "With --compare: N times each, in turn; medians are printed (1)", 1 },
		{ "library", KEY_LIBRARY, "FILE", 0, "This libhakmem.so instead of the installed one", 1 },
		{ NULL, 0, NULL, 0, "Options of the library (hakmem options has defaults and ranges):", 2 },
	};
	static char spelt[NAMES][40], arg[NAMES][64];
	for (size_t i = 0; i < NAMES; i++) {
		for (size_t k = 0; names[i][k]; k++)
			spelt[i][k] = names[i][k] == '_' ? '-' : names[i][k];
		bool words = strchr(units[i], '|') != NULL; /* to be typed as they are */
		for (size_t k = 0; units[i][k] && k + 1 < sizeof *arg; k++)
			arg[i][k] = (char)(units[i][k] >= 'a' && units[i][k] <= 'z' && !words ? units[i][k] - 32 : units[i][k]);
		/* without a value: a table, a file in this folder */
		bool optional = !strcmp(names[i], "stats") || !strcmp(names[i], "profile");
		all[4 + i] = (struct argp_option){ spelt[i], OPTION_KEYS + (int)i, arg[i], optional ? OPTION_ARG_OPTIONAL : 0,
						   helps[i], 2 };
	}
	return all;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	char *end;
	if (key >= OPTION_KEYS && key < OPTION_KEYS + (int)NAMES) {
		const char *name = names[key - OPTION_KEYS];
		settings.profile |= !strcmp(name, "profile") || !strcmp(name, "guarded");
		settings.values[key - OPTION_KEYS] = arg ? arg : !strcmp(name, "profile") ? PROFILE_FILE : "1";
		return 0;
	}
	switch (key) {
	case KEY_COMPARE:
		settings.compare = true;
		return 0;
	case KEY_RUNS:
		settings.runs = (unsigned)strtoul(arg, &end, 10);
		if (*end || !settings.runs || settings.runs > RUNS_MOST)
			argp_error(state, "a number of runs is 1 to %d, not `%s'", RUNS_MOST, arg);
		return 0;
	case KEY_LIBRARY:
		settings.library = arg;
		return 0;
	case ARGP_KEY_ARG:
		settings.command = &state->argv[state->next - 1];
		state->next = state->argc;
		return 0;
	default:
		return args_missing(key, state, "a command");
	}
}

/* ---- the environment ------------------------------------------------------------- */

static void set_options(void)
{
	for (size_t i = 0; i < NAMES; i++) {
		char variable[64] = "HAKMEM_";
		if (!settings.values[i])
			continue;
		for (size_t k = 0; names[i][k]; k++)
			variable[7 + k] = (char)(names[i][k] >= 'a' && names[i][k] <= 'z' ? names[i][k] - 32 : names[i][k]);
		setenv(variable, settings.values[i], 1);
	}
}

/* LD_PRELOAD with the library before what is there already. */
static char *preload(const char *library)
{
	const char *there = getenv("LD_PRELOAD");
	char *value = NULL;
	if (asprintf(&value, "%s%s%s", library, there && *there ? ":" : "", there ? there : "") < 0)
		return NULL;
	return value;
}

/* ---- what a preload cannot reach ------------------------------------------------- */

/* The file that execvp would run, in `path`. */
static bool resolve(const char *command, char path[PATH_MAX])
{
	if (strchr(command, '/'))
		return snprintf(path, PATH_MAX, "%s", command) < PATH_MAX;
	const char *dirs = getenv("PATH");
	for (const char *d = dirs ? dirs : "/usr/bin:/bin"; d && *d; d = strchr(d, ':') ? strchr(d, ':') + 1 : NULL) {
		int n = (int)strcspn(d, ":");
		if (snprintf(path, PATH_MAX, "%.*s/%s", n, d, command) < PATH_MAX && access(path, X_OK) == 0)
			return true;
	}
	return false;
}

static bool is_static(int fd)
{
	ElfW(Ehdr) e;
	ElfW(Phdr) ph;
	if (pread(fd, &e, sizeof e, 0) != sizeof e || memcmp(e.e_ident, ELFMAG, SELFMAG))
		return false; /* a script: its interpreter is preloaded */
	for (int i = 0; i < e.e_phnum; i++) {
		if (pread(fd, &ph, sizeof ph, (off_t)(e.e_phoff + (uint64_t)i * e.e_phentsize)) != sizeof ph ||
		    ph.p_type == PT_INTERP)
			return false;
	}
	return true;
}

static void warn_if_out_of_reach(const char *command)
{
	char path[PATH_MAX];
	struct stat st;
	if (!resolve(command, path))
		return;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (is_static(fd))
		tool_warn("%s is linked statically: it keeps its own malloc", path);
	if (fstat(fd, &st) == 0 && (st.st_mode & (S_ISUID | S_ISGID)) && geteuid() != 0)
		tool_warn("%s is setuid or setgid: the dynamic linker ignores the preload", path);
	close(fd);
}

static int cannot_execute(const char *command)
{
	tool_warn("%s: %s", command, strerror(errno));
	return errno == ENOENT ? TOOL_NOT_FOUND : TOOL_CANNOT_EXECUTE;
}

/* ---- comparing ------------------------------------------------------------------- */

enum figure { WALL, USER, SYSTEM, PEAK, MINOR, MAJOR, FIGURES };

struct runs {
	double figure[FIGURES][RUNS_MOST];
	int code; /* of the last run */
};

static double seconds_of(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

/* library: NULL for none. Its exit code; -1 if it could not be started. */
static int run_once(const char *value, struct runs *runs, unsigned n)
{
	struct timespec begin, end;
	struct rusage use;
	int status, failed[2], err = 0;
	if (pipe2(failed, O_CLOEXEC))
		return -1;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	pid_t pid = fork();
	if (pid == 0) {
		if (value)
			setenv("LD_PRELOAD", value, 1);
		execvp(settings.command[0], settings.command);
		err = errno;
		ssize_t written = write(failed[1], &err, sizeof err);
		_exit(written < 0);
	}
	close(failed[1]);
	if (pid > 0 && read(failed[0], &err, sizeof err) != sizeof err)
		err = 0;
	close(failed[0]);
	while (pid > 0 && wait4(pid, &status, 0, &use) < 0 && errno == EINTR)
		;
	clock_gettime(CLOCK_MONOTONIC, &end);
	if (pid < 0 || err) {
		errno = err ? err : errno;
		return -1;
	}
	runs->figure[WALL][n] = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
	runs->figure[USER][n] = seconds_of(use.ru_utime);
	runs->figure[SYSTEM][n] = seconds_of(use.ru_stime);
	runs->figure[PEAK][n] = (double)use.ru_maxrss * 1024;
	runs->figure[MINOR][n] = (double)use.ru_minflt;
	runs->figure[MAJOR][n] = (double)use.ru_majflt;
	runs->code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	return runs->code;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static double median(double *v, unsigned n)
{
	qsort(v, n, sizeof *v, by_value);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static void print_row(FILE *f, enum figure i, double without, double with)
{
	static const char *const title[FIGURES] = { "wall time, s", "user, s",	    "system, s",
						    "peak memory",  "minor faults", "major faults" };
	char a[32], b[32], ratio[16] = "-";
	if (i == PEAK) {
		snprintf(a, sizeof a, "%s", text_bytes(without));
		snprintf(b, sizeof b, "%s", text_bytes(with));
	} else {
		snprintf(a, sizeof a, i < PEAK ? "%.3f" : "%.0f", without);
		snprintf(b, sizeof b, i < PEAK ? "%.3f" : "%.0f", with);
	}
	if (without > 0)
		snprintf(ratio, sizeof ratio, "%.2f", with / without);
	fprintf(f, "%-16s %12s %12s %8s\n", title[i], a, b, ratio);
}

/* To stderr: stdout is the program's. */
static void print_comparison(struct runs *without, struct runs *with, unsigned n)
{
	fprintf(stderr, "\n%-16s %12s %12s %8s\n", n > 1 ? "median" : "", "without", "hakmem", "ratio");
	for (enum figure i = 0; i < FIGURES; i++)
		print_row(stderr, i, median(without->figure[i], n), median(with->figure[i], n));
	fprintf(stderr, "%-16s %12d %12d\n", "exit code", without->code, with->code);
	if (n == 1)
		fputs("One run each: times differ by chance from run to run; --runs=5 is better.\n", stderr);
}

static int compare(const char *value)
{
	static struct runs without, with;
	for (unsigned n = 0; n < settings.runs; n++)
		if (run_once(NULL, &without, n) < 0 || run_once(value, &with, n) < 0)
			return cannot_execute(settings.command[0]);
	print_comparison(&without, &with, settings.runs);
	return with.code;
}

/* ---- the whole ------------------------------------------------------------------- */

int tool_run(int argc, char **argv)
{
	struct argp argp = { flags(), parse, "[--] COMMAND [ARGUMENT...]",
			     "Runs COMMAND with hakmem in place of its malloc. Its exit code is COMMAND's; 125 if hakmem "
			     "itself fails, 126 if COMMAND cannot be run, 127 if there is none.", NULL, NULL, NULL };
	argp_err_exit_status = TOOL_RUN_FAILED;
	argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, NULL);
	char full[PATH_MAX];
	const char *name = settings.profile ? "libhakmem-profile.so" : "libhakmem.so.0";
	const char *library = settings.library ? settings.library : files_library(name);
	if (!library || !realpath(library, full)) {
		tool_warn("%s is not there: %s", library ? library : name,
			  settings.library ? strerror(errno) : "is it installed? --library names one");
		return TOOL_RUN_FAILED;
	}
	if (strpbrk(full, ": ")) {
		tool_warn("%s: the dynamic linker takes no path with a space or a colon", full);
		return TOOL_RUN_FAILED;
	}
	char *value = preload(full);
	if (!value) {
		tool_warn("out of memory");
		return TOOL_RUN_FAILED;
	}
	set_options();
	warn_if_out_of_reach(settings.command[0]);
	if (settings.compare)
		return compare(value);
	setenv("LD_PRELOAD", value, 1);
	execvp(settings.command[0], settings.command);
	return cannot_execute(settings.command[0]);
}
