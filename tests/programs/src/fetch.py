# SPDX-License-Identifier: MIT
"""Fetches each file of a folder from a web server many times, plain and packed, and compares.

usage: fetch.py PORT FOLDER
"""

import concurrent.futures
import gzip
import http.client
import os
import sys

ROUNDS = 6


def fetch(port, path, packed):
    """One request on its own connection; the server may be reloading."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Accept-Encoding": "gzip"} if packed else {})
    answer = connection.getresponse()
    data = answer.read()
    if answer.status != 200:
        raise AssertionError(f"{path}: status {answer.status}")
    if answer.getheader("Content-Encoding") == "gzip":
        data = gzip.decompress(data)
    return data


def main():
    port, folder = int(sys.argv[1]), sys.argv[2]
    files = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as file:
            files[name] = file.read()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        jobs = [
            (prefix + name, files[name], pool.submit(fetch, port, prefix + name, packed))
            for _ in range(ROUNDS)
            for name in files
            for prefix in ("/", "/proxied/")
            for packed in (False, True)
        ]
        for path, wanted, job in jobs:
            if job.result() != wanted:
                sys.exit(f"{path}: {len(job.result())} bytes are not the file's {len(wanted)}")


if __name__ == "__main__":
    main()
