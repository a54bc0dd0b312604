"""The rules of the house, checked: who may include whom, how long things are, what
owns what, what may change, what is called how.

A check takes the root of a source tree and returns its complaints.  Each is run on
this tree, where it must find nothing, and on a tree of a few lines that breaks its
rule, where it must complain.
"""

import ast
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from asyncfast import _core

ROOT = Path(__file__).resolve().parent.parent

# -- Files -------------------------------------------------------------------------

NOT_OURS = {"build", "dist", "__pycache__"}
DOT_FOLDERS = {".ci", ".github"}


def sources(root, *endings):
    """Every file of the tree that is written by hand, or those with the endings."""
    for folder, folders, files in os.walk(root):
        top = Path(folder) == root
        folders[:] = [
            name
            for name in folders
            if (name in DOT_FOLDERS or not name.startswith("."))
            and not (top and name in NOT_OURS)
            and name != "__pycache__"
            and not name.endswith(".egg-info")
        ]
        for name in sorted(files):
            if not endings or name.endswith(endings):
                yield Path(folder, name)


def c_files(root, *endings):
    return sources(root / "src", *(endings or (".c", ".h")))


def named(root, path):
    """`room/file.h`, as an include is written."""
    return path.relative_to(root / "src").as_posix()


def without_comments(text):
    """C without its comments, line for line."""
    return re.sub(
        r"/\*.*?\*/", lambda found: "\n" * found[0].count("\n"), text, flags=re.DOTALL
    )


# The formatter sees to it that a function begins, opens and ends in column 0.
FUNCTION = re.compile(
    r"^(?P<type>[A-Za-z][^\n;{}#()]*)\n"
    r"(?P<name>\w+)\((?P<parameters>[^;{}]*?)\)\n\{\n(?P<body>.*?)^\}",
    re.DOTALL | re.MULTILINE,
)


def c_functions(path):
    """A match for each function that the file defines."""
    return FUNCTION.finditer(without_comments(path.read_text()))


def body_lines(function):
    return function["body"].count("\n")


# -- Who includes whom -------------------------------------------------------------

RANKS = {"base": 0, "core": 1, "io": 2, "os": 2, "api": 3}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def includes(path):
    return INCLUDE.findall(without_comments(path.read_text()))


def may_include(room, other):
    return room == other or RANKS[other] < RANKS[room]


def check_includes(root):
    """base < core < {io, os} < api: a file includes its own room and those below."""
    for path in c_files(root):
        room = path.parent.name
        if room not in RANKS:
            yield f"{named(root, path)}: no such room"
            continue
        for include in includes(path):
            other = include.split("/")[0]
            if not (root / "src" / include).is_file() or other not in RANKS:
                yield f'{named(root, path)}: "{include}" is no room/file.h'
            elif include.endswith(".c"):
                yield f"{named(root, path)} includes {include}, which is no header"
            elif not may_include(room, other):
                yield f"{named(root, path)} may not include {include}"


def check_cycles(root):
    """No header includes itself by way of others."""
    graph = {named(root, path): includes(path) for path in c_files(root, ".h")}
    done = set()

    def visit(header, path):
        if header in path:
            yield " -> ".join([*path[path.index(header) :], header])
        elif header not in done:
            for other in graph.get(header, ()):
                yield from visit(other, [*path, header])
            done.add(header)

    for header in graph:
        yield from visit(header, [])


# -- How long things are -----------------------------------------------------------

MAX_FILE = 800
MEDIAN_FUNCTION = 12
LONG_FUNCTION = 50  # nine in ten are no longer


def check_file_sizes(root):
    endings = (".c", ".h", ".py", ".pyi", ".sh", ".ci/run")
    for path in sources(root):
        if path.as_posix().endswith(endings):
            count = len(path.read_text().splitlines())
            if count >= MAX_FILE:
                yield f"{path.relative_to(root)} has {count} lines"


