# SPDX-License-Identifier: MIT
"""The fixed list of rows. doc/benchmarks.md says of each what it does and why it is there; change
both together. Counts are chosen so that a run takes 0.3 to 1.5 s, and are the same for everyone.
"""

import dataclasses
import os


@dataclasses.dataclass(frozen=True)
class Figure:
    """What a row is compared by. Less is better in every one: all ratios read the same way."""
    key: str              # in the program's report, or one of measure's
    unit: str
    scale: float = 1.0    # from the report's unit to this one
    rate: bool = False    # ns an operation, so M operations a second can be said as well
    label: str = ""       # where a row has several figures: which
    ranked: bool = True   # False: shown, but in no mean


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    command: str                     # {n} is the count, {per_cpu} so many threads a CPU
    count: int = 1                   # operations, bytes, threads or runs
    figures: tuple = ()
    quick: int = 0                   # count of --quick; 0: a quarter of `count`
    modes: tuple = ("quick", "default", "full")
    huge: bool = False               # also beside allocators with huge pages switched on
    small_pages: bool = False        # nobody gets huge pages
    repeat: bool = False             # `count` short runs of the program, measured from outside
    once: bool = False               # one round, no warm-up: long and steady
    together: bool = False           # all allocators at the same time: it sleeps
    curve: tuple = ()                # (name of a curve, x): drawn as one point of it
    real: str = ""                   # a program of real.py instead of bench/micro

    def counted(self, mode):
        return (self.quick or max(1, self.count // 4)) if mode == "quick" else self.count


@dataclasses.dataclass(frozen=True)
class Group:
    name: str
    title: str
    kind: str       # time, latency or memory: what its mean is a mean of
    rows: tuple
    in_total: bool = True


PER_OP = (Figure("ns_per_op", "ns/op", rate=True),)
US_PER_OP = (Figure("ns_per_op", "us/op", 1e-3),)
MS_PER_OP = (Figure("ns_per_op", "ms/op", 1e-6),)
SECONDS = (Figure("seconds", "s"),)
WALL = (Figure("wall_s", "s"),)
PER_RUN = (Figure("us_per_run", "us/run"),)
PER_THREAD = (Figure("rss_kib_per_thread", "KiB/thread"),)
RSS = (Figure("rss_kib", "KiB RSS"),)

QUANTILES = (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"), ("p9999", "p99.99"), ("max", "max"))
LATENCY = tuple(
    Figure(f"{call}_{key}_ns", "ns", label=f"{call} {label}", ranked=label == "p99.9")
    for call in ("malloc", "free") for key, label in QUANTILES)

LATENCY_MALLOC = tuple(f for f in LATENCY if f.key.startswith("malloc"))

OVER_LIVE = Figure("rss_over_live", "x live", label="at the height")


def after(seconds):
    key = str(seconds).replace(".", "_")
    return Figure(f"rss_kib_after_{key}s", "MiB", 1 / 1024, label=f"{seconds} s after")


TENTH = Figure("rss_kib_tenth_left", "MiB", 1 / 1024, label="a tenth left")

HELD = (Figure("rss_over_live", "x live", label="RSS"), Figure("charged_over_live", "x live", label="charged"))
HELD_KIB = (Figure("rss_kib", "MiB", 1 / 1024, label="RSS"),
            Figure("charged_kib", "MiB", 1 / 1024, label="charged"))

USED = (Figure("used_over_asked", "x asked", label="used"),
        Figure("maxrss_kib", "MiB", 1 / 1024, label="peak RSS"),
        Figure("ns_per_op", "ns/op", rate=True, label="time", ranked=False))

K = 1000
M = 1000 * 1000
G = 1 << 30


def random_mixed(slots, count, **more):
    return Row(more.pop("name", f"random_mixed/{slots}"), f"random_mixed --slots {slots} --ops {{n}}",
               count, PER_OP, **more)


def mixed33k(threads):
    return Row(f"mixed33k/{threads}t", f"mixed33k --threads {threads} --ops {{n}}", 3 * M, PER_OP,
               curve=("mixed33k", threads))


def mid_large(threads):
    return Row(f"mid_large/{threads}t", f"mixed33k --threads {threads} --min 2Ki --max 1Mi --octaves 1 "
               "--slots 64 --ops {n}", 1500 * K, PER_OP, curve=("mid_large", threads))


def larson(threads, name, sizes, count, curve=True):
    return Row(f"larson/{threads}t-{name}", f"larson --threads {threads} {sizes} --ops {{n}}", count,
               PER_OP, curve=(f"larson, {name}", threads) if curve else ())


def sharing(name, passive, threads):
    return Row(f"{name}/{threads}t", f"false_sharing --passive {passive} --threads {threads} --ops {{n}}",
               400 * K, PER_OP)


OWN = (
    random_mixed(256, 30 * M),
    random_mixed(8192, 30 * M),
    random_mixed(200000, 10 * M),
    *(mixed33k(t) for t in (1, 2, 4, 8)),
    *(mid_large(t) for t in (1, 2, 4, 8)),
    *(larson(t, "tiny", "--min 8 --max 128", 20 * M) for t in (1, 4, 8)),
    larson(2, "small", "--min 8 --max 1000", 20 * M, curve=False),
    larson(8, "small", "--min 8 --max 1000", 20 * M, curve=False),
    *(larson(t, "mid", "--min 2Ki --max 32Ki", 6 * M) for t in (1, 2, 4, 8)),
    *(larson(t, "large", "--min 64Ki --max 1Mi --blocks 100 --handover 5000", 200 * K)
      for t in (1, 4, 8)),
    sharing("cache_thrash", 0, 2),
    sharing("cache_thrash", 0, 8),
    sharing("cache_scratch", 1, 2),
    sharing("cache_scratch", 1, 8),
    Row("vm_mixed", "random_mixed --slots 64 --min 512Ki --max 2Mi --touch pages --ops {n}", 40 * K,
        PER_OP),
    Row("stress/32t", "mixed33k --threads 32 --min 16 --max 32Ki --octaves 1 --remote 25 --ops {n}",
        6 * M, PER_OP),
)

CURVE = tuple(
    random_mixed(1 << power, (20 if power < 16 else 10) * M, name=f"random_mixed/2^{power}",
                 curve=("random_mixed", 1 << power),
                 modes=("quick", "default", "full") if power % 4 == 0 else ("default", "full"))
    for power in range(8, 21, 2))

THREADS = (
    Row("prodcons/1:1", "prodcons --producers 1 --consumers 1 --ops {n}", 8 * M, PER_OP),
    Row("prodcons/3:1", "prodcons --producers 3 --consumers 1 --ops {n}", 8 * M, PER_OP),
    Row("prodcons/1:3", "prodcons --producers 1 --consumers 3 --ops {n}", 8 * M, PER_OP),
    Row("prodcons/bursts", "prodcons --ring 8Ki --burst 8Ki --ops {n}", 5 * M, PER_OP),
    Row("free_only/2t", "free_only --threads 2 --ops {n}", 5 * M, PER_OP),
    Row("churn/2t", "churn --alive 2 --ops {n}", 20 * K, US_PER_OP),
    Row("churn/8t", "churn --alive 8 --ops {n}", 20 * K, US_PER_OP),
    Row("many/16-per-cpu", "mixed33k --threads {per_cpu} --min 16 --max 1040 --remote 10 --ops {n}",
        8 * M, PER_OP),
)

SMALL = (
    Row("trees", "trees --ops {n}", 20 * M, PER_OP),
    Row("hashmap", "hashmap --ops {n}", 4 * M, PER_OP),
    Row("parse", "parse --ops {n}", 300, MS_PER_OP),
    Row("growth/blocks", "growth --bytes {n}", G, SECONDS, huge=True),
    Row("growth/vector", "growth --vector 1 --bytes {n}", G, SECONDS, huge=True),
    Row("growth/vectors", "growth --vector 1000 --bytes {n}", G // 2, SECONDS, huge=True),
    Row("server/1t", "server --threads 1 --ops {n}", 500 * K, US_PER_OP, curve=("server", 1)),
    Row("server/4t", "server --threads 4 --ops {n}", 500 * K, US_PER_OP, curve=("server", 4)),
    Row("phases", "phases --phases {n}", 20, SECONDS, huge=True),
    Row("aligned", "aligned --ops {n}", 10 * M, PER_OP),
    Row("tables", "tables --ops {n}", 1200, US_PER_OP, huge=True),
    Row("large", "random_mixed --slots 20 --min 5M --max 25M --touch pages --ops {n}", 600, US_PER_OP,
        huge=True),
    Row("large/ends", "random_mixed --slots 500 --min 1Mi --max 4Mi --touch ends --ops {n}", 40 * K, PER_OP, huge=True),
    Row("rebuild", "giveback --bytes 256Mi --wait 0 --rounds {n}", 20, SECONDS, huge=True),
    Row("first_touch", "first_touch --ops 1 --bytes {n}", G, SECONDS, huge=True),
    Row("cfrac", "cfrac --ops {n}", 600 * K, PER_OP),
    Row("barnes", "barnes --ops {n}", 80, MS_PER_OP),
)

START = (
    Row("empty/start", "empty", 300, PER_RUN, quick=50, repeat=True),
)

REAL = (
    Row("redis", "", 120 * K, WALL, real="redis"),
    Row("redis/bgsave", "", 80 * K, WALL, real="redis_bgsave"),
    Row("memcached", "", 600 * K, WALL, real="memcached"),
    Row("sqlite3", "", 150 * K, WALL, real="sqlite3"),
    Row("gcc", "", 3, WALL, quick=1, real="gcc"),
    Row("python3", "", 12, WALL, real="python3"),
    Row("ruby", "", 12, WALL, real="ruby"),
    Row("perl", "", 600 * K, WALL, real="perl"),
    Row("gawk", "", 1600 * K, WALL, real="gawk"),
    Row("z3", "", 4 * M, WALL, real="z3"),
)

LATENCIES = (
    Row("latency/small", "latency --ops {n}", 8 * M, LATENCY),
    Row("latency/mid", "latency --min 2Ki --max 64Ki --slots 1Ki --ops {n}", 2 * M, LATENCY),
    Row("latency/2t-remote", "latency --threads 2 --remote 20 --ops {n}", 4 * M, LATENCY),
    # after each wave the operations go on for 1.5 s: long enough for hakmem's decay of 1 s
    Row("latency/giving-back", "latency --waves {n} --ops 500k", 3, LATENCY, quick=1, once=True),
    Row("latency/large-kept", "latency --min 70Mi --max 70Mi --slots 4 --ops {n}", 40 * K, LATENCY),
    Row("latency/large-back", "latency --min 4Mi --max 32Mi --slots 16 --ops 20k --wave 1Gi --wave-max 32Mi "
        "--waves {n}", 3, LATENCY, quick=1, once=True),
    Row("latency/growing", "latency --min 1Ki --max 52Ki --pause 2000 --grow {n}", G, LATENCY_MALLOC),
)

MEMORY = (
    Row("memory/default", "memory --replaced 4 --wait {n}", 10,
        (OVER_LIVE, TENTH, after("0.1"), after("1.5"), after("10")), huge=True, once=True,
        modes=("default", "full")),
    Row("memory/small-pages", "memory --replaced 4 --wait {n}", 10,
        (OVER_LIVE, TENTH, after("0.1"), after("1.5"), after("10")), small_pages=True, once=True,
        modes=("default", "full")),
    Row("memory/short", "memory --replaced 4 --wait {n}", 1,
        (OVER_LIVE, TENTH, after("0.1"), after("1.5")), once=True, modes=("quick",)),
    Row("memory/120s", "memory --replaced 4 --wait {n}", 120, (after("120"),), once=True, together=True,
        modes=("full",)),
    *(Row(f"giveback/{name}", f"giveback --bytes {{n}} {how}", 3 * G // 2, figures, once=True)
      for name, how, figures in (("first-10", "--keep 10", HELD), ("first-90", "--keep 90", HELD),
                                 ("random-10", "--keep 10 --random 1", HELD), ("nothing", "", HELD_KIB))),
    Row("idle/1", "idle --blocks 1 --threads {n}", 1000, PER_THREAD, quick=1000),
    Row("idle/3", "idle --blocks 3 --threads {n}", 1000, PER_THREAD, quick=1000),
    Row("empty/rss", "empty --report", 1, RSS),
)

# long enough for the learner, which looks twice a second at most
ILLFIT = tuple(
    Row(f"illfit/{name}", f"illfit {sizes} --turns {{n}}", turns, USED)
    for name, sizes, turns in (("33296", "--first 33296", 200), ("2100", "--first 2100", 40),
                               ("9k+17k", "--first 9216 --second 17408", 100),
                               ("70k+130k", "--first 71680 --second 133120", 400),
                               ("drift", "--first 33296 --drift 190", 200)))

GROUPS = (
    Group("own", "HAKMEM's own", "time", OWN),
    Group("curve", "random_mixed by working set", "time", CURVE, in_total=False),
    Group("threads", "Threads", "time", THREADS),
    Group("small", "Programs in small", "time", SMALL),
    Group("real", "Real programs", "time", REAL),
    Group("start", "Start of a program", "time", START),
    Group("latency", "Latency", "latency", LATENCIES),
    Group("memory", "Memory", "memory", MEMORY),
    Group("illfit", "Sizes that fit badly", "memory", ILLFIT),
)

ROUNDS = {"quick": 3, "default": 5, "full": 7}


def words(row, mode):
    """The command with its count."""
    return row.command.format(n=row.counted(mode), per_cpu=16 * len(os.sched_getaffinity(0)))
