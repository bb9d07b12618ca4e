/* SPDX-License-Identifier: MIT */
/*
 * empty: what does an allocator cost a program that never allocates?
 *
 * Without an argument it does nothing at all: `measure -n` runs it many times for the time of a
 * start and an end. With any argument it prints its own memory, measured from the page tables
 * (the kernel's counters, ru_maxrss among them, are too coarse for so small a program), and whose
 * malloc it is bound to.
 */
#include "bench.h"

int main(int argc, char **argv)
{
	struct bench_section section;
	struct bench_memory memory;

	(void)argv;
	if (argc == 1)
		return 0;
	section = bench_begin();
	memory = bench_memory();
	section = bench_end(section);
	bench_report("empty", 0, section,
		     (const struct bench_figure[]){
			     { "rss_kib", (double)memory.rss_kib },
			     { "anon_kib", (double)memory.anon_kib },
			     { "huge_kib", (double)memory.huge_kib },
		     },
		     3);
	return 0;
}