def python_functions(path):
    """(name, lines) of each function; a docstring is no code."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[ast.get_docstring(node) is not None :]
            first = body[0].lineno if body else node.end_lineno + 1
            yield node.name, node.end_lineno - first + 1


def function_sizes(root):
    """{language: [(lines, file: name)]}"""
    return {
        "C": [
            (body_lines(function), f"{named(root, path)}: {function['name']}")
            for path in c_files(root)
            for function in c_functions(path)
        ],
        "Python": [
            (lines, f"{path.relative_to(root)}: {name}")
            for path in sources(root, ".py")
            for name, lines in python_functions(path)
        ],
    }


def check_function_sizes(root):
    """Half within a dozen lines, nine in ten within fifty."""
    for language, sizes in function_sizes(root).items():
        if not sizes:
            continue
        middle = statistics.median(lines for lines, _ in sizes)
        if middle > MEDIAN_FUNCTION:
            yield f"half of the {language} functions have {middle} lines or more"
        long = [name for lines, name in sizes if lines > LONG_FUNCTION]
        if len(long) > len(sizes) / 10:
            yield f"too many {language} functions are long: {', '.join(long)}"


# -- What owns what ----------------------------------------------------------------

STRUCT = re.compile(
    r"^(?:typedef )?struct(?: (?P<tag>\w+))? \{\n(?P<body>.*?)^\}(?: (?P<alias>\w+))?;",
    re.DOTALL | re.MULTILINE,
)
FIELD = re.compile(
    r"(?P<type>\w+)\s*(?P<pointer>\*?)\s*(?P<name>\w+)(?P<rest>\[\w+\]|##\w+)?;"
    r"[ \t]*(?:/\*(?P<comment>.*?)\*/)?",
    re.DOTALL,
)
OWNED = re.compile(r" owned(;.*)? ", re.DOTALL)
OWNERSHIP = re.compile(r" (owned\b.*|borrowed: \S.*) ", re.DOTALL)


def structs(root):
    """{name: (file, its fields)}; a field is a match of FIELD."""
    found = {}
    for path in c_files(root):
        for struct in STRUCT.finditer(path.read_text()):
            fields = list(FIELD.finditer(struct["body"]))
            if "PyObject_HEAD" in struct["body"]:
                fields.insert(0, FIELD.match("PyObject head;"))
            found[struct["alias"] or struct["tag"]] = path, fields
    return found


def object_types(found):
    """The structs that begin as a Python object does."""
    types = {"PyObject", "PyTypeObject", "PyFrameObject"}
    while True:
        more = {
            name
            for name, (_, fields) in found.items()
            if fields and not fields[0]["pointer"] and fields[0]["type"] in types
        }
        if more <= types:
            return types
        types |= more


def object_fields(root):
    """(file, struct, field) of each pointer to an object in a struct."""
    found = structs(root)
    types = object_types(found)
    for name, (path, fields) in found.items():
        for field in fields:
            if field["pointer"] and field["type"] in types:
                yield path, name, field


def check_ownership(root):
    """Every pointer to an object tells whether it owns it."""
    for path, struct, field in object_fields(root):
        if not OWNERSHIP.fullmatch(field["comment"] or ""):
            yield (
                f"{named(root, path)}: {struct}.{field['name']} is neither "
                "/* owned */ nor /* borrowed: why it outlives us */"
            )


def fields_in(paths, macros, function_names):
    """The last names of what the functions give to one of the macros, or take."""
    call = re.compile(rf"(?:{macros})[^;]*?(?:->|\.)(\w+(?:##\w+)?)[,);]")
    return {
        name
        for path in paths
        for function in c_functions(path)
        if re.search(function_names, function["name"])
        for name in call.findall(function["body"])
    }


def files_of(root, path, struct):
    """Where a struct is traversed: beside it, or where it is made a type."""
    beside = {path.with_suffix(".c"), path.with_suffix(".h")}
    return [
        other
        for other in c_files(root)
        if other in beside or f"basicsize = sizeof({struct})" in other.read_text()
    ]


def check_garbage(root):
    """What an object owns is visited by the collector, and dropped in the end."""
    for path, struct, field in object_fields(root):
        files = files_of(root, path, struct)
        collected = any(
            function["name"].endswith("traverse")
            for file in files
            for function in c_functions(file)
        )
        if not collected or not OWNED.fullmatch(field["comment"] or ""):
            continue
        name = field["name"] + (field["rest"] or "" if "#" in field[0] else "")
        where = f"{named(root, path)}: {struct}.{name}"
        # The state's strings can't be part of a cycle.
        visited = fields_in(files, r"Py_VISIT\(", "traverse$")
        if name not in visited and not name.startswith("str_"):
            yield f"{where} has no Py_VISIT"
        # Taken into a local is as good: take, clear, call.
        drop = r"Py_CLEAR\(|Py_X?DECREF\(|Py_X?SETREF\(| = "
        if name not in fields_in(files, drop, "(clear|dealloc|free|remove)$"):
            yield f"{where} has no Py_CLEAR"


# -- What may change ---------------------------------------------------------------

# CPython declares these without const; nothing writes to them. The tool chain's own
# begin with two underscores, but for `completed`.
TABLES = re.compile(
    r"(\w+_(methods|slots|spec|getset|members|doc)|af_module_def|__\w+|completed)"
    r"(\.\w+)*"
)
# What gcc adds to a build with sanitizers.
SANITIZER = re.compile(r"_*(asan|ubsan|odr_asan)|\.L(ASAN|ubsan)", re.IGNORECASE)
WRITABLE = re.compile(r"\.(data|bss|tdata|tbss)(?!\.rel\.ro)")


def mutable_statics(listing):
    """The variables of an `nm --format=sysv` listing that could be written to."""
    for line in listing.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 7 and cells[2] in list("dDbB") and WRITABLE.match(cells[6]):
            if not (TABLES.fullmatch(cells[0]) or SANITIZER.match(cells[0])):
                yield cells[0]


def exported(listing):
    """The names that an `nm --dynamic --defined-only` listing gives away."""
    names = [line.split()[-1] for line in listing.splitlines() if line.strip()]
    return [name for name in names if not SANITIZER.match(name)]


def nm(*options):
    """What nm says of the extension; skips where it can't say anything."""
    if sys.platform != "linux":
        pytest.skip("only nm of ELF files tells the sections")
    if shutil.which("nm") is None:
        if os.environ.get("ASYNCFAST_CI") == "1":
            pytest.fail("nm is missing")
        pytest.skip("nm is missing")
    command = ["nm", *options, _core.__file__]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


