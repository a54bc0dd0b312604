"""The results as tables of text."""

import results

UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (0.0, "ns"))
BYTE = "B"
LEGEND = "\n^ the client was the limit   ! messages were lost"
SCALES = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9, BYTE: 1.0}


def render(found, rows, loops):
    """Every table, one below the other; without rows and loops that never ran."""
    rows = [row for row in rows if any(found.tried(row.name, loop) for loop in loops)]
    loops = [loop for loop in loops if any(found.tried(row.name, loop) for row in rows)]
    parts = [cost_table(found, rows, loops), rate_table(found, rows, loops) + LEGEND]
    if found.failures:
        parts.append(failure_list(found))
    return "\n\n".join(parts)


def cost_table(found, rows, loops):
    head = [
        "CPU per operation, or p99",
        *loops,
        "best other",
        f"best / {found.subject}",
    ]
    lines = [head, *(cost_line(found, row, loops) for row in rows)]
    return aligned(lines)


def cost_line(found, row, loops):
    figures = {loop: found.figure(row.name, loop, results.cost) for loop in loops}
    unit = cost_unit(row.unit, figures.values())
    best = found.best_other(row.name, loops)
    costs = [cost(figures[loop], unit, missing(found, row, loop)) for loop in loops]
    ratio = found.ratio(row.name, best) if best else None
    return [row.name, *costs, best or "-", ratio_text(ratio)]


def cost_unit(unit, figures):
    """The unit of a line of costs; a row says itself that it is about bytes."""
    if unit == "byte":
        return BYTE
    return unit_for([figure.middle for figure in figures if figure])


def missing(found, row, loop):
    return "failed" if (row.name, loop) in found.failures else "-"


def cost(figure, unit, absent):
    if figure is None:
        return absent
    text = f"{number(figure.middle * SCALES[unit])} {unit}"
    return f"{text} ±{figure.spread:.0%}" if figure.count > 1 else text


def ratio_text(ratio):
    if ratio is None:
        return "-"
    spread = f" ({ratio.low:.2f}-{ratio.high:.2f})" if ratio.count > 1 else ""
    return f"{ratio.middle:.2f}x{spread}"


def rate_table(found, rows, loops):
    head = ["wall; or rate, p50/p99/p99.9", *loops]
    rows = [row for row in rows if row.unit != "byte"]
    lines = [[row.name, *(rate(found, row, loop) for loop in loops)] for row in rows]
    return aligned([head, *lines])


def rate(found, row, loop):
    if not found.of(row.name, loop):
        return missing(found, row, loop)
    return rate_text(found, row.name, loop)


def rate_text(found, name, loop):
    """A server's messages a second and latencies; else wall time per operation."""
    if "latency_us" not in found.of(name, loop)[0]:
        figure = found.figure(name, loop, results.wall)
        return cost(figure, unit_for([figure.middle]), "-")
    per_second = found.figure(name, loop, results.rate).middle
    shares = "/".join(
        time_text(found.figure(name, loop, results.latency(share)).middle)
        for share in ("p50", "p99", "p99.9")
    )
    return f"{thousands(per_second)}/s{marks(found.of(name, loop))} {shares}"


def marks(samples):
    """What to know before trusting a rate."""
    bound = sum(map(results.bound_by_client, samples)) * 2 > len(samples)
    lost = sum(sample["lost"] for sample in samples)
    return ("^" if bound else "") + ("!" if lost else "")


def failure_list(found):
    lines = [
        f"  {row} on {loop}: {reason}" for (row, loop), reason in found.failures.items()
    ]
    return "\n".join(["Failed:", *lines])


def unit_for(values):
    """One unit for a whole line, in which the smallest value still has digits."""
    smallest = min(values, default=0.0)
    return next(unit for least, unit in UNITS if smallest >= least)


def time_text(seconds):
    unit = unit_for([seconds])
    return f"{number(seconds * SCALES[unit])}{unit}"


def thousands(value):
    if value >= 1e6:
        return f"{number(value / 1e6)}M"
    return f"{number(value / 1e3)}k" if value >= 1e3 else number(value)


def number(value):
    """Three significant digits, and never fewer than the whole part."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def aligned(lines):
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width for width in widths]
    return "\n".join(
        " | ".join(padded(line, widths)).rstrip()
        for line in [lines[0], rule, *lines[1:]]
    )


def padded(line, widths):
    first, *rest = zip(line, widths, strict=True)
    return [first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)]
