/* SPDX-License-Identifier: MIT */
/* Parses HAKMEM_PREWARM, and makes its slabs. */
#include "ace/prewarm.h"

#include <string.h>
#include <sys/mman.h>

#include "counters.h"
#include "die.h"
#include "hardened.h"
#include "heap.h"
#include "limit.h"
#include "options.h"
#include "sys/sys.h"

#define MEMORY_SHARE 2u /* of the machine's memory: what asks for more is a mistake */
#define NUMBER_BYTES 24u

/* immutable after the constructor */
static struct {
	unsigned class;
	uint32_t slabs;
} wanted[HAK_PREWARM_MOST];
static unsigned count, home;

static _Atomic uint32_t ready[HAK_PREWARM_MOST];
static _Atomic bool due;

/* A number up to the separator, which may have a unit; 0: there is none. */
static uint64_t number(const char **s, char separator)
{
	char text[NUMBER_BYTES];
	size_t n = strcspn(*s, (char[]){ separator, 0 });
	if (n >= sizeof text)
		return 0;
	memcpy(text, *s, n);
	text[n] = 0;
	*s += n;
	return hak_limit_parse(text, 0);
}

/* SIZE:BLOCKS,SIZE:BLOCKS,... */
static bool parse(const char *s)
{
	uint64_t bytes = 0, most = hak_limit_memory() / MEMORY_SHARE;
	for (count = 0; count < HAK_PREWARM_MOST; s++, count++) {
		uint64_t size = number(&s, ':');
		if (!size || *s++ != ':' || size > HAK_SLAB_MAX - (hak_hardened ? HAK_HARD_RECORD : 0))
			return false;
		uint64_t blocks = number(&s, ',');
		unsigned class = hak_route_class(size + (hak_hardened ? HAK_HARD_RECORD : 0));
		const struct hak_class *c = &hak_classes[class];
		/* before they are multiplied */
		if (!blocks || blocks > most / c->stride)
			return false;
		uint64_t slabs = (blocks - 1) / c->capacity + 1;
		bytes += slabs * c->granules * HAK_GRANULE;
		if (bytes > most)
			return false;
		wanted[count].class = class;
		wanted[count].slabs = (uint32_t)slabs;
		if (!*s) {
			count++;
			return true;
		}
	}
	return false;
}

void hak_prewarm_start(void)
{
	const char *text = hak_option_strings[HAK_STR_prewarm];
	if (!text)
		return;
	if (!parse(text)) {
		hak_warn("HAKMEM_PREWARM is up to 16 of SIZE:BLOCKS with commas, to 256K each and half of the memory "
			 "in all, ignored", text);
		count = 0;
		return;
	}
	home = hak_node_mine();
	/* relaxed: whoever fills was started after this, or is this thread */
	atomic_store_explicit(&due, true, memory_order_relaxed);
}

bool hak_prewarm_due(void)
{
	return atomic_load_explicit(&due, memory_order_relaxed);
}

/* One slab, populated before anybody can take it. A kernel before 5.14 refuses: its first touches
 * will fault as those of other slabs do. */
static bool make_ready(struct hak_heap *stock, unsigned class)
{
	uint32_t granules = hak_classes[class].granules;
	struct hak_run run;
	if (!hak_pool_claim(stock->node, granules, true, false, &run))
		return false;
	if (!hak_sys.madvise(run.arena->base + (size_t)run.granule * HAK_GRANULE, granules * HAK_GRANULE, MADV_POPULATE_WRITE))
		hak_count(populated, granules * HAK_GRANULE);
	return hak_heap_stock_up(stock, class, &run);
}

void hak_prewarm_fill(void)
{
	/* relaxed: one of several callers finds it true */
	if (!hak_prewarm_due() || !atomic_exchange_explicit(&due, false, memory_order_relaxed))
		return;
	struct hak_heap *stock = hak_heap_stock(home);
	for (unsigned i = 0; stock && i < count; i++)
		for (uint32_t n = 0; n < wanted[i].slabs && make_ready(stock, wanted[i].class); n++)
			/* relaxed: a figure */
			atomic_fetch_add_explicit(&ready[i], 1, memory_order_relaxed);
}

bool hak_prewarm_figures(unsigned i, struct hak_prewarmed *p)
{
	if (i >= count)
		return false;
	/* relaxed: figures */
	*p = (struct hak_prewarmed){ .class = wanted[i].class,
				     .wanted = wanted[i].slabs,
				     .ready = atomic_load_explicit(&ready[i], memory_order_relaxed),
				     .taken = atomic_load_explicit(&hak_stock_taken[wanted[i].class], memory_order_relaxed) };
	return true;
}
