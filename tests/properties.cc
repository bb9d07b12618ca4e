/* SPDX-License-Identifier: MIT */
/*
 * What others' tests ask of operator new and delete: jemalloc's cpp/basic and failing_new,
 * mimalloc's main-override.cpp and test-api (new handlers), scudo's wrappers_cpp_test, libstdc++'s
 * 18_support. Each is a function of its name's words; see properties.c.
 */
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <unistd.h>
#include <vector>

#define CHECK(cond)                                                                                 \
	do {                                                                                        \
		if (!(cond)) {                                                                      \
			fprintf(stderr, "line %d: %s\n", __LINE__, #cond);                          \
			_exit(1);                                                                   \
		}                                                                                   \
	} while (0)

namespace {

const std::size_t too_much = PTRDIFF_MAX;
const std::size_t sizes[] = { 0, 1, 8, 100, 1024, 5000, 70000, 300000, 3u << 20 };
const std::size_t aligns[] = { 8, 16, 32, 64, 256, 4096, 65536, 2u << 20 };

bool is_aligned(void *p, std::size_t align) { return (reinterpret_cast<std::uintptr_t>(p) & (align - 1)) == 0; }

/* Each form of new, with each form of delete that may end it. */
void every_form()
{
	for (std::size_t n : sizes) {
		void *p[] = { operator new(n), operator new(n), operator new(n, std::nothrow), operator new(n, std::nothrow) };
		void *a[] = { operator new[](n), operator new[](n), operator new[](n, std::nothrow), operator new[](n, std::nothrow) };
		for (void *q : p)
			CHECK(q && is_aligned(q, __STDCPP_DEFAULT_NEW_ALIGNMENT__) && malloc_usable_size(q) >= n && memset(q, 1, n));
		for (void *q : a)
			CHECK(q && is_aligned(q, __STDCPP_DEFAULT_NEW_ALIGNMENT__) && malloc_usable_size(q) >= n && memset(q, 2, n));
		CHECK(p[0] != p[1] && a[0] != a[1]);
		operator delete(p[0]), operator delete(p[1], n), operator delete(p[2], std::nothrow), operator delete(p[3], n);
		operator delete[](a[0]), operator delete[](a[1], n), operator delete[](a[2], std::nothrow), operator delete[](a[3], n);
		for (std::size_t align : aligns) {
			std::align_val_t at{ align };
			void *p[] = { operator new(n, at), operator new(n, at), operator new(n, at, std::nothrow) };
			void *a[] = { operator new[](n, at), operator new[](n, at), operator new[](n, at, std::nothrow) };
			for (void *q : p)
				CHECK(q && is_aligned(q, align) && malloc_usable_size(q) >= n && memset(q, 3, n));
			for (void *q : a)
				CHECK(q && is_aligned(q, align) && malloc_usable_size(q) >= n && memset(q, 4, n));
			operator delete(p[0], at), operator delete(p[1], n, at), operator delete(p[2], at, std::nothrow);
			operator delete[](a[0], at), operator delete[](a[1], n, at), operator delete[](a[2], at, std::nothrow);
		}
	}
	operator delete(nullptr), operator delete[](nullptr), operator delete(nullptr, 8), operator delete(nullptr, std::align_val_t{ 64 });
}

template <typename F> bool throws_bad_alloc(F f)
{
	try {
		(void)!f();
	} catch (const std::bad_alloc &) {
		return true;
	}
	return false;
}

/* No memory: bad_alloc, or null from the forms that do not throw. */
void no_memory()
{
	std::align_val_t at{ 4096 };
	volatile std::size_t count = SIZE_MAX / 4;
	for (std::size_t n : { too_much, too_much + 1, SIZE_MAX }) {
		CHECK(throws_bad_alloc([=] { return operator new(n); }));
		CHECK(throws_bad_alloc([=] { return operator new[](n); }));
		CHECK(throws_bad_alloc([=] { return operator new(n, at); }));
		CHECK(throws_bad_alloc([=] { return operator new[](n, at); }));
		CHECK(!operator new(n, std::nothrow) && !operator new[](n, std::nothrow));
		CHECK(!operator new(n, at, std::nothrow) && !operator new[](n, at, std::nothrow));
	}
	CHECK(throws_bad_alloc([&] { return new double[count]; })); /* bad_array_new_length is one */
}

int calls;
void third_time_gives_up()
{
	if (++calls == 3)
		std::set_new_handler(nullptr);
}
void throws()
{
	calls++;
	throw std::bad_alloc();
}

/* The handler is called until it throws, or is no more. */
void handlers()
{
	std::align_val_t at{ 64 };
	void *(*const forms[])() = {
		[] { return operator new(too_much); },
		[] { return operator new[](too_much); },
		[] { return operator new(too_much, std::align_val_t{ 64 }); },
		[] { return operator new[](too_much, std::align_val_t{ 64 }); },
	};
	for (auto form : forms) {
		calls = 0;
		std::set_new_handler(third_time_gives_up);
		CHECK(throws_bad_alloc(form) && calls == 3);
		std::set_new_handler(throws);
		CHECK(throws_bad_alloc(form) && calls == 4);
	}
	calls = 0;
	CHECK(!operator new(too_much, std::nothrow) && calls == 1);
	CHECK(!operator new[](too_much, std::nothrow) && calls == 2);
	CHECK(!operator new(too_much, at, std::nothrow) && calls == 3);
	CHECK(!operator new[](too_much, at, std::nothrow) && calls == 4);
	calls = 0;
	std::set_new_handler(third_time_gives_up);
	CHECK(!operator new(too_much, std::nothrow) && calls == 3);
	std::set_new_handler(nullptr);
}

void *reserve;
void gives_memory_back()
{
	calls++;
	free(reserve);
	reserve = nullptr;
	std::set_new_handler(nullptr);
}

/* What the handler frees is enough: new goes on. The address space is full but for that. */
void a_handler_that_helps()
{
	const std::size_t gib = std::size_t(1) << 30;
	std::vector<void *> all;
	all.reserve(1 << 20);
	for (std::size_t n = std::size_t(1) << 46; n >= gib; n /= 2)
		while (void *p = malloc(n))
			all.push_back(p);
	if (all.empty()) { /* a limit is near: there is no such block */
		puts("skipped: no block of 1 GiB can be had");
		return;
	}
	reserve = all.back();
	all.pop_back();
	calls = 0;
	std::set_new_handler(gives_memory_back);
	void *p = operator new(gib);
	CHECK(p && calls == 1 && !reserve);
	operator delete(p);
	for (void *q : all)
		free(q);
}

struct alignas(128) wide {
	char c[200];
	wide() : c() { CHECK(is_aligned(this, 128)); c[0] = 1; }
};
struct refuses {
	std::string s = std::string(1000, 'x');
	refuses() { throw 1; }
};

/* Containers, aligned types, shared_ptr, and constructors that throw. */
void objects()
{
	std::map<std::string, std::vector<wide>> m;
	for (int i = 0; i < 300; i++)
		m[std::string(i, 'k')].resize(i % 20);
	for (auto &e : m)
		for (wide &w : e.second)
			CHECK(is_aligned(&w, 128) && w.c[0] == 1);
	std::unique_ptr<wide[]> array(new wide[17]);
	std::shared_ptr<wide> shared = std::make_shared<wide>();
	std::size_t before = mallinfo2().uordblks;
	for (int i = 0; i < 1000; i++) {
		try {
			delete[] new refuses[3];
		} catch (int) {
		}
	}
	CHECK(mallinfo2().uordblks <= before + 100000);
}

const struct {
	const char *name;
	void (*run)();
} properties[] = {
	{ "every_form", every_form }, { "no_memory", no_memory }, { "handlers", handlers },
	{ "a_handler_that_helps", a_handler_that_helps }, { "objects", objects },
};

} // namespace

int main(int argc, char **argv)
{
	for (auto &p : properties) {
		if (argc < 2)
			puts(p.name);
		else if (!strcmp(argv[1], p.name))
			return p.run(), 0;
	}
	return argc < 2 ? 0 : 2;
}
