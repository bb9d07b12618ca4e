#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Ways to be linked, loaded and started: linking.sh LIB
# An auditor beside the preload, C++ libraries that come and go, a program's own operator new, a
# chain of execs, and a setuid program, which must not believe its caller's HAKMEM_*.
set -euo pipefail

lib=$(realpath "${1:?usage: linking.sh LIB}")
dir=$(mktemp -d "${TMPDIR:-/tmp}/hakmem-linking.XXXXXX")
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
cd "$dir"

passed=0 failed=0 skipped=0
skip() { skipped=$((skipped + 1)) && echo "$1: skipped: $2"; }
check() { # NAME COMMAND ...: status 0, and no word on stderr
	local name=$1 status=0
	shift
	timeout 300 "$@" >out 2>err || status=$?
	if [ $status = 0 ] && [ ! -s err ]; then
		passed=$((passed + 1)) && echo "$name: ok"
	else
		failed=$((failed + 1))
		echo "$name: FAILED: status $status"
		head -n 5 err | sed 's/^/  /'
	fi
}
preload=(env LD_PRELOAD="$lib")

cat >audit.c <<'END'
#define _GNU_SOURCE
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* an auditor has a C library, and so a malloc, of its own */
unsigned la_version(unsigned version) { free(strdup("audit")); return version; }
unsigned la_objopen(struct link_map *map, Lmid_t id, uintptr_t *cookie)
{
	free(strdup(map->l_name));
	(void)id, (void)cookie;
	return LA_FLG_BINDTO | LA_FLG_BINDFROM;
}
END
"${CC:-gcc}" -shared -fPIC -o audit.so audit.c
check "LD_AUDIT" env LD_AUDIT="$dir/audit.so" LD_PRELOAD="$lib" ls -l /
check "LD_AUDIT: the preload is in force" env LD_AUDIT="$dir/audit.so" LD_PRELOAD="$lib" grep -q "$lib" /proc/self/maps

# Each link of the chain leaves blocks, and threads that allocate while it goes.
cat >chain.c <<'END'
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void *busy(void *arg)
{
	void *p[100] = { 0 };
	for (unsigned i = 0;; i++) {
		free(p[i % 100]);
		p[i % 100] = calloc(1, i * 97 % 70000);
	}
	return arg;
}
int main(int argc, char **argv)
{
	char left[20];
	pthread_t t;
	int n = argc == 3 ? atoi(argv[1]) : 0;
	if (n == 0)
		return execlp("grep", "grep", "-q", argv[2], "/proc/self/maps", (char *)0);
	for (int i = 0; i < 2; i++)
		if (pthread_create(&t, 0, busy, 0))
			return 1;
	for (int i = 0; i < 1000; i++)
		memset(malloc((size_t)i * 50 + 1), 1, (size_t)i * 50 + 1);
	snprintf(left, sizeof left, "%d", n - 1);
	return execl("/proc/self/exe", argv[0], left, argv[2], (char *)0);
}
END
"${CC:-gcc}" -O1 -w -fno-builtin -o chain chain.c -pthread
check "a chain of 50 execs" "${preload[@]}" ./chain 50 "$lib"

if command -v "${CXX:-g++}" >/dev/null; then
	cat >plugin.cc <<-'END'
	#include <map>
	#include <memory>
	#include <mutex>
	#include <string>
	static std::mutex lock;
	static std::map<int, std::string> *all; /* made and deleted with the library */
	struct maker { maker() { all = new std::map<int, std::string>; } ~maker() { delete all; } } static it;
	thread_local std::unique_ptr<std::string> mine;
	extern "C" char *plugin(int n)
	{
		std::lock_guard<std::mutex> held(lock); /* the library is one for all threads */
		for (int i = 0; i < n; i++)
			(*all)[i] = std::string(i % 300, 'x');
		mine.reset(new std::string(5000, 'y'));
		char *p = new char[1000];
		return p;
	}
	END
	cat >host.c <<-'END'
	#include <dlfcn.h>
	#include <pthread.h>
	#include <stdlib.h>
	static void *turns(void *path)
	{
		for (int i = 0; i < 50; i++) {
			void *library = dlopen(path, RTLD_NOW);
			char *(*plugin)(int) = library ? (char *(*)(int))dlsym(library, "plugin") : 0;
			if (!plugin)
				abort();
			free(plugin(200)); /* outlives its library */
			dlclose(library);
		}
		return 0;
	}
	int main(int argc, char **argv)
	{
		pthread_t t[3];
		for (int i = 0; i < 3; i++)
			if (argc != 2 || pthread_create(&t[i], 0, turns, argv[1]))
				abort();
		for (int i = 0; i < 3; i++)
			pthread_join(t[i], 0);
		return 0;
	}
	END
	cat >own.cc <<-'END'
	#include <cstdlib>
	#include <new>
	#include <string>
	#include <vector>
	static long made;
	void *operator new(std::size_t n) { made++; void *p = std::malloc(n + 16); if (!p) throw std::bad_alloc(); return static_cast<char *>(p) + 16; }
	void operator delete(void *p) noexcept { if (p) { made--; std::free(static_cast<char *>(p) - 16); } }
	void operator delete(void *p, std::size_t) noexcept { operator delete(p); }
	int main()
	{
		{
			std::vector<std::string> v;
			for (int i = 0; i < 20000; i++)
				v.push_back(std::string(i % 500, 'z'));
			if (made < 10000)
				return 1;
		}
		return made != 0;
	}
	END
	"${CXX:-g++}" -O1 -fPIC -shared -o plugin.so plugin.cc
	"${CC:-gcc}" -O1 -w -o host host.c -pthread -ldl
	"${CXX:-g++}" -O1 -fno-builtin -o own own.cc
	check "C++ libraries loaded and unloaded on three threads" "${preload[@]}" ./host "$dir/plugin.so"
	check "a program's own operator new" "${preload[@]}" ./own
else
	skip "C++" "no ${CXX:-g++}"
fi

# A setuid program ignores LD_PRELOAD, but not a library that it is linked to.
cat >secure.c <<'END'
#include <stdlib.h>
#include <sys/auxv.h>
int main(void)
{
	free(malloc(100000));
	return getauxval(AT_SECURE) ? 0 : 77;
}
END
cp "$lib" libhakmem.so.0
"${CC:-gcc}" -O1 -fno-builtin -o secure secure.c ./libhakmem.so.0 -Wl,-rpath,"$dir"
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null && chmod 4755 secure &&
	setpriv --reuid=65534 --regid=65534 --clear-groups ./secure; then
	check "setuid: no statistics, no warning" setpriv --reuid=65534 --regid=65534 --clear-groups \
		env HAKMEM_STATS=1 HAKMEM_NONSENSE=1 ./secure
else
	skip "setuid" "not root, or no setuid programs here"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
