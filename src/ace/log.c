/* SPDX-License-Identifier: MIT */
/* Lines of the learner's log, in memory of their own. */
#include "ace/log.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "ace/walk.h"
#include "die.h"
#include "hakmem/hakmem.h"
#include "options.h"
#include "record.h"
#include "sys/sys.h"

/* The longest two lines there can be, a process's first and a look, if each number has all its
 * digits; a usual one has 2 KiB, and the rest of the buffer is never touched. */
#define ROW_BYTES 48u
#define ROWS (HAK_STATIC_CLASSES * (2 * HAK_SIZE_STEPS + 4 * HAK_LOOK_NODES + 2) + 256)
#define LINES_BYTES ((size_t)ROWS * ROW_BYTES)

/* The constructor's, then the reclaimer's thread's */
static char path[HAK_RECORD_PATH]; /* "": nothing is logged */
static struct hak_text text;
static pid_t begun;    /* the process whose first line was written: fork's child begins anew */
static uint64_t looks; /* logged of this process */

void hak_ace_log_start(void)
{
	const char *file = hak_option_strings[HAK_STR_ace_log];
	path[0] = 0;
	if (!file)
		return;
	if (!hak_option_get(HAK_OPT_learn) || !hak_option_get(HAK_OPT_reclaim)) {
		hak_warn("nothing is learnt, and HAKMEM_ACE_LOG is ignored", file);
		return;
	}
	text = (struct hak_text){ hak_sys_map(LINES_BYTES), 0, LINES_BYTES };
	if (!text.buf || !hak_record_path(path, file, strlen(file)))
		hak_warn("HAKMEM_ACE_LOG is not to be had, ignored", file);
}

/* ---- JSON ------------------------------------------------------------------------- */

static void put(const char *s)
{
	hak_text_str(&text, s);
}

static void comma(void)
{
	char last = text.buf[text.len - 1];
	if (last != '{' && last != '[')
		put(",");
}

static void name(const char *s)
{
	comma();
	put("\"");
	put(s);
	put("\":");
}

static void member(const char *s, uint64_t v)
{
	name(s);
	hak_text_u64(&text, v);
}

static void put_number(struct hak_walk *w, const char *s, struct hak_cell cell)
{
	(void)w;
	member(s, hak_cell_get(cell));
}

static void put_table(struct hak_walk *w, const char *s)
{
	(void)w;
	name(s);
	put("[");
}

static void put_row(struct hak_walk *w, uint32_t key, uint32_t second, const struct hak_cell *cells, unsigned count)
{
	uint64_t any = 0;
	(void)w;
	for (unsigned i = 0; i < count; i++)
		any |= hak_cell_get(cells[i]);
	if (!any)
		return;
	comma();
	put("[");
	hak_text_u64(&text, key);
	if (second != HAK_WALK_NONE) {
		put(",");
		hak_text_u64(&text, second);
	}
	for (unsigned i = 0; i < count; i++) {
		put(",");
		hak_text_u64(&text, hak_cell_get(cells[i]));
	}
	put("]");
}

static void put_end(struct hak_walk *w)
{
	(void)w;
	put("]");
}

static struct hak_walk writer = { put_number, put_table, put_row, put_end };

/* ---- lines ------------------------------------------------------------------------ */

static void begin_line(void)
{
	put("{");
	member("version", HAK_WALK_VERSION);
	member("pid", (uint64_t)begun);
}

static void begin_section(const char *s)
{
	name(s);
	put("{");
}

/* Where a process's decisions begin: all that they depend on but the looks. */
static void first_line(struct hak_learner *l, struct hak_ace_config *config, uint64_t ms)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	begin_line();
	name("library");
	put("\"" HAKMEM_VERSION "\"");
	member("time_ms", (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
	member("monotonic_ms", ms);
	hak_walk_classes(&writer, hak_classes);
	begin_section("config");
	hak_walk_config(&writer, config);
	put("}");
	begin_section("state");
	hak_walk_learner(&writer, l);
	put("}}\n");
}

void hak_ace_log_look(struct hak_learner *l, struct hak_ace_config *config, struct hak_look *look)
{
	pid_t self = getpid();
	if (!path[0])
		return;
	text.len = 0;
	if (self != begun) {
		begun = self;
		looks = 0;
		first_line(l, config, look->ms);
	}
	begin_line();
	member("number", ++looks);
	begin_section("look");
	hak_walk_look(&writer, look);
	put("}");
}

void hak_ace_log_decision(struct hak_learner *l, bool changed)
{
	if (!path[0])
		return;
	member("changed", changed);
	begin_section("decision");
	hak_walk_decision(&writer, l);
	put("}}\n");
}

void hak_ace_log_write(void)
{
	if (!path[0] || !text.len)
		return;
	/* a pipe that nobody reads ends the log, not the reclaimer */
	int fd = hak_record_open(path, O_APPEND | O_NONBLOCK);
	bool ok = fd >= 0 && hak_text_write(&text, fd);
	text.len = 0;
	if (fd >= 0)
		hak_sys_close(fd);
	if (fd >= 0 && !ok)
		hak_warn("cannot write, the learner's log ends", path);
	if (!ok)
		path[0] = 0;
}
