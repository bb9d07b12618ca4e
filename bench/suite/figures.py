# SPDX-License-Identifier: MIT
"""What the runs say: medians with bounds, ratios within rounds, means of groups. Everything here
works on the lines that --json writes, so a report can be made again from the file alone."""

import dataclasses
import math
import statistics

from suite.allocators import HAKMEM

RSS_KEY = "maxrss_kib"
CPU_KEY = "cpu_s"


@dataclasses.dataclass(frozen=True)
class Spread:
    median: float
    low: float
    high: float

    @staticmethod
    def of(values):
        values = list(values)
        return Spread(statistics.median(values), min(values), max(values)) if values else None


def geometric_mean(values):
    values = list(values)
    return math.exp(statistics.fmean(map(math.log, values))) if values else None


class Result:
    """The counted rounds of one row: runs[allocator][round] = figures."""

    def __init__(self, row):
        self.name = row["name"]
        self.group = row["group"]
        self.figures = row["figures"]        # dictionaries of rows.Figure
        self.curve = row["curve"]
        self.allocators = []                 # names, in the order of the runs
        self.huge = set()                    # of these, the ones with huge pages switched on
        self.runs = {}
        self.failures = {}
        self.skipped = ""

    def add(self, line):
        name = line["allocator"]
        if name not in self.allocators:
            self.allocators.append(name)
            self.runs[name] = {}
        if "failed" in line:
            self.failures[name] = line["failed"]
        elif not line["warm_up"]:
            self.runs[name][line["round"]] = line

    def of(self, name, key):
        """None if it was not measured, or has failed."""
        if name in self.failures or name not in self.runs:
            return None
        return Spread.of(run[key] for run in self.runs[name].values() if key in run)

    def ratio(self, mine, theirs, key):
        """The spread of the ratios within each round."""
        if mine in self.failures or theirs in self.failures:
            return None
        a, b = self.runs.get(mine, {}), self.runs.get(theirs, {})
        return Spread.of(a[r][key] / b[r][key] for r in a if r in b and b[r].get(key, 0) > 0
                         and a[r].get(key, 0) > 0)

    def best_other(self, key, huge):
        """The other with the best median over all rounds. Not the best of each single round: that
        would compare with an allocator that does not exist. One that has failed is no rival."""
        medians = [(self.of(name, key).median, name) for name in self.allocators
                   if name != HAKMEM and self.of(name, key) and (huge or name not in self.huge)]
        return min(medians)[1] if medians else None


class Report:
    """All that a file of JSON lines holds."""

    def __init__(self, lines):
        self.machine = next(line for line in lines if line["type"] == "machine")
        self.groups = self.machine["groups"]
        self.results = {row["name"]: Result(row) for row in self.machine["rows"]}
        for line in lines:
            if line["type"] == "run":
                self.results[line["row"]].add(line)
            elif line["type"] == "skip":
                self.results[line["row"]].skipped = line["why"]
            elif line["type"] == "end":
                self.machine.update(load_after=line["load_after"], changed=line.get("changed", []))
        self.huge = {n for n, a in self.machine["allocators"].items() if a["huge"]}
        for result in self.results.values():
            result.huge = self.huge
        self.peers = [n for n in self.machine["allocators"] if n != HAKMEM]

    def of_group(self, group):
        return [r for r in self.results.values() if r.group == group["name"] and r.allocators]

    def mean(self, results, peer, key=None):
        """(geometric mean of hakmem / peer, figures in it). key: of each row instead of its own."""
        ratios = []
        for result in results:
            for figure in [{"key": key, "ranked": True}] if key else result.figures:
                ratio = figure["ranked"] and result.ratio(HAKMEM, peer, figure["key"])
                if ratio:
                    ratios.append(ratio.median)
        return geometric_mean(ratios), len(ratios)

    def mean_best(self, results):
        """The same against the best other allocator of each row, at huge pages by default."""
        ratios = []
        for result in results:
            for figure in result.figures:
                best = figure["ranked"] and result.best_other(figure["key"], huge=False)
                ratio = best and result.ratio(HAKMEM, best, figure["key"])
                if ratio:
                    ratios.append(ratio.median)
        return geometric_mean(ratios), len(ratios)

    def totals(self):
        """The rows that the mean over everything is of: every row that takes time, once."""
        wanted = {g["name"] for g in self.groups if g["kind"] == "time" and g["in_total"]}
        return [r for r in self.results.values() if r.group in wanted and r.allocators]


def number(value):
    """Four figures that mean something, without an exponent."""
    if value >= 1000:
        return f"{value:,.0f}"
    for digits in (1, 2, 3):
        if value >= 10 ** (3 - digits):
            return f"{value:.{digits}f}"
    return f"{value:.4f}"


def two(value):
    return f"{value:.2f}"


def spread(s, form=number):
    return f"{form(s.median)} [{form(s.low)}, {form(s.high)}]" if s else "-"
