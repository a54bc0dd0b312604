"""Tell whose the instructions of an operation are: asyncfast's, or others'.

python benchmarks/shares.py --rows call_soon_chain,sleep_zero

A row whose instructions are the interpreter's own can't be made faster by any loop.
The counts are those of instructions.py, by the shared object that they ran in; what a
system call does in the kernel isn't among them.
"""

import argparse
import os
import re
import sys
import tempfile

import instructions
import loops
import native
import table

OWN = "asyncfast/_core"
OBJECT = re.compile(r"ob=\((\d+)\)(?: (.*))?")
COST = re.compile(r"[+*-]?\d*\*? (\d+)$")


def by_object(path):
    """{file of the object: instructions} of what callgrind has written."""
    names, found, current, called = {}, {}, "", False
    with open(path) as lines:
        for line in map(str.strip, lines):
            if match := OBJECT.match(line):
                number, name = match.groups()
                current = names.setdefault(number, name or "")
            elif match := re.match(r"cob=\((\d+)\) (.*)", line):
                names[match[1]] = match[2]
            elif line.startswith("calls="):
                called = True
            elif match := COST.match(line):
                # What a call took stands after it, and again where it was spent.
                if not called:
                    found[current] = found.get(current, 0) + int(match[1])
                called = False
    return found


def shares(row, loop):
    """(all, asyncfast's own) instructions of one operation."""
    with tempfile.TemporaryDirectory(prefix="shares-") as scratch:
        out = os.path.join(scratch, "out")
        instructions.run_counted(row, loop, out)
        short, long = (by_object(f"{out}.{number}") for number in (1, 2))
    lengths = instructions.stretches(row)
    operations = lengths[1] - lengths[0]
    total = (sum(long.values()) - sum(short.values())) / operations
    own = (own_of(long) - own_of(short)) / operations
    return total, own


def own_of(found):
    return sum(count for name, count in found.items() if OWN in name)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="", help="names, groups or patterns")
    parser.add_argument("--python", default=sys.executable, help="the interpreter")
    options = parser.parse_args(arguments)
    lines = [["instructions per operation", "all", "asyncfast's", "share"]]
    try:
        loop = loops.parse(instructions.SUBJECT, options.python)
        for row in instructions.exact_rows(options.rows):
            total, own = shares(row, loop)
            figures = [f"{total:,.0f}", f"{own:,.0f}", f"{own / total:.0%}"]
            lines.append([row.name, *figures])
    except (
        ValueError,
        loops.LoopError,
        native.BuildError,
        instructions.CountError,
    ) as error:
        sys.exit(f"shares.py: {error}")
    print(table.aligned(lines))


if __name__ == "__main__":
    main()
