/* SPDX-License-Identifier: MIT */
/*
 * measure: what did a program take, measured from outside: wall time, CPU, peak RSS, faults?
 *
 *   measure [-n RUNS] [-e NAME=VALUE]... [-f FD] [-s] -- PROGRAM [ARGUMENT]...
 *
 * Runs PROGRAM, RUNS times one after another, with NAME=VALUE added to its environment, and prints
 * one line of JSON to FD (default 2). Under -s no memory of PROGRAM lies on transparent huge pages,
 * whatever it or the machine asks for. Times and faults are the sum, the peak RSS is the maximum of
 * the runs. The first run that does not exit with 0 is the last, and its fate is in the line.
 *
 * Why a C program, where bench/run could wait for its children itself: Linux counts the memory
 * that a process had before exec into its ru_maxrss, so a child of python3 has never needed less
 * than python3. This program forks small, and the preload is set in the child alone.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NO_PROGRAM 127

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static int usage(void)
{
	fputs("usage: measure [-n RUNS] [-e NAME=VALUE]... [-f FD] [-s] -- PROGRAM [ARGUMENT]...\n",
	      stderr);
	return 2;
}

int main(int argc, char **argv)
{
	double wall = 0, user = 0, sys = 0;
	long minflt = 0, majflt = 0, maxrss = 0, runs = 1, done = 0;
	char **settings = calloc((size_t)argc, sizeof(*settings));
	int nsettings = 0, fd = 2, status = 0, small = 0, c;

	if (!settings)
		return 2;
	while ((c = getopt(argc, argv, "+n:e:f:s")) != -1) {
		char *end = "";

		if (c == 'n')
			runs = strtol(optarg, &end, 10);
		else if (c == 'f')
			fd = (int)strtol(optarg, &end, 10);
		else if (c == 's')
			small = 1;
		else if (c == 'e' && strchr(optarg, '='))
			settings[nsettings++] = optarg;
		else
			return usage();
		if (*end || runs < 1)
			return usage();
	}
	if (optind == argc)
		return usage();

	while (done < runs && status == 0) {
		struct rusage r;
		double start = now();
		pid_t child = fork();

		if (child == 0) {
			for (int i = 0; i < nsettings; i++)
				putenv(settings[i]);
			if (fd > 2)
				close(fd);
			/* kept by exec and by the children's children */
			if (small && prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)) {
				perror("measure: PR_SET_THP_DISABLE");
				_exit(NO_PROGRAM);
			}
			execv(argv[optind], argv + optind);
			fprintf(stderr, "measure: %s: %s\n", argv[optind], strerror(errno));
			_exit(NO_PROGRAM);
		}
		if (child < 0) {
			perror("measure: fork");
			return 2;
		}
		while (wait4(child, &status, 0, &r) < 0)
			if (errno != EINTR) {
				perror("measure: wait4");
				return 2;
			}
		wall += now() - start;
		user += seconds(r.ru_utime);
		sys += seconds(r.ru_stime);
		minflt += r.ru_minflt;
		majflt += r.ru_majflt;
		if (maxrss < r.ru_maxrss)
			maxrss = r.ru_maxrss;
		done++;
	}
	free(settings);
	if (dprintf(fd,
		    "{\"runs\":%ld,\"wall_s\":%.6f,\"user_s\":%.6f,\"sys_s\":%.6f,"
		    "\"maxrss_kib\":%ld,\"minflt\":%ld,\"majflt\":%ld,\"exit\":%d,\"signal\":%d}\n",
		    done, wall, user, sys, maxrss, minflt, majflt,
		    WIFEXITED(status) ? WEXITSTATUS(status) : -1,
		    WIFSIGNALED(status) ? WTERMSIG(status) : 0) < 0)
		return 2;
	return status != 0;
}
