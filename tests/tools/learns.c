/* SPDX-License-Identifier: MIT */
/*
 * A program that gives the learner much to decide: blocks of sizes that fit no class, which drift
 * and change. A child that is forked in the middle goes on with what its parent had learnt.
 *
 *	learns [SECONDS]	so long each of the two, in phases of a fifth of a second
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LIVE ((size_t)96 << 20)
#define PHASE_MS 200
#define BLOCKS (LIVE / 2048)

static const size_t sizes[] = { 33296, 2100, 70000, 17408, 133120, 9216 };
#define SIZES (sizeof sizes / sizeof *sizes)

static void *blocks[BLOCKS];

static uint64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void replace(size_t i, size_t bytes)
{
	free(blocks[i]);
	blocks[i] = malloc(bytes);
	if (!blocks[i])
		abort();
	memset(blocks[i], 1, 16);
}

/* Half of the blocks are of the phase's size, which grows, the others of the one before. */
static void run_phase(unsigned phase)
{
	uint64_t end = now_ms() + PHASE_MS, random = phase + 1;
	size_t bytes = sizes[phase % SIZES], other = sizes[(phase + SIZES - 1) % SIZES];
	size_t n = LIVE / 2 / bytes + LIVE / 2 / other;
	for (size_t i = n; i < BLOCKS; i++) {
		free(blocks[i]);
		blocks[i] = NULL;
	}
	for (size_t turn = 0; now_ms() < end; turn++)
		for (size_t i = 0; i < n / 4; i++) {
			random = random * 6364136223846793005u + 1442695040888963407u;
			replace((random >> 33) % n, i % 8 ? bytes + turn / 16 * 48 : other);
		}
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? strtod(argv[1], NULL) : 1;
	unsigned phases = (unsigned)(seconds * 1000 / PHASE_MS), phase = 0;
	int status = 0;
	while (phase < phases)
		run_phase(phase++);
	pid_t child = fork();
	while (child == 0 && phase < 2 * phases)
		run_phase(phase++);
	if (child == 0)
		return 0;
	return waitpid(child, &status, 0) == child && status == 0 ? 0 : 1;
}