# -- What is called how ------------------------------------------------------------

SHARED = re.compile(r"af(_[a-z0-9]+){2,}")


def check_openings(root):
    """A file opens with its name and what it is for."""
    for path in c_files(root):
        line = path.read_text().partition("\n")[0]
        if not re.match(rf"/\* {re.escape(path.name)} -- \w", line):
            yield f"{named(root, path)} opens with {line!r}"


def check_names(root):
    """af_<noun>_<verb> is shared and declared in a header; all others are static."""
    headers = "".join(path.read_text() for path in c_files(root, ".h"))
    for path in c_files(root, ".c"):
        for function in c_functions(path):
            name, static = function["name"], "static" in function["type"].split()
            if "PyMODINIT_FUNC" in function["type"]:
                continue
            where = f"{named(root, path)}: {name}"
            if static and name.startswith("af_"):
                yield f"{where} is static, and named as if it were shared"
            elif not static and not SHARED.fullmatch(name):
                yield f"{where} is shared, and not named af_<noun>_<verb>"
            elif not static and not re.search(rf"\b{name}\(", headers):
                yield f"{where} is shared by no header"


MAX_CALLBACK = 10
CALLBACK = re.compile(r"on_\w+")
FOR_LIBUV = re.compile(r"uv_\w+_t \*")


def check_callbacks(root):
    """libuv calls static functions on_<event>, of ten lines at most."""
    for path in c_files(root, ".c"):
        text = without_comments(path.read_text())
        for function in c_functions(path):
            name = function["name"]
            where = f"{named(root, path)}: {name}"
            # Given to libuv: named, not called.
            given = re.search(rf"[(,]\s*{name}[,)]", text)
            if FOR_LIBUV.match(function["parameters"]) and given:
                if not CALLBACK.fullmatch(name):
                    yield f"{where} is a libuv callback, and not named on_<event>"
            if CALLBACK.fullmatch(name):
                if function["type"].split()[0] != "static":
                    yield f"{where} is not static"
                if body_lines(function) > MAX_CALLBACK:
                    yield f"{where} has {body_lines(function)} lines"


