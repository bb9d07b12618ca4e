# SPDX-License-Identifier: MIT
"""Prints a history for `git fast-import`: 1,500 commits that change 200 files."""

import hashlib
import sys

COMMITS = 1500
FILES = 200


def main():
    out = sys.stdout.buffer
    lines = {}

    def file(name, text):
        data = text.encode()
        out.write(b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(data), data))

    for number in range(1, COMMITS + 1):
        out.write(b"commit refs/heads/main\nmark :%d\n" % number)
        out.write(b"committer A Writer <a@example.org> %d +0000\n" % (1577836800 + number * 60))
        message = b"change %d" % number
        out.write(b"data %d\n%s\n" % (len(message), message))
        if number > 1:
            out.write(b"from :%d\n" % (number - 1))
        for step in range(4):
            index = (number * 7 + step * 31) % FILES
            text = lines.setdefault(index, [])
            word = hashlib.sha256(b"%d %d" % (number, step)).hexdigest()
            text.insert(number * 13 % (len(text) + 1), word)
            text.append(f"line {number}")
            file(f"dir{index % 10}/file{index}", "\n".join(text) + "\n")
        file("README", "".join(f"commit {n}\n" for n in range(max(1, number - 300), number + 1)))
    out.write(b"done\n")


if __name__ == "__main__":
    main()
