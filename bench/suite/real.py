# SPDX-License-Identifier: MIT
"""Whole programs, as Debian ships them. What they work on is in bench/macro or made here from a
fixed seed. A program that is not installed is a skipped row that says so.

Each is a class with `needs` (commands) and run(programs, allocator, count, check) -> figures. Under
`check` the dynamic linker says whose malloc every process is bound to; such a run does not count.
The C library's row preloads the C library: Debian's redis is linked to jemalloc.
"""

import dataclasses
import os
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time

from suite.measuring import Bindings, Failed, TIMEOUT

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def which(command):
    """The system's own: what stands first on the caller's PATH may be a shell script."""
    return shutil.which(command, path=PATH)


def with_libc(allocator, programs):
    if allocator.path:
        return allocator
    for line in subprocess.run(["ldd", programs.path("empty")], stdout=subprocess.PIPE, text=True,
                               check=True).stdout.splitlines():
        name, _, rest = line.strip().partition(" => ")
        if name.startswith("libc."):
            return dataclasses.replace(allocator, path=rest.split(" ")[0])
    raise Failed("ldd names no C library")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# ---- programs that end by themselves ------------------------------------------------------------

class Command:
    """Its output must be the same under every allocator."""
    settings = ()

    def __init__(self):
        self.output = None

    def run(self, programs, allocator, count, check):
        allocator = with_libc(allocator, programs)
        with Bindings() as bindings:
            settings = list(self.settings) + (bindings.settings() if check else [])
            child = programs.start(allocator, self.words(programs.macro, count), settings=settings)
            figures, out = child.finish()
            if check:
                bindings.check(allocator)
        if self.output is None:
            self.output = out
        if out != self.output:
            raise Failed(f"its output differs from the first run's: {out[:100]!r}")
        return figures


class Sqlite(Command):
    needs = ("sqlite3",)

    def words(self, macro, count):
        return [which("sqlite3"), "-batch", ":memory:", f"CREATE TABLE size AS SELECT {count} AS n;",
                f".read {os.path.join(macro, 'job.sql')}"]


class Gcc(Command):
    needs = ("gcc",)

    def words(self, macro, count):
        return [which("gcc"), "-O2", "-S", f"-DTENS={count}", "-o", "/dev/null",
                os.path.join(macro, "job.c")]


class Python(Command):
    needs = ("python3",)
    # otherwise python serves blocks up to 512 bytes itself
    settings = (("PYTHONMALLOC", "malloc"), ("PYTHONHASHSEED", "1"))

    def words(self, macro, count):
        return [os.path.realpath(which("python3")), "-I", os.path.join(macro, "job.py"), str(count)]


class Ruby(Command):
    needs = ("ruby",)

    def words(self, macro, count):
        return [os.path.realpath(which("ruby")), "--disable-gems", os.path.join(macro, "job.rb"),
                str(count)]


class Perl(Command):
    needs = ("perl",)
    settings = (("PERL_HASH_SEED", "1"), ("PERL_PERTURB_KEYS", "0"))

    def words(self, macro, count):
        return [which("perl"), os.path.join(macro, "job.pl"), str(count)]


class Gawk(Command):
    needs = ("gawk",)

    def words(self, macro, count):
        return [which("gawk"), "-v", f"count={count}", "-f", os.path.join(macro, "job.awk")]


class Z3(Command):
    needs = ("z3",)

    def words(self, macro, count):
        return [which("z3"), f"rlimit={count}", os.path.join(macro, "job.smt2")]


# ---- servers ------------------------------------------------------------------------------------

class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request, length):
        """Sends and reads as many bytes as the answer must have."""
        self.socket.sendall(request)
        answer = bytearray()
        while len(answer) < length:
            got = self.socket.recv(1 << 20)
            if not got:
                raise Failed("the server has closed the connection")
            answer += got
        return bytes(answer)

    def line(self, request):
        self.socket.sendall(request)
        answer = b""
        while not answer.endswith(b"\n"):
            got = self.socket.recv(4096)
            if not got:
                break
            answer += got
        return answer


class Server:
    """Started under the allocator, loaded from outside, stopped. wall_s is the time of the load."""

    def run(self, programs, allocator, count, check):
        allocator = with_libc(allocator, programs)
        folder = tempfile.mkdtemp(prefix="bench-server.")
        port = free_port()
        try:
            with Bindings() as bindings:
                child = programs.start(allocator, self.words(port), folder=folder,
                                       settings=bindings.settings() if check else ())
                try:
                    pid = self.wait_for(child, port)
                    with open(f"/proc/{pid}/maps") as maps:
                        if os.path.realpath(allocator.path) not in maps.read():
                            raise Failed(f"{allocator.path} is not mapped in the server")
                    seconds = self.load(port, count)
                    self.stop(port, pid)
                except BaseException:
                    child.kill()
                    child.outside.close()
                    raise
                figures, _ = child.finish(60)
                if check:
                    bindings.check(allocator)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        figures["server_s"] = figures["wall_s"]
        figures["wall_s"] = seconds
        return figures

    def wait_for(self, child, port):
        end = time.monotonic() + 30
        while time.monotonic() < end and child.popen.poll() is None:
            try:
                return self.pid(Connection(port))
            except (OSError, ValueError, IndexError):
                time.sleep(0.02)
        raise Failed("the server does not answer")