VERSION = re.compile(r"\b(PY_(VERSION_HEX|M\w+_VERSION)|UV_VERSION_\w+)\b")


def check_versions(root):
    """base/compat.h is the only file that names a CPython or libuv version."""
    for path in c_files(root):
        found = VERSION.search(without_comments(path.read_text()))
        if found and named(root, path) != "base/compat.h":
            yield f"{named(root, path)} names {found[0]}"


# Written so that they don't find themselves.
FORBIDDEN = re.compile(
    r"TO[D]O|FIX[M]E|(?<![\w.~*])/(?:root|work)[/]"
    r"|pypi\.[o]rg|python[h]osted\.org|proxy\.go[l]ang\.org|crates\.[i]o"
)


def check_words(root):
    """Nothing depends on one machine, and nothing is left for later."""
    for path in sources(root):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if found := FORBIDDEN.search(line):
                yield f"{path.relative_to(root)}:{number} says {found[0]}"


# -- The tests ---------------------------------------------------------------------


def check_map(root):
    """The map, src/README.md, names every file in the row of its room."""
    text = (root / "src" / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)/` \|(.*)$", text, re.MULTILINE))
    for path in c_files(root):
        row = rows.get(path.parent.name, "")
        if not re.search(rf"`{path.stem}(\.h)?`", row):
            yield f"{named(root, path)}: not on the map"


CHECKS = [
    check_includes,
    check_cycles,
    check_file_sizes,
    check_function_sizes,
    check_ownership,
    check_garbage,
    check_openings,
    check_names,
    check_callbacks,
    check_versions,
    check_words,
    check_map,
]


def check_id(value):
    return value.__name__[len("check_") :] if callable(value) else ""


@pytest.mark.parametrize("check", CHECKS, ids=check_id)
def test_tree(check):
    complaints = list(check(ROOT))
    assert not complaints, "\n".join([check.__doc__ or "", *complaints])


def test_tree_is_seen():
    """The patterns match this tree: nothing passes for want of anything to check."""
    functions = {f["name"] for path in c_files(ROOT) for f in c_functions(path)}
    fields = {(struct, field["name"]) for _, struct, field in object_fields(ROOT)}
    assert {"af_loop_turn", "on_address", "heap_rise", "af_ring_push"} <= functions
    assert {("AfLoop", "thread_id"), ("AfTimer", "timer_loop")} <= fields
    assert {("AfState", "name"), ("AfTimerSlot", "timer")} <= fields


def test_mutable_statics():
    """State lives in the module; no variable of the extension can be written to."""
    listing = nm("--format=sysv")
    if "af_module_def" not in listing:
        pytest.skip("the extension was stripped of its names")
    if re.search(r"^uv_run +\|[0-9a-f]", listing, re.MULTILINE):
        pytest.skip("libuv is part of the extension, with variables of its own")
    assert not list(mutable_statics(listing))


def test_exports():
    assert exported(nm("--dynamic", "--defined-only")) == ["PyInit__core"]


OBJECT = """/* x.c -- x. */
typedef struct {
    PyObject_HEAD
    PyObject *sock;%s
} X;

static int
x_traverse(PyObject *op, visitproc visit, void *arg)
{
    %s
    return 0;
}

static int
x_clear(PyObject *op)
{
    %s
    return 0;
}
"""
VISIT, CLEAR = "Py_VISIT(((X *)op)->sock);", "Py_CLEAR(((X *)op)->sock);"
GOOD = {
    "src/base/x.c": OBJECT % (" /* owned */", VISIT, CLEAR),
    "src/core/loop.h": '/* loop.h -- a. */\n#include "base/b.h"\nint af_loop_run(void);\n',
    "src/base/b.h": "/* b.h -- b. */\n",
    "src/README.md": "| `base/` | | `x` · `b.h` |\n| `core/` | | `loop` |\n",
    "asyncfast/x.py": "def f():\n    return 1\n",
}


def c_function(header, lines):
    return f"{header}\n{{\n" + "    i++;\n" * lines + "}\n"


def python_function(lines):
    return "def f(i):\n" + "    i += 1\n" * lines


def write_tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("check", CHECKS, ids=check_id)
def test_good_tree(check, tmp_path):
    assert not list(check(write_tree(tmp_path, GOOD)))


BROKEN = [
    (check_includes, "src/base/a.c", '#include "core/loop.h"\n'),
    (check_includes, "src/core/a.c", '#include "b.h"\n'),
    (check_includes, "src/core/a.c", '#include "base/missing.h"\n'),
    (check_includes, "src/core/a.c", '#include "base/x.c"\n'),
    (check_includes, "src/attic/a.c", "int i;\n"),
    (check_cycles, "src/base/b.h", '#include "core/loop.h"\n'),
    (check_cycles, "src/base/b.h", '#include "base/b.h"\n'),
    (check_file_sizes, "src/base/a.c", "\n" * 800),
    (check_file_sizes, "tools/a.sh", "\n" * 800),
    (check_file_sizes, ".ci/run", "\n" * 800),
    (check_function_sizes, "src/base/a.c", c_function("static int\nf(void)", 60)),
    (check_function_sizes, "tests/a.py", python_function(60)),
    (check_ownership, "src/base/x.c", OBJECT % ("", VISIT, CLEAR)),
    (check_ownership, "src/base/x.c", OBJECT % (" /* borrowed */", VISIT, CLEAR)),
    (check_ownership, "src/base/a.h", "struct Y {\n    X\n        *x;\n};\n"),
    (check_garbage, "src/base/x.c", OBJECT % (" /* owned */", "", CLEAR)),
    (check_garbage, "src/base/x.c", OBJECT % (" /* owned; why */", VISIT, "")),
    (check_openings, "src/base/a.c", "/* b.c -- another. */\n"),
    (check_names, "src/base/a.c", c_function("int\nloop_run(void)", 1)),
    (check_names, "src/base/a.c", c_function("int\naf_loop_hide(void)", 1)),
    (check_names, "src/base/a.c", c_function("static int\naf_loop_run(void)", 1)),
    (check_callbacks, "src/base/a.c", c_function("void\non_poll(int i)", 1)),
    (check_callbacks, "src/base/a.c", c_function("static void\non_poll(int i)", 11)),
    (
        check_callbacks,
        "src/base/a.c",
        c_function("static void\nread(uv_poll_t *i)", 1) + "int i = f(g, read);\n",
    ),
    (check_versions, "src/base/a.c", "#if PY_VERSION_HEX < 0x030b0000\n#endif\n"),
    (check_words, "docs/a.md", "See /root" + "/notes.\n"),
    (check_words, "src/base/b.h", "/* b.h -- b. TO" + "DO */\n"),
    (check_map, "src/base/a.c", "/* a.c -- a. */\n"),
    (check_map, "src/core/b.h", "/* b.h -- b. */\n"),
]


@pytest.mark.parametrize("check, name, text", BROKEN, ids=check_id)
def test_broken_tree(check, name, text, tmp_path):
    assert list(check(write_tree(tmp_path, {**GOOD, name: text})))


def test_listings():
    row = "{}|0000000000005660|   {}  |  OBJECT|00000000000000e0|     |{}\n"
    harmless = [
        ("loop_methods", "d", ".data"),
        ("loop_slots.lto_priv.0", "d", ".data"),
        ("call_at_params", "d", ".data.rel.ro"),
        ("max_wait", "r", ".rodata"),
    ]
    harmful = [("cache", "b", ".bss"), ("count.0", "d", ".data"), ("t", "B", ".tbss")]
    listing = "".join(row.format(*symbol) for symbol in harmless + harmful)
    assert list(mutable_statics(listing)) == ["cache", "count.0", "t"]
    assert exported("00e T PyInit__core\n00f T af_x_y\n") == ["PyInit__core", "af_x_y"]
