/* SPDX-License-Identifier: MIT */
/*
 * hakmem leaks: what a heap profile says was still held when it was written, by the stacks
 * that asked for it. Functions, files and lines are addr2line's, where it is installed.
 */
#include "tool.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <link.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEPTH 64
#define TOP 10

struct site {
	double blocks, bytes; /* scaled: an estimate of what was held */
	uint64_t samples;
	int depth;
	uint64_t pc[DEPTH];
};

struct mapping {
	uint64_t start, end, offset;
	char *path;
};

/* A program counter and what it is in words; inlined calls are lines of their own. */
struct place {
	uint64_t pc;
	char *text; /* NULL: not resolved */
};

static const char *input;
static unsigned long top = TOP;
static struct site *sites;
static size_t site_count;
static struct mapping *mappings;
static size_t mapping_count;
static struct place *places;
static size_t place_count;

static error_t parse(int key, char *arg, struct argp_state *state)
{
	char *end;
	switch (key) {
	case 'n':
		top = strtoul(arg, &end, 10);
		if (*end || !top)
			argp_error(state, "not a number of stacks: `%s'", arg);
		return 0;
	case ARGP_KEY_ARG:
		if (state->arg_num)
			argp_error(state, "one file is expected");
		input = arg;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "a heap profile is missing");
		return EINVAL;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* ---- reading --------------------------------------------------------------------- */

/* A block of n bytes is sampled with probability 1 - exp(-n / mean): what was seen stands for
 * as many times more. */
static void add_site(const char *line, double mean)
{
	uint64_t blocks, bytes;
	int at = 0;
	struct site s = { .depth = 0 };
	if (sscanf(line, "%" SCNu64 ": %" SCNu64 " [%*u: %*u] @%n", &blocks, &bytes, &at) != 2 || !at || !blocks)
		return;
	double scale = 1 / (1 - exp(-(double)bytes / (double)blocks / mean));
	s.samples = blocks;
	s.blocks = (double)blocks * scale;
	s.bytes = (double)bytes * scale;
	for (char *next, *p = (char *)(uintptr_t)line + at; s.depth < DEPTH; p = next) {
		uint64_t pc = strtoull(p, &next, 16);
		if (next == p)
			break;
		s.pc[s.depth++] = pc;
	}
	struct site *more = reallocarray(sites, site_count + 1, sizeof s);
	if (!more)
		return;
	sites = more;
	sites[site_count++] = s;
}

static void add_mapping(const char *line)
{
	struct mapping m;
	char prot[5];
	int at = 0;
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %*s %n", &m.start, &m.end, prot, &m.offset, &at) != 4 ||
	    prot[2] != 'x' || line[at] != '/')
		return;
	struct mapping *more = reallocarray(mappings, mapping_count + 1, sizeof m);
	m.path = strndup(line + at, strcspn(line + at, "\n"));
	if (!more || !m.path)
		return;
	mappings = more;
	mappings[mapping_count++] = m;
}

static bool read_profile(void)
{
	char *line = NULL;
	size_t cap = 0;
	uint64_t mean = 0;
	bool maps = false;
	FILE *f = fopen(input, "re");
	if (!f) {
		tool_warn("%s: %s", input, strerror(errno));
		return false;
	}
	if (getline(&line, &cap, f) <= 0 || sscanf(line, "heap profile: %*u: %*u [%*u: %*u] @ heap_v2/%" SCNu64, &mean) != 1 ||
	    !mean) {
		tool_warn("%s is not a heap profile", input);
		fclose(f);
		free(line);
		return false;
	}
	while (getline(&line, &cap, f) > 0) {
		if (!strcmp(line, "MAPPED_LIBRARIES:\n"))
			maps = true;
		else if (maps)
			add_mapping(line);
		else
			add_site(line, (double)mean);
	}
	free(line);
	fclose(f);
	return true;
}

/* ---- names ----------------------------------------------------------------------- */

static const struct mapping *mapping_of(uint64_t pc)
{
	for (size_t i = 0; i < mapping_count; i++)
		if (pc >= mappings[i].start && pc < mappings[i].end)
			return &mappings[i];
	return NULL;
}

/* The address in the file's own terms; the offset itself if the file cannot be read. */
static uint64_t file_address(const struct mapping *m, uint64_t pc)
{
	uint64_t offset = pc - m->start + m->offset, address = offset;
	ElfW(Ehdr) e;
	FILE *f = fopen(m->path, "re");
	if (f && fread(&e, sizeof e, 1, f) == 1 && !memcmp(e.e_ident, ELFMAG, SELFMAG) &&
	    fseek(f, (long)e.e_phoff, SEEK_SET) == 0)
		for (int i = 0; i < e.e_phnum; i++) {
			ElfW(Phdr) ph;
			if (fread(&ph, sizeof ph, 1, f) != 1)
				break;
			if (ph.p_type == PT_LOAD && offset >= ph.p_offset && offset < ph.p_offset + ph.p_filesz)
				address = offset - ph.p_offset + ph.p_vaddr;
		}
	if (f)
		fclose(f);
	return address;
}

static void append(char **text, const char *function, const char *where)
{
	char *old = *text;
	if (asprintf(text, "%s%s%s%s%s", old ? old : "", old ? "\n" : "", function, *where ? " at " : "", where) < 0)
		*text = old;
	else
		free(old);
}

