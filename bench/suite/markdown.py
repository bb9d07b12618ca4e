# SPDX-License-Identifier: MIT
"""A report as Markdown: short for the README, and in full."""

from suite.allocators import HAKMEM
from suite.figures import CPU_KEY, RSS_KEY, number, spread, two


def table(head, lines, names=1):
    align = ["---" if i < names else "---:" for i in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, align] + lines) + "\n"


def describe(report):
    m = report.machine
    governor = f", governor {m['governor']}" if m["governor"] != "none" else ""
    after = f", {m['load_after']:.2f} after" if "load_after" in m else "; **the run was not finished**"
    lines = [
        f"Machine: {m['cpu']}, {m['cpus_allowed']} of {m['cpus_online']} CPUs, {m['nodes']} node(s), "
        f"{m['memory_mib']} MiB; Linux {m['kernel']}; THP {m['thp_enabled']}, defrag "
        f"{m['thp_defrag']}; overcommit {m['overcommit_memory']}{governor}; load "
        f"{m['load_before']:.2f} before{after}.",
        f"Run: {m['mode']}, {m['rounds']} rounds in turn after one warm-up round, {m['date']}, commit "
        f"{m['commit'] or 'unknown'}, programs compiled by {m['compiler']}.",
        "Command: `" + m["command"] + "`",
        "Allocators: " + "; ".join(
            f"{name} = {a['version']}" + "".join(f" {k}={v}" for k, v in a["env"].items())
            for name, a in m["allocators"].items()) + ".",
    ]
    if m["missing"]:
        lines.append("**Not installed, so not measured: " + ", ".join(m["missing"]) + ".**")
    if m.get("changed"):
        lines.append(f"**Replaced during the run: {', '.join(m['changed'])}. The figures are of two "
                     "libraries.**")
    lines += [f"**{name} FAILED at an empty program: {why}**" for name, why in m["broken"].items()]
    lines += [f"Skipped: {r.name}: {r.skipped}." for r in report.results.values() if r.skipped]
    return "\n\n".join(lines) + "\n"


def means_table(report):
    """hakmem over each other, a line a group: geometric means of the paired ratios."""
    peers = [p for p in report.peers if p not in report.huge]
    head = ["hakmem / other", "figures", "best other of each"] + peers
    lines = []

    def line(title, results, key=None):
        best, count = (None, 0) if key else report.mean_best(results)
        means = [report.mean(results, peer, key) for peer in peers]
        count = count or max((n for _, n in means), default=0)
        if count:
            lines.append([title, str(count), two(best) if best else "-"]
                         + [two(mean) if mean else "-" for mean, _ in means])

    for group in report.groups:
        line(group["title"] + {"time": ", time", "latency": ", p99.9", "memory": ""}[group["kind"]],
             report.of_group(group))
    line("**All that take time**, time", report.totals())
    line("**All that take time**, CPU time", report.totals(), CPU_KEY)
    line("**All that take time**, peak RSS", report.totals(), RSS_KEY)
    return table(head, lines)


def brief_table(report):
    """A line for each figure: medians, and peak RSS in MiB where the figure is a time."""
    names = [n for n in report.machine["allocators"] if n not in report.huge]
    kinds = {g["name"]: g["kind"] for g in report.groups}
    lines = []
    for result in report.results.values():
        for figure in result.figures:
            if not result.allocators or not figure["ranked"]:
                continue
            cells = []
            for name in names:
                s, rss = result.of(name, figure["key"]), result.of(name, RSS_KEY)
                if name in result.failures:
                    cells.append("failed")
                elif not s:
                    cells.append("-")
                elif kinds[result.group] == "time":
                    cells.append(f"{number(s.median * figure['scale'])} ({number(rss.median / 1024)})")
                else:
                    cells.append(number(s.median * figure["scale"]))
            lines.append([title(result, figure)] + cells)
    return table([""] + names, lines)


def title(result, figure):
    label = f" {figure['label']}" if figure["label"] else ""
    return f"{result.name}{label}, {figure['unit']}"


