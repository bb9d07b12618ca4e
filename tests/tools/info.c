/* SPDX-License-Identifier: MIT */
/*
 * What mallinfo2 says before and after blocks of every tier: prints by how much uordblks grew and
 * how many bytes were asked for, then malloc_info's text.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#define ROUNDS 50

int main(void)
{
	static const size_t sizes[] = { 16, 100, 1000, 20000, 200000, 500000, 3000000 };
	static void *blocks[ROUNDS][sizeof sizes / sizeof *sizes];
	char line[64];
	struct mallinfo2 before = mallinfo2();
	size_t asked = 0;
	for (size_t i = 0; i < ROUNDS; i++)
		for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
			blocks[i][k] = malloc(sizes[k]);
			asked += blocks[i][k] ? sizes[k] : 0;
		}
	void *own = calloc(1, (size_t)100 << 20); /* a mapping of its own */
	struct mallinfo2 now = mallinfo2();
	asked += own ? (size_t)100 << 20 : 0;
	snprintf(line, sizeof line, "%zu %zu %zu", now.uordblks - before.uordblks, asked, now.arena - now.uordblks - now.fordblks);
	fprintf(stderr, "%s\n", line);
	return malloc_info(0, stdout) != 0 || !own;
}
