# SPDX-License-Identifier: MIT
"""Writes values of many types and sizes into a redis-server, or reads them all back.

usage: redis_values.py PORT load|check COUNT
Each value follows from its key, so the two runs need share nothing.
"""

import hashlib
import socket
import sys

BATCH = 500


def blob(key, size):
    seed = hashlib.sha256(key.encode()).digest()
    return (seed * (size // len(seed) + 1))[:size]


def size_of(index):
    """1 byte to 4 KiB, and every thousandth value up to 1 MiB."""
    if index % 1000 == 999:
        return 65536 << (index // 1000 % 5)
    return 1 + index * 2654435761 % 4096


def commands(count):
    """Pairs of the command that writes and the one that reads back, with its answer."""
    for i in range(count):
        key = f"string:{i}"
        value = blob(key, size_of(i))
        yield ("SET", key, value), ("GET", key), value
    for i in range(count // 30):
        fields = [f"{i}:{j}".encode() for j in range(i % 200 + 1)]
        yield ("RPUSH", f"list:{i}", *fields), ("LRANGE", f"list:{i}", "0", "-1"), fields
        pairs = [part for field in fields for part in (field, blob(field.decode(), 40))]
        last = fields[-1]
        yield ("HSET", f"hash:{i}", *pairs), ("HGET", f"hash:{i}", last), pairs[-1]
        yield ("SADD", f"set:{i}", *fields), ("SCARD", f"set:{i}"), len(fields)
        scored = [part for j, field in enumerate(fields) for part in (str(j), field)]
        yield ("ZADD", f"sorted:{i}", *scored), ("ZRANGE", f"sorted:{i}", "0", "-1"), fields


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.file = self.socket.makefile("rb")

    def send(self, many):
        out = []
        for words in many:
            out.append(b"*%d\r\n" % len(words))
            for word in words:
                word = word if isinstance(word, bytes) else word.encode()
                out.append(b"$%d\r\n%s\r\n" % (len(word), word))
        self.socket.sendall(b"".join(out))

    def answer(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else self.file.read(size + 2)[:-2]
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        sys.exit(f"redis answers {line!r}")


def main():
    port, action, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    client = Client(port)
    batch = []

    def flush():
        client.send([write if action == "load" else read for write, read, _ in batch])
        for _, read, wanted in batch:
            got = client.answer()
            if action == "check" and got != wanted:
                sys.exit(f"{' '.join(map(str, read))}: wanted {wanted!r:.80}, got {got!r:.80}")
        batch.clear()

    for entry in commands(count):
        batch.append(entry)
        if len(batch) == BATCH:
            flush()
    flush()


if __name__ == "__main__":
    main()
