// SPDX-License-Identifier: MIT
// Containers and exceptions in threads, blocks freed by other threads, over-aligned and
// nothrow new, thread-locals with destructors; prints what each counted and aborts on a
// block that is misaligned or has changed.

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace {

[[noreturn]] void die(const char *what)
{
	std::fprintf(stderr, "threads: %s\n", what);
	std::abort();
}

class Random {
public:
	explicit Random(std::uint64_t seed) : state(seed * 2862933555777941757u + 3037000493u) {}
	std::uint64_t operator()(std::uint64_t limit)
	{
		state = state * 6364136223846793005u + 1442695040888963407u;
		return (state >> 33) % limit;
	}

private:
	std::uint64_t state;
};

template <std::size_t Alignment> struct alignas(Alignment) Aligned {
	std::uint64_t value;
	unsigned char rest[Alignment * 2 - sizeof(std::uint64_t)];
};

template <std::size_t Alignment> std::uint64_t aligned(Random &random)
{
	std::vector<std::unique_ptr<Aligned<Alignment>>> kept;
	std::uint64_t sum = 0;

	for (int i = 0; i < 300; i++) {
		auto block = std::make_unique<Aligned<Alignment>>();
		if (reinterpret_cast<std::uintptr_t>(block.get()) % Alignment != 0)
			die("an over-aligned block is not aligned");
		block->value = random(1000);
		block->rest[sizeof(block->rest) - 1] = static_cast<unsigned char>(block->value);
		kept.push_back(std::move(block));
		if (i % 4 == 3)
			kept.erase(kept.begin() + static_cast<long>(random(kept.size())));
	}
	for (const auto &block : kept) {
		if (block->rest[sizeof(block->rest) - 1] != static_cast<unsigned char>(block->value))
			die("an over-aligned block has changed");
		sum += block->value;
	}
	/* An array goes through operator new[] with an alignment. */
	std::unique_ptr<Aligned<Alignment>[]> array(new Aligned<Alignment>[5]());
	return sum + array[4].value;
}

int thrown(Random &random, int depth)
{
	std::string local(random(300), 'x');

	if (depth == 0)
		throw std::runtime_error("the end of " + local);
	try {
		return thrown(random, depth - 1) + static_cast<int>(local.size());
	} catch (const std::runtime_error &error) {
		if (depth % 3 == 0)
			throw std::logic_error(std::string(error.what()) + "!");
		throw;
	}
}

std::uint64_t containers(Random &random)
{
	std::map<std::string, std::vector<int>> tree;
	std::unordered_map<std::uint64_t, std::string> table;
	std::list<std::string> chain;
	std::uint64_t sum = 0;

	for (int i = 0; i < 30000; i++) {
		tree["key " + std::to_string(random(3000))].push_back(i);
		table[random(5000)].append(random(40), static_cast<char>('a' + i % 26));
		chain.push_back(std::string(random(120), '-'));
		if (i % 3 == 0)
			chain.pop_front();
		if (i % 7 == 0)
			table.erase(random(5000));
		if (i % 500 == 0)
			tree.erase(tree.begin());
	}
	for (const auto &entry : tree)
		sum += std::accumulate(entry.second.begin(), entry.second.end(), entry.first.size());
	for (const auto &entry : table)
		sum += entry.first * entry.second.size();
	for (const auto &text : chain)
		sum += text.size();
	std::ostringstream out;
	for (int i = 0; i < 5000; i++)
		out << i << ' ' << i * 0.5 << '\n';
	return sum + out.str().size();
}

/* A thread's end runs this destructor, which frees and allocates once more. */
struct Leaving {
	std::vector<std::string> names;
	static std::atomic<int> left;

	~Leaving()
	{
		names.push_back(std::string(100, 'z'));
		left += static_cast<int>(names.size());
	}
};
std::atomic<int> Leaving::left;
thread_local Leaving leaving;

/* Threads hand blocks round: each is freed by another than its maker. */
class Exchange {
public:
	void put(std::unique_ptr<std::string> text)
	{
		std::lock_guard<std::mutex> guard(lock);
		texts.push_back(std::move(text));
	}
	std::unique_ptr<std::string> take(std::uint64_t at)
	{
		std::lock_guard<std::mutex> guard(lock);
		if (texts.empty())
			return nullptr;
		std::swap(texts[at % texts.size()], texts.back());
		auto text = std::move(texts.back());
		texts.pop_back();
		return text;
	}

private:
	std::mutex lock;
	std::vector<std::unique_ptr<std::string>> texts;
};

Exchange exchange;
std::atomic<std::uint64_t> made, freed;

void hand_round(Random &random)
{
	for (int i = 0; i < 20000; i++) {
		auto text = std::make_unique<std::string>(1 + random(2000), static_cast<char>('a' + i % 26));
		made += text->size();
		exchange.put(std::move(text));
		if (auto other = exchange.take(random(1000000))) {
			if (other->front() != other->back())
				die("a block from another thread has changed");
			freed += other->size();
		}
	}
}

std::uint64_t work(std::uint64_t seed)
{
	Random random(seed);
	std::uint64_t sum = containers(random);

	sum += aligned<32>(random) + aligned<64>(random) + aligned<256>(random);
	sum += aligned<4096>(random) + aligned<65536>(random);
	for (int i = 0; i < 300; i++) {
		try {
			sum += static_cast<std::uint64_t>(thrown(random, 12));
		} catch (const std::logic_error &error) {
			sum += std::string(error.what()).size();
		}
	}
	for (std::size_t size : {std::size_t{1} << 58, SIZE_MAX / 2, SIZE_MAX - 64}) {
		if (std::unique_ptr<char[]> none{new (std::nothrow) char[size]})
			die("nothrow new returned what cannot be");
		try {
			std::vector<std::unique_ptr<char[]>> many;
			many.emplace_back(new char[size]);
			die("new returned what cannot be");
		} catch (const std::bad_alloc &) {
			sum++;
		}
	}
	leaving.names.push_back("thread " + std::to_string(seed));
	hand_round(random);
	return sum;
}

} // namespace

int main()
{
	for (int round = 0; round < 3; round++) {
		std::vector<std::uint64_t> sums(6);
		std::vector<std::thread> threads;
		std::uint64_t total = 0;

		for (std::size_t i = 0; i < sums.size(); i++)
			threads.emplace_back([&sums, i] { sums[i] = work(i + 1); });
		for (auto &thread : threads)
			thread.join();
		for (auto sum : sums)
			total += sum;
		std::printf("sum %llu\n", static_cast<unsigned long long>(total));
	}
	while (auto text = exchange.take(0))
		freed += text->size();
	if (made != freed)
		die("not every block came round");
	std::printf("round %llu\n", static_cast<unsigned long long>(made));

	for (int i = 0; i < 1000; i++)
		std::thread([i] { leaving.names.assign(static_cast<std::size_t>(i % 20), "name"); }).join();
	std::printf("left %d\n", Leaving::left.load());
	std::puts("done");
}
