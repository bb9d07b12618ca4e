# SPDX-License-Identifier: MIT
"""Did every process under test write its statistics, and do they hold?

usage: check_stats.py FOLDER PIDS
FOLDER holds PID.json of each process that ended by exit; PIDS has a line
"PID NAME" for each one that the test itself started, which therefore must be
there: without its file, the preload was not in effect or the exit not clean.
"""

import json
import os
import re
import sys

KEYS = ("fallbacks", "stages", "nodes", "engines")


def faults_of(path):
    try:
        with open(path, encoding="utf-8") as file:
            stats = json.load(file)
    except (OSError, ValueError) as error:
        return [f"{path}: {error}"]
    if not isinstance(stats, dict):
        return [f"{path}: not an object"]
    faults = [f"{path}: no key '{key}'" for key in KEYS if key not in stats]
    if stats.get("fallbacks", 0) != 0:
        faults.append(f"{path}: fallbacks is {stats['fallbacks']!r}, not 0")
    return faults


def main():
    folder, pids = sys.argv[1:]
    faults = []
    names = os.listdir(folder)
    for name in sorted(names):
        if re.fullmatch(r"[0-9]+\.json", name):
            faults += faults_of(os.path.join(folder, name))
        else:
            faults.append(f"{folder}: unexpected file '{name}'")
    with open(pids, encoding="utf-8") as file:
        started = [line.split(maxsplit=1) for line in file]
    for pid, program in started:
        if f"{pid}.json" not in names:
            faults.append(f"{program.strip()} (process {pid}) wrote no statistics")
    if not started:
        faults.append("the test started nothing under the preload")
    for fault in faults[:20]:
        print(fault)
    print(f"{len(names)} statistics files, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