def best_table(report):
    head = ["row", "best other", "its figure", "hakmem", "hakmem / best", "hakmem / best, RSS"]
    lines = []
    for result in report.results.values():
        for figure in result.figures:
            if not figure["ranked"] or not result.allocators:
                continue
            key, scale = figure["key"], figure["scale"]
            bests = [result.best_other(key, huge=False)]
            if result.best_other(key, huge=True) != bests[0]:
                bests.append(result.best_other(key, huge=True))
            mine = result.of(HAKMEM, key)
            for best in bests:
                theirs = result.of(best, key) if best else None
                lines.append([
                    title(result, figure), best or "none",
                    number(theirs.median * scale) if theirs else "-",
                    "**FAILED**" if HAKMEM in result.failures else
                    number(mine.median * scale) if mine else "-",
                    spread(result.ratio(HAKMEM, best, key), two),
                    spread(result.ratio(HAKMEM, best, RSS_KEY), two)])
    return table(head, lines, names=2)


def detail_table(report):
    head = ["row", "allocator", "figure", "M op/s", "CPU s", "peak RSS MiB", "minor faults",
            "major faults", "hakmem / it", "hakmem / it, RSS"]
    lines = []
    for result in report.results.values():
        for i, figure in enumerate(result.figures):
            best = result.best_other(figure["key"], huge=True)
            for name in result.allocators:
                shown = f"**{name}**" if name == best else name
                if name in result.failures:
                    if i == 0:
                        lines.append([result.name, shown, "**FAILED**: " + result.failures[name]
                                      .replace("|", "\\|")] + ["-"] * (len(head) - 3))
                    continue
                s = result.of(name, figure["key"])
                if not s:
                    continue
                of = {k: result.of(name, k).median for k in (CPU_KEY, RSS_KEY, "minflt", "majflt")}
                paired = [result.ratio(HAKMEM, name, k) if name != HAKMEM else None
                          for k in (figure["key"], RSS_KEY)]
                lines.append([
                    result.name + (f" {figure['label']}" if figure["label"] else ""), shown,
                    spread(s, lambda v, f=figure: number(v * f["scale"])) + " " + figure["unit"],
                    number(1e3 / s.median) if figure["rate"] else "-", number(of[CPU_KEY]),
                    number(of[RSS_KEY] / 1024), f"{of['minflt']:,.0f}", f"{of['majflt']:,.0f}",
                    spread(paired[0], two), spread(paired[1], two)])
    return table(head, lines, names=2)


def series_table(result):
    """Memory over time: RSS and what the cgroup was charged with, MiB, at each step."""
    runs = {name: next((run for run in result.runs[name].values() if "series" in run), None)
            for name in result.allocators if name not in result.failures}
    runs = {name: run for name, run in runs.items() if run}
    if not runs:
        return ""
    first = next(iter(runs.values()))
    lines = [[step[0], f"{step[2] / 2**20:,.0f}"]
             + [f"{run['series'][i][3] / 1024:,.1f} / {run['series'][i][5] / 1024:,.1f}"
                for run in runs.values()]
             for i, step in enumerate(first["series"])]
    group = "MemFree's fall" if first["group"] == "MemFree" else "the cgroup's growth"
    return (f"{result.name}: RSS / {group}, MiB. The second holds whatever else runs there.\n\n"
            + table(["step", "live"] + list(runs), lines))


def brief(report):
    """What stands in the README."""
    parts = []
    if HAKMEM in report.machine["allocators"]:
        parts += ["Geometric means of hakmem's figure over the other's in the same round; below 1 "
                  "hakmem is better:\n", means_table(report)]
    parts += ["Medians; in brackets peak RSS in MiB. Less is better in all of them:\n",
              brief_table(report), describe(report)]
    return "\n".join(parts)


def full(report):
    parts = ["# Benchmark results\n", describe(report),
             "Figures are medians of the rounds with [minimum, maximum]; in all of them less is "
             "better. A ratio is hakmem's figure over the other's in the same round, so below 1 "
             "hakmem is better. Bold: the best other allocator of the row.\n"]
    if HAKMEM in report.machine["allocators"]:
        parts += ["## Geometric means\n", means_table(report),
                  "## Against the best other\n", best_table(report)]
    series = [text for text in map(series_table, report.results.values()) if text]
    if series:
        parts += ["## Memory over time\n"] + series
    parts += ["## All figures\n", detail_table(report)]
    return "\n".join(parts)
