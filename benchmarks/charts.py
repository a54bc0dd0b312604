"""The charts of a report: ratios, latencies, and cost as it grows with something."""

import math

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import results  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: E402

COLOURS = {
    "asyncio": "#7f8c8d",
    "uvloop": "#e08e0b",
    "rloop": "#b5493a",
    "rsloop": "#8e5aa8",
    "zuvloop": "#4d9a9a",
    "asyncfast": "#1769aa",
    "c-epoll": "#222222",
    "c-libuv": "#999999",
}
OTHERS = ("#2e8b57", "#c2185b", "#6d4c41")
AHEAD, EVEN, BEHIND = "#1769aa", "#9fb4c4", "#c0392b"
SHARES = ("p50", "p99", "p99.9")
ROW_HEIGHT = 0.24
PANEL = (3.6, 2.8)
COLUMNS = 3
RATIO_TICKS = (0.25, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50)
STAYS = {"size": "bytes", "connections": "connections"}

STYLE = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "legend.frameon": False,
    # Text stays text, and the same run makes the same file.
    "svg.fonttype": "none",
    "svg.hashsalt": "benchmark",
}


def draw_all(report, folder):
    """Draw what there is something to draw of; yields the files."""
    with plt.rc_context(STYLE):
        for name, draw in CHARTS.items():
            figure = draw(report)
            if figure is not None:
                yield from save(figure, folder, name)


def save(figure, folder, name):
    for ending in ("svg", "png"):
        path = folder / f"{name}.{ending}"
        metadata = {"Date": None} if ending == "svg" else None
        figure.savefig(path, dpi=150, bbox_inches="tight", metadata=metadata)
        yield path
    plt.close(figure)


def colour_of(report, loop):
    strange = [name for name in report.loops if name not in COLOURS]
    if loop in strange:
        return OTHERS[strange.index(loop) % len(OTHERS)]
    return COLOURS[loop]


# Ratios


def main_ratios(report):
    """The rows of a quick run, few enough to be taken in at a glance."""
    return ratio_chart(report, [row for row in report.rows if row.get("quick")])


def all_ratios(report):
    return ratio_chart(report, report.rows)


def ratio_chart(report, rows):
    ratios = [(row, *best) for row in rows if (best := report.best_other(row))]
    if not ratios:
        return None
    figure, axes = plt.subplots(figsize=(7.5, 1.2 + ROW_HEIGHT * len(ratios)))
    for place, (_, other, ratio) in enumerate(ratios):
        draw_ratio(axes, place, other, ratio)
    axes.set_yticks(range(len(ratios)), [row["name"] for row, *_ in ratios])
    axes.set_ylim(len(ratios) - 0.4, -0.6)
    axes.axvline(1, color="#333333", linewidth=0.8)
    axes.margins(x=0.25)
    axes.set_xscale("log")
    for formatted in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        formatted(FuncFormatter(ratio_tick))
    axes.set_xlabel(f"cost of the best other loop / {report.subject}'s, log scale")
    axes.set_title(f"{report.subject} against the best other loop of each row")
    return figure


def draw_ratio(axes, place, other, ratio):
    axes.barh(
        place,
        ratio.middle - 1,
        left=1,
        height=0.62,
        color=verdict(ratio),
        xerr=[[max(ratio.middle - ratio.low, 0)], [max(ratio.high - ratio.middle, 0)]],
        error_kw={"elinewidth": 0.9, "ecolor": "#333333", "capsize": 1.5},
    )
    # Beyond bar and error, on the side that the bar goes to.
    ahead = ratio.middle >= 1
    edge = max(ratio.high, 1) if ahead else min(ratio.low, 1)
    axes.annotate(
        f"{ratio.middle:.2f}x  {other}",
        (edge, place),
        xytext=(5 if ahead else -5, 0),
        textcoords="offset points",
        ha="left" if ahead else "right",
        va="center",
        color="#444444",
        fontsize=7,
    )


def verdict(ratio):
    """Ahead or behind only where the quartiles are on the same side of 1."""
    if ratio.low > 1:
        return AHEAD
    return BEHIND if ratio.high < 1 else EVEN


def ratio_tick(value, _):
    return f"{value:g}x" if value in RATIO_TICKS else ""


# Latencies


def latencies(report):
    """One panel for each percentile, one line of dots for each row."""
    rows = [row for row in report.rows if has_latency(report, row)]
    quick = [row for row in rows if row.get("quick")]
    rows = quick or rows
    if not rows:
        return None
    size = (9, 1.4 + ROW_HEIGHT * len(rows))
    figure, panels = plt.subplots(1, len(SHARES), sharey=True, figsize=size)
    for axes, share in zip(panels, SHARES, strict=True):
        draw_latencies(report, axes, rows, share)
    panels[0].set_yticks(range(len(rows)), [row["name"] for row in rows])
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    legend_below(report, figure, panels[0])
    return figure


