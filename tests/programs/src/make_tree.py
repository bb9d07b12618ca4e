# SPDX-License-Identifier: MIT
"""Makes a folder of about 12 MiB: text, noise, zeros, many small files, long names.

usage: make_tree.py FOLDER
"""

import os
import random
import sys


def main():
    root = sys.argv[1]
    noise = random.Random(1)
    words = [f"word{n}" for n in range(2000)]
    for number in range(600):
        folder = os.path.join(root, f"folder {number % 20}", "deep" * (number % 7 + 1))
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"file{number}{'x' * (number % 150)}"), "wb") as file:
            if number % 3 == 0:
                file.write(" ".join(noise.choices(words, k=number * 15)).encode())
            elif number % 3 == 1:
                file.write(noise.randbytes(number * 30))
            else:
                file.write(bytes(number * 10))


if __name__ == "__main__":
    main()
