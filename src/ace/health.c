/* SPDX-License-Identifier: MIT */
/* Hits against the target, class by class, in windows. */
#include "ace/health.h"

#include <unistd.h>

#include "ace/ace.h"
#include "ace/prewarm.h"
#include "clock.h"
#include "die.h"
#include "options.h"

#define WINDOW_MS 500u
#define WINDOW_KIB 1024u /* with less asked for a class's window goes on */
#define KEEPS 4u	 /* windows in a row that are too many: a heap that is built misses as well */
#define UNUSED_MS 10000u /* after which slabs should have been of use */

/* by whoever judges: the reclaimer's thread */
static struct {
	uint64_t asked, made; /* when the window began */
	uint32_t missed;      /* windows in a row */
} watched[HAK_STATIC_CLASSES];
static uint64_t judged_ms, first_ms;

static uint32_t said_unused; /* a bit for each of what was made ready. The reclaimer's thread, and exit */

struct hak_health_class hak_health_class(unsigned class)
{
	/* relaxed: figures */
	uint64_t asked = atomic_load_explicit(&hak_ace_totals[class].asked_kib, memory_order_relaxed);
	uint64_t made = atomic_load_explicit(&hak_ace_totals[class].made_kib, memory_order_relaxed);
	return (struct hak_health_class){ asked > made ? asked - made : 0, made };
}

static void say(const char *a, uint64_t n, const char *b, uint64_t m, const char *c)
{
	char line[160];
	struct hak_text t = { line, 0, sizeof line };
	hak_text_str(&t, "hakmem: health: ");
	hak_text_str(&t, a);
	hak_text_u64(&t, n);
	hak_text_str(&t, b);
	hak_text_u64(&t, m);
	hak_text_str(&t, c);
	hak_text_write(&t, STDERR_FILENO);
}

static void judge_class(unsigned class)
{
	uint64_t asked = atomic_load_explicit(&hak_ace_totals[class].asked_kib, memory_order_relaxed);
	uint64_t made = atomic_load_explicit(&hak_ace_totals[class].made_kib, memory_order_relaxed);
	uint64_t window = asked - watched[class].asked, new = made - watched[class].made;
	if (window < WINDOW_KIB)
		return;
	uint64_t hits = new < window ? (window - new) * 100 / window : 0;
	watched[class].asked = asked;
	watched[class].made = made;
	/* the targets' options stand in the order of the tiers */
	if (hits >= (uint64_t)hak_option_get(HAK_OPT_target_hit_tiny + hak_route_tier(class)))
		watched[class].missed = 0;
	else if (++watched[class].missed == KEEPS)
		say("blocks of ", hak_classes[class].stride, " bytes keep missing: only ", hits,
		    " % came from slabs that were there\n");
}

static void judge_ready(void)
{
	struct hak_prewarmed p;
	for (unsigned i = 0; hak_prewarm_figures(i, &p); i++) {
		if (!p.ready || p.taken || said_unused >> i & 1)
			continue;
		said_unused |= 1u << i;
		say("blocks of ", hak_classes[p.class].stride, " bytes: none of ", p.ready,
		    " slabs made ready for them was used\n");
	}
}

void hak_health_judge(uint64_t ms)
{
	first_ms = first_ms ? first_ms : ms;
	judged_ms = ms;
	for (unsigned c = 0; c < HAK_STATIC_CLASSES; c++)
		judge_class(c);
	if (ms - first_ms >= UNUSED_MS)
		judge_ready();
}

void hak_health_look(void)
{
	if (!hak_option_get(HAK_OPT_ace_health))
		return;
	uint64_t now = hak_now_ms();
	if (now - judged_ms >= WINDOW_MS)
		hak_health_judge(now);
}

void hak_health_exit(void)
{
	if (hak_option_get(HAK_OPT_ace_health))
		judge_ready();
}
