"""``python -m asyncfast PROGRAM [ARGS]``: run an unchanged program.

``python -m asyncfast bench`` compares the loops on this machine instead, and
``python -m asyncfast top PID`` shows what the loops of a process do.

The program finds asyncfast wherever it asks asyncio for a loop; its arguments,
its exit code and its tracebacks are those it has without asyncfast.
"""

import argparse
import asyncio
import builtins
import importlib.machinery
import io
import os
import platform
import runpy
import sys
import types

import asyncfast

from .options import seconds


def _version():
    info = asyncfast.build_info()
    return (
        f"asyncfast {info['version']}, libuv {info['libuv']}, "
        f"{platform.python_implementation()} {info['python']}\n"
        f"poller {info['poller']}; tasks {info['tasks']}, streams {info['streams']}, "
        f"tls {info['tls']}\n"
        f"built by {info['compiler']} with {info['flags']}"
    )


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m asyncfast",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run a Python program on the asyncfast event loop.",
        usage="%(prog)s [-h] [--version] [--debug] [--as-uvloop] "
        "[--slow SECONDS] [--watchdog SECONDS] [--stats] [--top] "
        "(PROGRAM | -m MODULE) [ARGS ...]\n       %(prog)s bench\n       %(prog)s top PID",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=_version(),
    )
    parser.add_argument(
        "--debug",
        action="store_true",
        help="asyncio's debug mode, as by PYTHONASYNCIODEBUG=1",
    )
    parser.add_argument(
        "--as-uvloop",
        action="store_true",
        help="let the program's `import uvloop` give asyncfast",
    )
    _add_telemetry(parser)
    parser.add_argument(
        "-m", dest="module", action="store_true", help="PROGRAM is a module's name"
    )
    parser.add_argument(
        "program",
        metavar="PROGRAM",
        help="a file, or a module; bench: compare the loops on this machine, "
        "which takes half a minute; top PID: show what a process does, see "
        "`top --help` (files of these names are ./bench and ./top)",
    )
    rest = parser.add_argument(
        "arguments", metavar="ARGS", nargs=argparse.REMAINDER, help="its arguments"
    )
    # Else an error message would ask for them too, though they may be left out.
    rest.required = False
    return parser


def _add_telemetry(parser):
    add = parser.add_argument_group("telemetry").add_argument
    add(
        "--slow",
        metavar="SECONDS",
        type=seconds,
        help="log each callback that takes as long, without debug mode",
    )
    add(
        "--watchdog",
        metavar="SECONDS",
        type=seconds,
        help="log where the loop is while it's blocked for as long",
    )
    add(
        "--stats",
        action="store_true",
        help="print the loop's numbers and what each kind of callback took, "
        "to stderr when the program ends",
    )
    add(
        "--top",
        action="store_true",
        help="let `python -m asyncfast top PID` of the same user see what it does",
    )


def _observe(options):
    if options.slow or options.watchdog or options.stats or options.top:
        from .telemetry.report import observe_program

        observe_program(options.slow, options.watchdog, options.stats, options.top)


def _fresh_main():
    """An empty ``__main__``, as the program would find it."""
    module = types.ModuleType("__main__")
    module.__builtins__ = builtins
    if "__annotations__" in globals():  # an older CPython, which gives it to __main__
        module.__annotations__ = {}
    sys.modules["__main__"] = module
    return module


def _read(path):
    try:
        with io.open_code(path) as file:
            return file.read()
    except OSError as exc:
        # The interpreter's own words and code for a program it can't open.
        print(
            f"{sys.executable}: can't open file {os.path.abspath(path)!r}: "
            f"[Errno {exc.errno}] {exc.strerror}",
            file=sys.stderr,
        )
        raise SystemExit(2) from None


def _run_file(path):
    source = _read(path)
    module = _fresh_main()
    module.__file__ = path
    if sys.version_info < (3, 15):
        module.__cached__ = None
    module.__loader__ = importlib.machinery.SourceFileLoader("__main__", path)
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.path.dirname(os.path.abspath(path))
    exec(compile(source, path, "exec"), module.__dict__)


def _run(program, is_module):
    if is_module:
        _fresh_main()
        runpy._run_module_as_main(program)
    elif os.path.isdir(program):
        del sys.path[0]
        runpy.run_path(program, run_name="__main__")
    else:
        _run_file(program)


def _hide_own_frames(kind, exc, traceback):
    """Show an uncaught exception's traceback from the program's first frame."""
    own = (__file__, runpy.__file__, "<frozen runpy>")
    while traceback is not None and traceback.tb_frame.f_code.co_filename in own:
        traceback = traceback.tb_next
    sys.__excepthook__(kind, exc.with_traceback(traceback), traceback)


def _turn_debug_on(parser):
    # asyncio asks for it whenever a loop is made.
    if sys.flags.ignore_environment:
        parser.error("--debug doesn't go with -E or -I: use -X dev")
    os.environ["PYTHONASYNCIODEBUG"] = "1"


def _bench(arguments):
    from . import bench

    bench.main(arguments)


def _top(arguments):
    from .telemetry import top

    top.main(arguments)


COMMANDS = {"bench": _bench, "top": _top}


def main() -> None:
    """Run the program that the command line names, on asyncfast."""
    parser = _parser()
    options = parser.parse_args()
    if options.program in COMMANDS and not options.module:
        COMMANDS[options.program](options.arguments)
        return
    if options.debug:
        _turn_debug_on(parser)
    if options.as_uvloop:
        from . import as_uvloop

        as_uvloop.register()
    _observe(options)
    sys.argv[:] = [options.program, *options.arguments]
    if sys.version_info < (3, 16):
        asyncfast.install()
    else:
        asyncio.EventLoop = asyncio.new_event_loop = asyncfast.new_event_loop
    sys.excepthook = _hide_own_frames
    _run(options.program, options.module)


if __name__ == "__main__":
    main()
