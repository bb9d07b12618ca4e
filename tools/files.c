/* SPDX-License-Identifier: MIT */
/* Where the libraries are that were built or installed together with this tool. */
#include "tool.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *if_there(const char *dir, const char *between, const char *name)
{
	static char path[2][PATH_MAX];
	static unsigned turn;
	char *s = path[turn++ % 2];
	int n = snprintf(s, PATH_MAX, "%s/%s%s", dir, between, name);
	return n > 0 && n < PATH_MAX && access(s, R_OK) == 0 ? s : NULL;
}

const char *files_library(const char *name)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	const char *path = NULL;
	if (n > 0) {
		self[n] = 0;
		char *slash = strrchr(self, '/');
		*slash = 0;
		/* BUILD/tools/hakmem, then PREFIX/bin/hakmem moved with its prefix */
		path = if_there(self, "../.libs/", name);
		if (!path)
			path = if_there(LIBDIR, "", name);
		if (!path)
			path = if_there(self, "../lib/", name);
	}
	return path ? path : if_there(LIBDIR, "", name);
}
