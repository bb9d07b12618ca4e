# SPDX-License-Identifier: MIT
"""The python3 row: objects, dictionaries, strings, JSON, sorting, big integers. job.py ROUNDS"""

import json
import re
import sys
import zlib


class Node:
    def __init__(self, key, left=None, right=None):
        self.key, self.left, self.right, self.tags = key, left, right, [key % 7, str(key)]


def tree(depth, key=1):
    if depth == 0:
        return Node(key)
    return Node(key, tree(depth - 1, 2 * key), tree(depth - 1, 2 * key + 1))


def total(node):
    return node.key + len(node.tags[1]) + (total(node.left) + total(node.right) if node.left else 0)


def words(seed, count):
    for _ in range(count):
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
        yield "w%x" % (seed >> 44)


def one(number):
    tally, lines = {}, []
    for word in words(number, 20000):
        tally.setdefault(word[:4], []).append(word)
        lines.append(f"{word}={len(word)};{word.upper()}")
    text = "\n".join(lines)
    pairs = dict(m.groups() for m in re.finditer(r"^(\w+)=(\d+)", text, re.M))
    document = json.loads(json.dumps({"tally": tally, "pairs": pairs, "rows": [
        {"id": i, "name": name, "values": [i, i / 3, None]} for i, name in enumerate(sorted(pairs)[:2000])]}))
    big = 1
    for i in range(1, 600):
        big *= i
    order = sorted(document["tally"].items(), key=lambda item: (len(item[1]), item[0]))
    return zlib.crc32(repr((order[:50], len(text), total(tree(11)), str(big)[-200:], len(pairs))).encode())


check = 0
for n in range(int(sys.argv[1])):
    check = (check * 31 + one(n)) % 2**32
print(check)
