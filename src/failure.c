/* SPDX-License-Identifier: MIT */
/* Counts failures, and writes as many lines a second as were asked for. */
#include "failure.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "counters.h"
#include "die.h"
#include "options.h"
#include "probe.h"

static const struct {
	const char *name, *detail, *unit;
} reasons[] = {
	[HAK_FAILURE_THRESHOLD] = { "threshold", "the least with room is ", " %" },
	[HAK_FAILURE_CAP] = { "cap", "", " slabs kept" },
	[HAK_FAILURE_BUDGET] = { "budget", NULL, NULL },
	[HAK_FAILURE_MAP] = { "map", "errno ", "" },
};

/* Lines that the current second has had and was refused. Any thread. relaxed, all of it: a few
 * lines too many where seconds meet do no harm */
static _Atomic uint64_t second;
static _Atomic uint32_t lines, left_out;

/* False: not this one. *missed: how many were not written since the last that was. */
static bool may_say(uint32_t *missed)
{
	uint32_t most = (uint32_t)hak_option_get(HAK_OPT_trace_failures);
	struct timespec now;
	if (!most)
		return false;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (atomic_exchange_explicit(&second, (uint64_t)now.tv_sec, memory_order_relaxed) != (uint64_t)now.tv_sec)
		atomic_store_explicit(&lines, 0, memory_order_relaxed);
	if (atomic_fetch_add_explicit(&lines, 1, memory_order_relaxed) >= most) {
		atomic_fetch_add_explicit(&left_out, 1, memory_order_relaxed);
		return false;
	}
	*missed = atomic_exchange_explicit(&left_out, 0, memory_order_relaxed);
	return true;
}

static void say(enum hak_failure why, size_t bytes, uint64_t detail, uint32_t missed)
{
	char line[200];
	struct hak_text t = { line, 0, sizeof line };
	hak_text_str(&t, "hakmem: not served as it should be: ");
	hak_text_str(&t, reasons[why].name);
	hak_text_str(&t, ": ");
	hak_text_u64(&t, bytes);
	hak_text_str(&t, " bytes");
	if (reasons[why].detail) {
		hak_text_str(&t, ", ");
		hak_text_str(&t, reasons[why].detail);
		hak_text_u64(&t, detail);
		hak_text_str(&t, reasons[why].unit);
	}
	if (missed) {
		hak_text_str(&t, " (");
		hak_text_u64(&t, missed);
		hak_text_str(&t, " more before it)");
	}
	hak_text_str(&t, "\n");
	hak_text_write(&t, STDERR_FILENO);
}

void hak_failure(enum hak_failure why, size_t bytes, uint64_t detail)
{
	int err = errno;
	uint32_t missed;
	HAK_PROBE(failure, why, bytes);
	switch (why) {
	case HAK_FAILURE_THRESHOLD:
		hak_count(failure_threshold, 1);
		break;
	case HAK_FAILURE_CAP:
		hak_count(failure_cap, 1);
		break;
	case HAK_FAILURE_BUDGET:
		hak_count(failure_budget, 1);
		break;
	case HAK_FAILURE_MAP:
		hak_count(failure_map, 1);
		/* relaxed: a figure */
		atomic_store_explicit(&hak_counters.failure_errno, detail, memory_order_relaxed);
	}
	if (hak_unlikely(may_say(&missed)))
		say(why, bytes, detail, missed);
	errno = err;
}

void hak_failure_map(size_t bytes, int err)
{
	if (err == EDQUOT)
		hak_failure(HAK_FAILURE_BUDGET, bytes, 0);
	else if (err != EEXIST && err != EINVAL)
		hak_failure(HAK_FAILURE_MAP, bytes, (uint64_t)err);
}
