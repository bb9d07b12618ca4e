# SPDX-License-Identifier: MIT
"""A report as one page: no script, no network, charts as inline SVG. Narrow and wide, light and dark
are left to the style sheet; a chart is drawn once, and scales."""

import html
import math

from suite.allocators import HAKMEM
from suite.figures import CPU_KEY, RSS_KEY, Spread, number, two
from suite.markdown import title

# One colour an allocator, told apart by people who do not see red and green as well. The lists are
# for light and for dark paper.
COLOURS = {
    HAKMEM: ("#c2410c", "#fb923c"), "glibc": ("#475569", "#94a3b8"), "mimalloc": ("#0369a1", "#38bdf8"),
    "jemalloc": ("#7e22ce", "#c084fc"), "tcmalloc": ("#a16207", "#facc15"),
    "glibc-huge": ("#94a3b8", "#64748b"), "mimalloc-large": ("#7dd3fc", "#0284c7"),
    "jemalloc-thp": ("#d8b4fe", "#9333ea"),
}
SPARE = (("#047857", "#34d399"), ("#be185d", "#f472b6"), ("#4d7c0f", "#a3e635"), ("#0f766e", "#2dd4bf"))

STYLE = """
:root { --paper: #fbfaf7; --card: #fff; --ink: #1c1917; --soft: #6b6560; --line: #e4e0d8; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #171513; --card: #211e1b; --ink: #ece7e1; --soft: #a39c94; --line: #3a3530; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1500px; margin: 0 auto; padding: 1.2rem clamp(.8rem, 3vw, 2.5rem) 4rem; }
h1 { font-size: 1.7rem; margin: .3rem 0 .2rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .2rem; }
h2 + p, .soft { color: var(--soft); margin: .1rem 0 .8rem; font-size: .9rem; max-width: 60rem; }
.grid { display: grid; gap: .9rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); }
.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 460px), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .7rem .9rem .6rem; }
.card h3 { font-size: .92rem; margin: 0 0 .35rem; display: flex; justify-content: space-between; gap: .6rem; }
.card h3 span { color: var(--soft); font-weight: 400; }
.card p { margin: .3rem 0 0; font-size: .82rem; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: var(--ink); }
svg .mute { fill: var(--soft); }
.axis { stroke: var(--line); stroke-width: 1; }
.whisker { stroke: var(--ink); stroke-width: 1; opacity: .55; }
.one { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 3 3; opacity: .6; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .9rem; margin: .6rem 0 0; }
nav a { color: inherit; }
.key { position: sticky; top: 0; z-index: 1; background: var(--paper); padding: .5rem 0; display: flex;
  flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .88rem; border-bottom: 1px solid var(--line); }
.key i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .35em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .9rem; font-size: .87rem; margin: .6rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--card); }
th { color: var(--soft); font-weight: 500; }
@media (max-width: 30rem) { th, td { padding: .22rem .3rem; } }
td.better { color: #15803d; } td.worse { color: #b91c1c; }
@media (prefers-color-scheme: dark) { td.better { color: #4ade80; } td.worse { color: #f87171; } }
.bad { color: #b91c1c; font-weight: 600; }
details > summary { cursor: pointer; margin: .6rem 0; }
"""


def esc(text):
    return html.escape(str(text))