def has_latency(report, row):
    samples = [
        found for loop in report.loops for found in report.found.of(row["name"], loop)
    ]
    return any("latency_us" in sample for sample in samples)


def draw_latencies(report, axes, rows, share):
    for loop in report.loops:
        points = [
            (figure, place)
            for place, row in enumerate(rows)
            if (figure := report.figure(row, loop, results.latency(share)))
        ]
        draw_points(report, axes, loop, points)
    axes.set_title(f"latency, {share}")
    axes.set_xscale("log")
    label_seconds(axes.xaxis)
    axes.grid(axis="y", linewidth=0.3)


def draw_points(report, axes, loop, points):
    ours = loop == report.subject
    axes.errorbar(
        [figure.middle for figure, _ in points],
        [place for _, place in points],
        xerr=error_bars([figure for figure, _ in points]),
        fmt="D" if ours else "o",
        markersize=5 if ours else 4,
        color=colour_of(report, loop),
        elinewidth=0.7,
        label=loop,
        zorder=3 if ours else 2,
    )


def error_bars(figures):
    below = [max(figure.middle - figure.low, 0) for figure in figures]
    above = [max(figure.high - figure.middle, 0) for figure in figures]
    return [below, above]


def label_seconds(axis):
    # Within one decade the powers of ten alone would leave an axis bare.
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(seconds_tick))
    axis.set_minor_formatter(NullFormatter())


def seconds_tick(value, _):
    for least, scale, unit in ((1, 1, "s"), (1e-3, 1e3, "ms"), (1e-6, 1e6, "us")):
        if value >= least * 0.999:
            return f"{value * scale:g} {unit}"
    return f"{value * 1e9:g} ns"


# Curves: the same work, growing


def against_connections(report):
    found = load_curves(report, "connections", "size")
    return curve_chart(report, found, "connections")


def against_size(report):
    found = load_curves(report, "size", "connections")
    return curve_chart(report, found, "bytes in a message")


def against_count(report):
    """Tasks and timers: rows that say how many there are of something."""
    found = {}
    for row in report.rows:
        if row.get("count"):
            title = row["name"].partition("/")[0]
            found.setdefault(title, []).append((row["count"], row))
    return curve_chart(report, found, "how many there are")


def load_curves(report, grows, stays):
    """{title: [(x, row)]}, for what was measured at one depth."""
    found = {}
    for row in report.rows:
        load = row.get("load")
        if load and load["depth"] == 1:
            family = row["name"].partition("/")[0]
            title = f"{family}, {load[stays]:,} {STAYS[stays]}"
            found.setdefault(title, []).append((load[grows], row))
    return found


def curve_chart(report, found, label):
    """One panel for each curve of three points or more."""
    curves = {title: sorted(points, key=first) for title, points in found.items()}
    curves = {title: points for title, points in curves.items() if len(points) > 2}
    if not curves:
        return None
    lines = math.ceil(len(curves) / COLUMNS)
    columns = min(COLUMNS, len(curves))
    size = (PANEL[0] * columns, PANEL[1] * lines)
    figure, grid = plt.subplots(lines, columns, figsize=size, squeeze=False)
    panels = list(grid.flat)
    for axes, (title, points) in zip(panels, curves.items(), strict=False):
        draw_curves(report, axes, points)
        axes.set_title(title)
        axes.set_xlabel(label)
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
    panels[0].set_ylabel("CPU per operation")
    figure.tight_layout(h_pad=1.5)
    legend_below(report, figure, panels[0])
    return figure


def first(pair):
    return pair[0]


def draw_curves(report, axes, points):
    for loop in report.loops:
        measured = [
            (x, figure) for x, row in points if (figure := report.figure(row, loop))
        ]
        if measured:
            draw_curve(report, axes, loop, measured)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    label_seconds(axes.yaxis)
    axes.grid(linewidth=0.3)


def draw_curve(report, axes, loop, measured):
    axes.errorbar(
        [x for x, _ in measured],
        [figure.middle for _, figure in measured],
        yerr=error_bars([figure for _, figure in measured]),
        color=colour_of(report, loop),
        linestyle="--" if loop in report.found.limits else "-",
        linewidth=2.2 if loop == report.subject else 1.2,
        marker="o",
        markersize=3,
        elinewidth=0.7,
        label=loop,
    )


def legend_below(report, figure, axes):
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        ncols=len(report.loops),
    )


CHARTS = {
    "ratios": main_ratios,
    "ratios-all": all_ratios,
    "latency": latencies,
    "connections": against_connections,
    "sizes": against_size,
    "scale": against_count,
}