/* Reads addr2line's answers: the address, then a function and a place for each inlined call. */
static void read_answers(FILE *from, struct place **asked, size_t count)
{
	char *function = NULL, *where = NULL;
	size_t cap = 0, cap2 = 0, i = (size_t)-1;
	while (getline(&function, &cap, from) > 0) {
		function[strcspn(function, "\n")] = 0;
		if (!strncmp(function, "0x", 2)) {
			i++;
			continue;
		}
		if (getline(&where, &cap2, from) <= 0 || i >= count)
			break;
		where[strcspn(where, "\n")] = 0;
		if (strcmp(function, "??") != 0)
			append(&asked[i]->text, function, strncmp(where, "??", 2) ? where : "");
	}
	free(function);
	free(where);
}

/* Asks for all places of one file at once. */
static void resolve_file(const char *path, struct place **asked, const uint64_t *address, size_t count)
{
	int answers[2];
	FILE *questions = tmpfile();
	if (!questions || pipe(answers))
		return;
	for (size_t i = 0; i < count; i++)
		fprintf(questions, "0x%" PRIx64 "\n", address[i]);
	rewind(questions);
	pid_t pid = fork();
	if (pid == 0) {
		dup2(fileno(questions), STDIN_FILENO);
		dup2(answers[1], STDOUT_FILENO);
		close(answers[0]);
		freopen("/dev/null", "w", stderr) ? (void)0 : _exit(127);
		execlp("addr2line", "addr2line", "-a", "-f", "-C", "-i", "-e", path, (char *)NULL);
		_exit(127);
	}
	close(answers[1]);
	FILE *from = fdopen(answers[0], "r");
	if (from) {
		read_answers(from, asked, count);
		fclose(from);
	}
	fclose(questions);
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static void resolve(void)
{
	struct place **asked = calloc(place_count + 1, sizeof *asked);
	uint64_t *address = calloc(place_count + 1, sizeof *address);
	for (size_t m = 0; asked && address && m < mapping_count; m++) {
		size_t n = 0;
		for (size_t i = 0; i < place_count; i++)
			/* the call is before the address to which it returns */
			if (mapping_of(places[i].pc - 1) == &mappings[m]) {
				asked[n] = &places[i];
				address[n++] = file_address(&mappings[m], places[i].pc - 1);
			}
		if (n)
			resolve_file(mappings[m].path, asked, address, n);
	}
	free(asked);
	free(address);
}

static struct place *place_of(uint64_t pc)
{
	for (size_t i = 0; i < place_count; i++)
		if (places[i].pc == pc)
			return &places[i];
	return NULL;
}

static void note_places(const struct site *s)
{
	for (int i = 0; i < s->depth; i++) {
		struct place *more = place_of(s->pc[i]) ? NULL : reallocarray(places, place_count + 1, sizeof *places);
		if (!more)
			continue;
		places = more;
		places[place_count++] = (struct place){ s->pc[i], NULL };
	}
}

/* ---- output ---------------------------------------------------------------------- */

static int by_bytes(const void *a, const void *b)
{
	double x = ((const struct site *)a)->bytes, y = ((const struct site *)b)->bytes;
	return x < y ? 1 : x > y ? -1 : 0;
}

static void print_place(uint64_t pc)
{
	const struct place *p = place_of(pc);
	const struct mapping *m = mapping_of(pc - 1);
	if (p && p->text)
		for (const char *line = p->text; *line; line += strcspn(line, "\n") + (strchr(line, '\n') != NULL))
			printf("    %.*s\n", (int)strcspn(line, "\n"), line);
	else if (m)
		printf("    %s+0x%" PRIx64 "\n", m->path, pc - 1 - m->start + m->offset);
	else
		printf("    0x%" PRIx64 "\n", pc);
}

static void print_site(const struct site *s)
{
	printf("\n%s%s%s in about %.0f blocks (%" PRIu64 " sample%s)\n", text_bold(), text_bytes(s->bytes), text_plain(),
	       s->blocks, s->samples, s->samples == 1 ? "" : "s");
	for (int i = 0; i < s->depth; i++)
		print_place(s->pc[i]);
}

int tool_leaks(int argc, char **argv)
{
	static const struct argp_option flags[] = {
		{ "top", 'n', "N", 0, "Print the N stacks that hold most (10)", 0 },
		{ 0 },
	};
	static const struct argp argp = { flags, parse, "FILE",
					  "Prints what a heap profile (hakmem run --profile) says was held when it was "
					  "written, by the stacks that asked for it. At a program's end that is what it never "
					  "freed.", NULL, NULL, NULL };
	double bytes = 0;
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	if (!read_profile())
		return TOOL_FAILED;
	if (site_count)
		qsort(sites, site_count, sizeof *sites, by_bytes);
	for (size_t i = 0; i < site_count; i++) {
		bytes += sites[i].bytes;
		if (i < top)
			note_places(&sites[i]);
	}
	resolve();
	printf("about %s held, by %zu stacks\n", text_bytes(bytes), site_count);
	for (size_t i = 0; i < site_count && i < top; i++)
		print_site(&sites[i]);
	return TOOL_OK;
}
