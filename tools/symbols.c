/* SPDX-License-Identifier: MIT */
/* What addresses in programs and libraries are in words. addr2line knows, where it is installed. */
#include "tool.h"

#include <elf.h>
#include <inttypes.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* NULL: it is no file that is loaded. */
static FILE *open_elf(const char *path, ElfW(Ehdr) *e)
{
	FILE *f = fopen(path, "re");
	if (f && fread(e, sizeof *e, 1, f) == 1 && !memcmp(e->e_ident, ELFMAG, SELFMAG))
		return f;
	if (f)
		fclose(f);
	return NULL;
}

uint64_t symbols_address(const char *path, uint64_t offset)
{
	uint64_t address = offset;
	ElfW(Ehdr) e;
	FILE *f = open_elf(path, &e);
	if (!f)
		return offset;
	if (fseek(f, (long)e.e_phoff, SEEK_SET) == 0)
		for (int i = 0; i < e.e_phnum; i++) {
			ElfW(Phdr) ph;
			if (fread(&ph, sizeof ph, 1, f) != 1)
				break;
			if (ph.p_type == PT_LOAD && offset >= ph.p_offset && offset < ph.p_offset + ph.p_filesz)
				address = offset - ph.p_offset + ph.p_vaddr;
		}
	fclose(f);
	return address;
}

bool symbols_fixed(const char *path)
{
	ElfW(Ehdr) e;
	FILE *f = open_elf(path, &e);
	if (f)
		fclose(f);
	return f && e.e_type == ET_EXEC;
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
static void read_answers(FILE *from, struct symbol **asked, size_t count)
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

static void resolve_file(const char *path, struct symbol **asked, size_t count)
{
	int answers[2];
	FILE *questions = tmpfile();
	if (!questions || pipe(answers))
		return;
	for (size_t i = 0; i < count; i++)
		fprintf(questions, "0x%" PRIx64 "\n", asked[i]->address);
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

static bool is_first_of_file(const struct symbol *s, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (!strcmp(s[k].file, s[i].file))
			return false;
	return true;
}

void symbols_resolve(struct symbol *s, size_t count)
{
	struct symbol **asked = calloc(count + 1, sizeof *asked);
	for (size_t i = 0; asked && i < count; i++) {
		size_t n = 0;
		if (!is_first_of_file(s, i))
			continue;
		/* addr2line reads a file's tables at its start: all of one file at once */
		for (size_t k = i; k < count; k++)
			if (!strcmp(s[k].file, s[i].file))
				asked[n++] = &s[k];
		resolve_file(s[i].file, asked, n);
	}
	free(asked);
}

void symbols_print(const char *before, const struct symbol *s)
{
	for (const char *line = s->text; *line; line += strcspn(line, "\n") + (strchr(line, '\n') != NULL))
		printf("%s%.*s\n", before, (int)strcspn(line, "\n"), line);
}
