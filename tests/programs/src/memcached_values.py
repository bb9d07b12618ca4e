# SPDX-License-Identifier: MIT
"""Stores, changes, reads and deletes values in a memcached from several connections.

usage: memcached_values.py PORT
"""

import hashlib
import socket
import sys
import threading

CLIENTS = 6
KEYS = 4000
ADDS = 2000


def blob(key, size):
    seed = hashlib.sha256(key.encode()).digest()
    return (seed * (size // len(seed) + 1))[:size]


def size_of(index):
    """0 bytes to 8 KiB, and every 500th value up to 1 MiB."""
    if index % 500 == 499:
        return 65536 << (index // 500 % 5)
    return index * 2654435761 % 8192


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.file = self.socket.makefile("rb")

    def ask(self, line, data=None):
        parts = [line.encode(), b"\r\n"]
        if data is not None:
            parts += [data, b"\r\n"]
        self.socket.sendall(b"".join(parts))
        return self.file.readline().strip()

    def want(self, wanted, line, data=None):
        got = self.ask(line, data)
        if got != wanted:
            raise AssertionError(f"{line}: wanted {wanted!r}, got {got!r}")

    def get(self, keys):
        """A dictionary of what is there, asked for in one request."""
        self.socket.sendall(f"get {' '.join(keys)}\r\n".encode())
        found = {}
        while True:
            words = self.file.readline().split()
            if words == [b"END"]:
                return found
            found[words[1].decode()] = self.file.read(int(words[3]) + 2)[:-2]


def work(port, number, errors):
    try:
        client = Client(port)
        names = [f"{number}:{i}" for i in range(KEYS)]
        for i, name in enumerate(names):
            value = blob(name, size_of(i))
            client.want(b"STORED", f"set {name} 0 0 {len(value)}", value)
        # A third grows, a third goes, a third stays.
        for i, name in enumerate(names):
            if i % 3 == 0 and i % 500 != 499:
                client.want(b"STORED", f"append {name} 0 0 100", b"x" * 100)
            elif i % 3 == 1:
                client.want(b"DELETED", f"delete {name}")
            if i < ADDS:
                client.ask("incr counter 3")
        for start in range(0, KEYS, 50):
            group = names[start : start + 50]
            found = client.get(group)
            for i, name in enumerate(group, start):
                wanted = blob(name, size_of(i))
                if i % 3 == 0 and i % 500 != 499:
                    wanted += b"x" * 100
                if i % 3 == 1:
                    wanted = None
                if found.get(name) != wanted:
                    raise AssertionError(f"key {name} has another value")
    except Exception as error:  # the main thread reports it
        errors.append(f"client {number}: {error!r:.300}")


def main():
    port = int(sys.argv[1])
    first = Client(port)
    first.want(b"STORED", "set counter 0 0 1", b"0")
    errors = []
    threads = [threading.Thread(target=work, args=(port, n, errors)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not errors and first.get(["counter"]) != {"counter": b"%d" % (3 * CLIENTS * ADDS)}:
        errors.append("increments were lost")
    if not errors:
        first.want(b"OK", "flush_all")
    sys.exit("\n".join(errors) or 0)


if __name__ == "__main__":
    main()