class Palette:
    def __init__(self, names):
        self.slots = {}
        spare = iter(SPARE * (1 + len(names) // len(SPARE)))
        for i, name in enumerate(names):
            self.slots[name] = (f"c{i}", COLOURS.get(name) or next(spare))

    def style(self):
        light = "".join(f"--{slot}: {pair[0]};" for slot, pair in self.slots.values())
        dark = "".join(f"--{slot}: {pair[1]};" for slot, pair in self.slots.values())
        return (f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n")

    def of(self, name):
        return f"var(--{self.slots[name][0]})"


# ---- charts -------------------------------------------------------------------------------------

def bars(palette, entries, scale=1.0, note=None, one=None, form=number):
    """Horizontal bars: entries are (name, Spread or None, words for a missing one). `note` is added
    to a bar's figure; `one` draws a line at that value."""
    width, left, right, step = 420, 96, 118, 21
    room = width - left - right
    top = max([s.high for _, s, _ in entries if s] + [one or 0], default=1) or 1
    # One bar far beyond the others would leave them without length: it is cut, and says so.
    medians = sorted(s.median for _, s, _ in entries if s)
    limit = top
    if len(medians) > 2 and medians[-1] > 4 * medians[-2]:
        limit = 2 * medians[-2]
    out = [f'<svg viewBox="0 0 {width} {step * len(entries) + 2}" role="img">']
    for i, (name, s, words) in enumerate(entries):
        y = i * step + 3
        weight = ' font-weight="600"' if name == HAKMEM else ""
        out.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end"{weight}>{esc(name)}</text>')
        if not s:
            out.append(f'<text class="mute" x="{left}" y="{y + 12}">{esc(words)}</text>')
            continue
        cut = s.median > limit
        x = room * min(s.median, limit) / limit
        out.append(f'<rect x="{left}" y="{y}" width="{max(x, 1):.1f}" height="15" rx="2" '
                   f'fill="{palette.of(name)}"><title>{esc(name)}: {number(s.median * scale)} '
                   f'[{number(s.low * scale)}, {number(s.high * scale)}]</title></rect>')
        if cut:
            out.append(f'<path d="M{left + x - 14:.1f} {y - 1}l-5 17m9 -17l-5 17" '
                       'stroke="var(--card)" stroke-width="2.5" fill="none"/>')
        else:
            a, b = (left + room * min(v, limit) / limit for v in (s.low, s.high))
            if b - a > 1:
                out.append(f'<path class="whisker" d="M{a:.1f} {y + 7.5}H{b:.1f}M{a:.1f} {y + 4.5}v6'
                           f'M{b:.1f} {y + 4.5}v6"/>')
        end = left + (x if cut else room * min(max(s.median, s.high), limit) / limit)
        extra = f' <tspan class="mute">{esc(note[name])}</tspan>' if note and name in note else ""
        out.append(f'<text x="{end + 6:.1f}" y="{y + 12}"{weight}>{form(s.median * scale)}{extra}</text>')
    if one:
        x = left + room * one / limit
        out.append(f'<path class="one" d="M{x:.1f} 0V{step * len(entries)}"/>')
    return "".join(out) + "</svg>"


def ticks(low, high, log):
    if log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        return [10.0 ** p for p in range(first, last + 1) if low <= 10.0 ** p <= high * 1.001]
    step = 10 ** math.floor(math.log10(high / 2)) if high > 0 else 1
    while high / step > 6:
        step *= 2 if round(step / 10 ** math.floor(math.log10(step))) in (1, 5) else 2.5
    return [i * step for i in range(int(high / step) + 1)]


def short(value):
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g} {unit}"
    return f"{value:g}"


def lines(palette, series, labels, x_log=False, y_log=False, unit="", band=True):
    """series: {allocator: [(x, Spread)]}; labels: [(x, text)] along the x axis."""
    width, height, left, bottom, top, right = 480, 250, 52, 24, 16, 10
    xs = [x for points in series.values() for x, _ in points]
    ys = [v for points in series.values() for _, s in points for v in (s.low, s.high)]
    if not xs:
        return ""
    fx = math.log2 if x_log else float
    fy = math.log10 if y_log else float
    x0, x1 = fx(min(xs)), fx(max(xs))
    low = min(v for v in ys if v > 0) / 1.2 if y_log else 0
    high = max(ys) * (1.2 if y_log else 1.05) or 1
    y0, y1 = (fy(low), fy(high)) if y_log else (0, high)

    def at(x, y):
        across = (fx(x) - x0) / (x1 - x0) if x1 > x0 else .5
        up = (fy(max(y, low) if y_log else y) - y0) / (y1 - y0)
        return left + across * (width - left - right), height - bottom - up * (height - bottom - top)

    out = [f'<svg viewBox="0 0 {width} {height}" role="img">',
           f'<text class="mute" x="{left}" y="9">{esc(unit)}</text>']
    for tick in ticks(low, high, y_log):
        y = at(min(xs), tick)[1]
        out.append(f'<path class="axis" d="M{left} {y:.1f}H{width - right}"/><text class="mute" '
                   f'x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{short(tick)}</text>')
    for i, (x, text) in enumerate(labels):
        anchor = "end" if i + 1 == len(labels) else "start" if i == 0 else "middle"
        out.append(f'<text class="mute" x="{at(x, high)[0]:.1f}" y="{height - 6}" '
                   f'text-anchor="{anchor}">{esc(text)}</text>')
    # hakmem last, so that it lies on top
    for name in sorted(series, key=lambda n: n == HAKMEM):
        points = series[name]
        if band and any(s.high > s.low for _, s in points):
            shape = [at(x, s.high) for x, s in points] + [at(x, s.low) for x, s in reversed(points)]
            out.append('<path d="M' + "L".join(f"{x:.1f} {y:.1f}" for x, y in shape)
                       + f'Z" fill="{palette.of(name)}" opacity=".13"/>')
        path = "L".join("{:.1f} {:.1f}".format(*at(x, s.median)) for x, s in points)
        thick = 2.6 if name == HAKMEM else 1.7
        out.append(f'<path d="M{path}" fill="none" stroke="{palette.of(name)}" stroke-width="{thick}" '
                   'stroke-linejoin="round"/>')
        for x, s in points:
            px, py = at(x, s.median)
            out.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.6" fill="{palette.of(name)}"><title>'
                       f'{esc(name)}: {number(s.median)} {esc(unit)}</title></circle>')
    return "".join(out) + "</svg>"


# ---- parts of the page --------------------------------------------------------------------------

def card(head, aside, body, more=""):
    return (f'<div class="card"><h3>{esc(head)}<span>{esc(aside)}</span></h3>{body}{more}</div>')


def figure_card(palette, result, figure, kind):
    key = figure["key"]
    entries = [(n, result.of(n, key), "failed" if n in result.failures else "-")
               for n in result.allocators]
    note = {}
    if kind == "time":
        note = {n: f"{result.of(n, RSS_KEY).median / 1024:,.1f} MiB" for n, s, _ in entries if s}
    bad = "".join(f'<p class="bad">{esc(n)}: {esc(why)}</p>' for n, why in result.failures.items())
    name = result.name + (f", {figure['label']}" if figure["label"] else "")
    return card(name, figure["unit"], bars(palette, entries, figure["scale"], note), bad)


def group_means(report, palette):
    """Each other's geometric mean over hakmem's, so that hakmem is 1 and longer is slower."""
    cards = []
    sections = [(g["title"], {"time": "time", "latency": "p99.9", "memory": "memory"}[g["kind"]],
                 report.of_group(g), None) for g in report.groups]
    sections.append(("All that take time", "time", report.totals(), None))
    sections.append(("All that take time", "CPU time", report.totals(), CPU_KEY))
    sections.append(("All that take time", "peak RSS", report.totals(), RSS_KEY))
    for name, what, results, key in sections:
        entries = [(HAKMEM, Spread(1, 1, 1), "")]
        for peer in report.peers:
            mean, count = report.mean(results, peer, key)
            if mean and peer not in report.huge:
                entries.append((peer, Spread(1 / mean, 1 / mean, 1 / mean), ""))
        if len(entries) > 1:
            cards.append(card(name, f"{what}, hakmem = 1", bars(palette, entries, one=1, form=two)))
    return '<div class="grid">' + "".join(cards) + "</div>"


def curves(report, palette):
    names = {}
    for result in report.results.values():
        if result.curve and result.allocators:
            names.setdefault(result.curve[0], []).append(result)
    cards = []
    for name, results in names.items():
        if len(results) < 2:
            continue
        results.sort(key=lambda r: r.curve[1])
        figure, series = results[0].figures[0], {}
        for result in results:
            for allocator in result.allocators:
                s = result.of(allocator, figure["key"])
                if s and allocator not in report.huge:
                    scaled = Spread(*(v * figure["scale"] for v in (s.median, s.low, s.high)))
                    series.setdefault(allocator, []).append((result.curve[1], scaled))
        threads = "threads" if results[-1].curve[1] < 1024 else "slots of the working set"
        labels = [(r.curve[1], f"{r.curve[1]:,}") for r in results]
        cards.append(card(name, f"by {threads}", lines(palette, series, labels, x_log=True,
                                                       unit=figure["unit"])))
    return '<div class="grid wide">' + "".join(cards) + "</div>" if cards else ""


def latency(report, palette, results):
    """Percentiles from left to right, malloc and free beside each other."""
    cards = []
    for result in results:
        for call in ("malloc", "free"):
            figures = [f for f in result.figures if f["label"].startswith(call + " ")]
            series = {}
            for i, figure in enumerate(figures):
                for name in result.allocators:
                    s = result.of(name, figure["key"])
                    if s:
                        series.setdefault(name, []).append((i, s))
            labels = [(i, f["label"].split(" ")[1]) for i, f in enumerate(figures)]
            cards.append(card(f"{result.name}: {call}", "ns, logarithmic",
                              lines(palette, series, labels, y_log=True, unit="ns", band=False)))
    return '<div class="grid wide">' + "".join(cards) + "</div>"


def over_time(report, palette, results):
    """RSS of the rows that have a series, in the order of their steps."""
    cards = []
    for result in results:
        series, labels = {}, []
        for name in result.allocators:
            run = next((r for r in result.runs[name].values() if "series" in r), None)
            if not run or name in result.failures:
                continue
            points = [(i, Spread(*[sample[3] / 1024] * 3)) for i, sample in enumerate(run["series"])]
            series[name] = points
            labels = [(i, sample[0].replace(" after", "")) for i, sample in enumerate(run["series"])]
            live = [(i, sample[2] / 2**20) for i, sample in enumerate(run["series"])]
        if series:
            said = ", ".join(f"{v:.0f}" for _, v in live)
            cards.append(card(result.name, "RSS, MiB", lines(palette, series, labels, band=False, unit="MiB"),
                              f'<p class="soft">Asked for and live: {said} MiB</p>'))
    return '<div class="grid wide">' + "".join(cards) + "</div>" if cards else ""


def ratio_table(report):
    head = "".join(f"<th>{esc(h)}</th>" for h in ("row", "ratio", "bounds", "best other", "its figure",
                                                   "hakmem", "ratio, peak RSS"))  # the first fit a narrow screen
    body = []
    for result in report.results.values():
        for figure in result.figures:
            best = figure["ranked"] and result.best_other(figure["key"], huge=False)
            ratio = best and result.ratio(HAKMEM, best, figure["key"])
            if not ratio:
                continue
            rss = result.ratio(HAKMEM, best, RSS_KEY)
            # bounds that enclose 1 show no difference
            kind = "better" if ratio.high < 1 else "worse" if ratio.low > 1 else ""
            mine, theirs = result.of(HAKMEM, figure["key"]), result.of(best, figure["key"])
            body.append(f'<tr><td>{esc(title(result, figure))}</td>'
                        f'<td class="{kind}">{two(ratio.median)}</td>'
                        f'<td>{two(ratio.low)} to {two(ratio.high)}</td><td>{esc(best)}</td>'
                        f'<td>{number(theirs.median * figure["scale"])}</td>'
                        f'<td>{number(mine.median * figure["scale"])}</td>'
                        f'<td>{two(rss.median) if rss else "-"}</td></tr>')
    return (f'<div class="card scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}'
            '</tbody></table></div>')


def machine(report):
    m = report.machine
    pairs = [
        ("date", m["date"]), ("command", m["command"]), ("commit", m["commit"] or "unknown"),
        ("processor", f"{m['cpu']}, {m['cpus_allowed']} of {m['cpus_online']} CPUs, {m['nodes']} node(s)"),
        ("memory", f"{m['memory_mib']:,} MiB, overcommit {m['overcommit_memory']}, "
                   f"swappiness {m['swappiness']}"),
        ("kernel", f"Linux {m['kernel']}, {m['arch']}; huge pages {m['thp_enabled']}, defrag {m['thp_defrag']}"),
        ("governor", m["governor"]), ("compiler", m["compiler"]),
        ("load", f"{m['load_before']:.2f} before, " + (f"{m['load_after']:.2f} after" if "load_after" in m
                                                      else "not finished")),
    ]
    pairs += [(n, a["version"] + "".join(f", {k}={v}" for k, v in a["env"].items()) + f": {a['library']}")
              for n, a in m["allocators"].items()]
    pairs += [("not installed", ", ".join(m["missing"]))] if m["missing"] else []
    pairs += [(f"skipped: {r.name}", r.skipped) for r in report.results.values() if r.skipped]
    pairs += [("replaced during the run", ", ".join(m["changed"]))] if m.get("changed") else []
    pairs += [(f"failed: {n}", why) for n, why in m["broken"].items()]
    return "<dl>" + "".join(f"<dt>{esc(k)}</dt><dd>{esc(v)}</dd>" for k, v in pairs) + "</dl>"


def page(report):
    m = report.machine
    palette = Palette(list(m["allocators"]))
    key = "".join(f'<span><i style="background:{palette.of(n)}"></i>{esc(n)}</span>'
                  for n in m["allocators"])
    parts, links = [], []

    def section(anchor, head, text, body):
        if body:
            links.append(f'<a href="#{anchor}">{esc(head)}</a>')
            parts.append(f'<h2 id="{anchor}">{esc(head)}</h2><p>{text}</p>{body}')

    if HAKMEM in m["allocators"]:
        section("means", "Geometric means", "Of the ratios within rounds, over a group's rows. hakmem is 1; "
                "a longer bar is slower, or takes more memory.", group_means(report, palette))
    section("curves", "Scaling", "Medians of the rounds; the bands reach from the least to the most. Lower "
            "is better.", curves(report, palette))
    for group in report.groups:
        results = report.of_group(group)
        if group["kind"] == "latency":
            section(group["name"], group["title"], "Single calls, the timer's own time included.",
                    latency(report, palette, results))
            continue
        text = "Less is better. A bar is the median of the rounds, its whisker goes from the least to the most"
        text += "; beside it the peak RSS." if group["kind"] == "time" else "."
        body = "".join(figure_card(palette, r, f, group["kind"]) for r in results for f in r.figures)
        if body:
            body = f'<div class="grid">{body}</div>'
        series = over_time(report, palette, results) if group["kind"] == "memory" else ""
        section(group["name"], group["title"], text, (series and series + "<p></p>") + body)
    if HAKMEM in m["allocators"]:
        section("best", "Against the best other", "hakmem's figure over the best other allocator's, in the "
                "same round: median and bounds. Below 1 hakmem is better; bounds that enclose 1 show no "
                "difference. The others with huge pages switched on are left out.", ratio_table(report))
    mode = {"quick": "a quick look, not a claim", "default": "the default run",
            "full": "the full run"}[m["mode"]]
    return (f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width, initial-scale=1"><title>hakmem: benchmarks</title>'
            f"<style>{STYLE}{palette.style()}</style><main><h1>hakmem beside other allocators</h1>"
            f'<p class="soft">{esc(mode)}: {m["rounds"]} rounds in turn, {esc(m["date"][:10])}, '
            f'{esc(m["cpu"])}</p><details><summary>The machine and the libraries</summary>'
            f'{machine(report)}</details><nav>{"".join(links)}</nav><div class="key">{key}</div>'
            f'{"".join(parts)}</main></html>\n')
