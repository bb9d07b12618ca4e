/* SPDX-License-Identifier: MIT */
/*
 * The command `hakmem`: what its subcommands share. The tool is a program like any other:
 * it may allocate, and shares nothing with the library but live.h, options.def, topo.h and the
 * pure part of ace/.
 */
#ifndef HAK_TOOL_H
#define HAK_TOOL_H

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <argp.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

/* Exit codes; hakmem(1) lists them. */
enum {
	TOOL_OK = 0,
	TOOL_FAILED = 1,       /* doctor: there is something to change */
	TOOL_USAGE = 2,
	TOOL_NOT_HERE = 3,     /* no such process, or not on hakmem */
	TOOL_NOT_ALLOWED = 4,
	TOOL_RUN_FAILED = 125, /* run: as env(1) and timeout(1) */
	TOOL_CANNOT_EXECUTE = 126,
	TOOL_NOT_FOUND = 127,
};

/* Each gets the arguments from its own name on, and returns an exit code. */
int tool_run(int argc, char **argv);
int tool_stat(int argc, char **argv);
int tool_top(int argc, char **argv);
int tool_report(int argc, char **argv);
int tool_replay(int argc, char **argv);
int tool_leaks(int argc, char **argv);
int tool_symbolize(int argc, char **argv);
int tool_topo(int argc, char **argv);
int tool_options(int argc, char **argv);
int tool_doctor(int argc, char **argv);

/* "hakmem: TEXT" on stderr. */
void tool_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- args.c: for a command's parser, whose result is theirs where it has none of its own ---- */

/* An error if there are no arguments but options: `what` is missing. */
error_t args_missing(int key, struct argp_state *state, const char *what);
/* An error if there are any. */
error_t args_none(int key, struct argp_state *state);
/* The one argument that there may be. */
error_t args_one(int key, char *arg, struct argp_state *state, const char **operand);
/* Parses all of a command that knows --json and nothing else: whether it is there. */
bool args_json(int argc, char **argv, const char *help);

/* ---- text.c: output ---- */

/* Escape sequences if stdout is a terminal and NO_COLOR is not set, else "". */
const char *text_bold(void);
const char *text_red(void);
const char *text_green(void);
const char *text_dim(void);
const char *text_plain(void);

/* "12.3 MiB"; in one of several buffers, good for the next few calls. */
const char *text_bytes(double bytes);
/* A whole file, ended by 0, less its last newline; NULL if it cannot be read. Freed by the caller. */
char *text_file(const char *path);
/* The number in a file; -1 if it is not there or none. */
long long text_number(const char *path);
/* Prints the object on one line. */
void text_json(const json_t *object, FILE *to);

/* ---- files.c: what is installed with the tool ---- */

/* The path of a library of ours (libhakmem.so.0, libhakmem-topo.so): beside the tool in a build
 * tree, else where it was configured to go. NULL if it is in neither. */
const char *files_library(const char *name);

/* ---- symbols.c: what addresses are in words ---- */

/* An address in a program or library. */
struct symbol {
	uint64_t pc;	  /* in the process that ran it: the caller's */
	const char *file; /* the caller's */
	uint64_t address; /* in the file's own terms */
	char *text;	  /* "FUNCTION at FILE:LINE", a line for each inlined call; NULL: not known. Freed by the caller. */
};

/* The address of what lies at the offset in the file; the offset itself if the file cannot be read. */
uint64_t symbols_address(const char *path, uint64_t offset);
/* Whether it is a program that lies where it was linked to: its addresses are the process's. */
bool symbols_fixed(const char *path);
/* Finds the text of each, by addr2line; without that there is none. */
void symbols_resolve(struct symbol *s, size_t count);
/* Its lines on stdout, which it has; `before` goes before each. */
void symbols_print(const char *before, const struct symbol *s);

/* ---- kernel.c: what the kernel lets a process do ---- */

struct probe {
	const char *name, *use; /* the call, and what hakmem does with it */
	const char *without;	/* what is done instead */
	const char *told;	/* the setting without which it is not called under a seccomp filter; NULL: it is */
	int (*call)(void);	/* 0 or an errno; runs in a process of its own, which a filter may kill */
};
extern const struct probe kernel_probes[];
extern const size_t kernel_probe_count;

/* 0: it works; an errno; -1: the process was killed for it. */
int kernel_try(const struct probe *probe);
/* What that means, in words. */
const char *kernel_why(int result);

/* The word in brackets in a file like transparent_hugepage/enabled; "" if there is no such file. */
const char *kernel_choice(const char *path);

/* ---- process.c: a process from outside ---- */

struct process;

/*
 * Finds hakmem in a process. NULL and *why: ESRCH no such process, EPERM not allowed to read
 * it, ENOENT not on hakmem, EPROTO a live block this tool does not know.
 */
struct process *process_open(pid_t pid, int *why);
void process_close(struct process *p);

/*
 * The statistics as the library's own JSON has them (doc/statistics.md). pages: with what is
 * resident and on huge pages, from smaps: this costs the process. NULL: it has ended.
 */
json_t *process_read(struct process *p, bool pages);

/* The name in /proc/PID/comm, "?" if there is none. In a buffer of the process's. */
const char *process_name(const struct process *p);

/* One line that says what *why of process_open means, on stderr; the exit code for it. */
int process_refused(pid_t pid, int why);

#endif