class Redis(Server):
    needs = ("redis-server", "redis-benchmark")
    tests = "set,get,lpush,lpop,hset,sadd"

    def words(self, port):
        return [which("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "",
                "--appendonly", "no", "--daemonize", "no"]

    def pid(self, connection):
        text = connection.line(b"INFO server\r\n").decode()
        return int(text.split("process_id:")[1].split()[0])

    def benchmark(self, port, count, tests):
        begin = time.monotonic()
        done = subprocess.run([which("redis-benchmark"), "-p", str(port), "-q", "-n", str(count),
                               "-r", "100000", "-P", "16", "-c", "16", "-d", "512", "-t", tests],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=TIMEOUT, check=False, stdin=subprocess.DEVNULL)
        if done.returncode or "rror" in done.stdout:
            raise Failed(f"redis-benchmark: status {done.returncode}: {done.stdout[-200:]}")
        return time.monotonic() - begin

    def load(self, port, count):
        return self.benchmark(port, count, self.tests)

    def stop(self, port, pid):
        connection = Connection(port)
        answer = connection.line(b"SHUTDOWN NOSAVE\r\n")
        if answer:
            raise Failed(f"SHUTDOWN: {answer!r}")


class RedisBgsave(Redis):
    """Fills 100,000 keys, starts a BGSAVE, and goes on writing while the child saves. The time runs
    until both are done."""

    def load(self, port, count):
        self.benchmark(port, 200_000, "set,hset")
        control = Connection(port)
        begin = time.monotonic()
        answer = control.line(b"BGSAVE\r\n")
        if not answer.startswith(b"+Background"):
            raise Failed(f"BGSAVE: {answer!r}")
        self.benchmark(port, count, self.tests)
        while "rdb_bgsave_in_progress:0" not in (text := self.persistence(control)):
            time.sleep(0.01)
        if "rdb_last_bgsave_status:ok" not in text:
            raise Failed("BGSAVE has failed")
        return time.monotonic() - begin

    def persistence(self, connection):
        """A bulk answer: $LENGTH, a line end, so many bytes, a line end."""
        connection.socket.sendall(b"INFO persistence\r\n")
        answer = b""
        while b"\n" not in answer:
            answer += connection.socket.recv(65536)
        head, rest = answer.split(b"\r\n", 1)
        while len(rest) < int(head[1:]) + 2:
            rest += connection.socket.recv(65536)
        return rest.decode()


class Memcached(Server):
    """Batches of requests, made ahead, over four connections at once: half store values of 10 to
    4,000 bytes, half read ten keys each. Every answer is checked by its length, and its content
    where only that can tell."""
    needs = ("memcached",)
    connections = 4
    batch = 250
    keys = 20000

    def words(self, port):
        words = [which("memcached"), "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "2", "-m",
                 "512"]
        return words + (["-u", "root"] if os.geteuid() == 0 else [])

    def pid(self, connection):
        return int(connection.line(b"stats\r\n").decode().split("STAT pid ")[1].split()[0])

    def value(self, client, key):
        """The same for a key whenever it is stored, so that every answer is known."""
        size = 10 + (key * 2654435761 + client) % 3991
        return b"%c" % (97 + key % 26) * size

    def batches(self, client, count):
        """[(request, answer), ...]: first every key is stored once."""
        pick = random.Random(client)
        made = []

        def store(keys):
            request = b"".join(b"set %d:%d 0 0 %d\r\n%s\r\n" % (
                client, k, len(self.value(client, k)), self.value(client, k)) for k in keys)
            made.append((request, b"STORED\r\n" * len(keys)))

        keys = self.keys // self.connections
        for first in range(0, keys, self.batch):
            store(range(first, min(first + self.batch, keys)))
        while count > 0:
            count -= self.batch
            if pick.random() < 0.5:
                store([pick.randrange(keys) for _ in range(self.batch)])
                continue
            asked = [pick.randrange(keys) for _ in range(self.batch // 10)]
            request = b"".join(b"get %d:%d\r\n" % (client, k) for k in asked)
            answer = b"".join(b"VALUE %d:%d 0 %d\r\n%s\r\nEND\r\n" % (
                client, k, len(self.value(client, k)), self.value(client, k)) for k in asked)
            made.append((request, answer))
        return made

    def load(self, port, count):
        work = [self.batches(c, count // self.connections) for c in range(self.connections)]
        failures = []

        def client(batches):
            try:
                connection = Connection(port)
                for request, answer in batches:
                    if connection.ask(request, len(answer)) != answer:
                        raise Failed("memcached: a wrong answer")
            except (OSError, Failed) as why:
                failures.append(why)

        threads = [threading.Thread(target=client, args=(w,)) for w in work]
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise Failed(str(failures[0]))
        return time.monotonic() - begin

    def stop(self, port, pid):
        os.kill(pid, 15)


PROGRAMS = {"redis": Redis, "redis_bgsave": RedisBgsave, "memcached": Memcached, "sqlite3": Sqlite,
            "gcc": Gcc, "python3": Python, "ruby": Ruby, "perl": Perl, "gawk": Gawk, "z3": Z3}


def missing(name):
    """The commands that a program cannot do without and that are not here."""
    return [command for command in PROGRAMS[name].needs if not which(command)]
