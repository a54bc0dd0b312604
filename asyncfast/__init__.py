"""asyncfast: a fast, exact event loop for asyncio.

Run a program on it with one line::

    asyncfast.run(main())

or give :func:`new_event_loop` to whatever takes a loop factory, or call
:func:`install` before an unchanged program starts its own loop.
"""

import asyncio as _asyncio
import sys as _sys
import typing as _typing
from collections.abc import Callable as _Callable
from collections.abc import Coroutine as _Coroutine

from . import _core
from ._core import libuv_version
from ._version import __version__
from .loop import Loop, new_event_loop
from .streams import in_c as _streams_in_c
from .tasks import OWN as _OWN_TASKS
from .tasks import Future, Task
from .tls import kind as _tls_kind

if _typing.TYPE_CHECKING:
    from .policy import EventLoopPolicy
    from .telemetry import (
        Block,
        CallbackStats,
        DelayMonitor,
        Metrics,
        MetricsServer,
        SlowCallback,
        Watchdog,
        callback_stats,
        disable_callback_stats,
        disable_timing,
        dump_tasks,
        enable_callback_stats,
        enable_timing,
        metrics,
        monitor_delay,
        on_slow_callback,
        serve_metrics,
        watchdog,
    )

__all__ = [
    "Block",
    "CallbackStats",
    "DelayMonitor",
    "Future",
    "Loop",
    "Metrics",
    "MetricsServer",
    "SlowCallback",
    "Task",
    "Watchdog",
    "__version__",
    "build_info",
    "callback_stats",
    "disable_callback_stats",
    "disable_timing",
    "dump_tasks",
    "enable_callback_stats",
    "enable_timing",
    "install",
    "libuv_version",
    "metrics",
    "monitor_delay",
    "new_event_loop",
    "on_slow_callback",
    "run",
    "serve_metrics",
    "watchdog",
]

if _sys.version_info < (3, 16):
    __all__ += ["EventLoopPolicy"]

_T = _typing.TypeVar("_T")


def run(
    main: _Coroutine[_typing.Any, _typing.Any, _T],
    *,
    loop_factory: _Callable[[], _asyncio.AbstractEventLoop] = new_event_loop,
    debug: bool | None = None,
) -> _T:
    """Run a coroutine on asyncfast and return its result.

    As :func:`asyncio.run`: makes a loop, runs *main*, cancels the tasks that
    are left, shuts asynchronous generators and the default executor down, and
    closes the loop.

    *loop_factory* makes the loop; *debug* turns asyncio's debug mode on or
    off, None leaves it to PYTHONASYNCIODEBUG and -X dev.

    Raises what *main* raises, RuntimeError if a loop is running already in
    this thread, ValueError or TypeError if *main* is no coroutine.
    """
    if _sys.version_info >= (3, 12):
        return _asyncio.run(main, loop_factory=loop_factory, debug=debug)
    if _sys.version_info >= (3, 11):
        return _run_with_runner(main, loop_factory, debug)
    return _run_without_runner(main, loop_factory, debug)


def _run_with_runner(main, loop_factory, debug):
    if _asyncio._get_running_loop() is not None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")
    with _asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)


def _run_without_runner(main, loop_factory, debug):
    """CPython 3.10's asyncio.run() with a loop of our own."""
    from asyncio.runners import _cancel_all_tasks

    if _asyncio._get_running_loop() is not None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")
    if not _asyncio.iscoroutine(main):
        raise ValueError(f"a coroutine was expected, got {main!r}")
    loop = loop_factory()
    try:
        _asyncio.set_event_loop(loop)
        if debug is not None:
            loop.set_debug(debug)
        return loop.run_until_complete(main)
    finally:
        try:
            _cancel_all_tasks(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            _asyncio.set_event_loop(None)
            loop.close()


def build_info() -> dict[str, str]:
    """What this installation is made of and what it found.

    ``version``: asyncfast's. ``python``: the interpreter's. ``libuv``: that of
    the library in use. ``poller``: ``epoll`` or ``libuv``, which waits for
    descriptors. ``tasks``: ``own`` where loops make :class:`Future` and
    :class:`Task` of the C core, ``stock`` where they make asyncio's, because
    the structs of this Python's asyncio aren't known or the environment
    variable ``ASYNCFAST_TASKS=stock`` was set at import. ``streams``: ``own``
    where the C core fills asyncio's stream readers, ``stock`` where asyncio
    does, because it is another asyncio or ``ASYNCFAST_STREAMS=stock`` was
    set. ``tls``: ``openssl`` where the C core does TLS records by the ssl
    module's own OpenSSL, ``ssl`` where by that module's methods, ``stock``
    where asyncio does them; the environment variable ``ASYNCFAST_TLS=ssl`` or
    ``=stock`` asks for that. ``compiler`` and ``flags``: what the C core was
    built with.
    """
    return {
        "version": __version__,
        "python": _sys.version.split()[0],
        "libuv": libuv_version(),
        "poller": _core.POLLER,
        "tasks": "own" if _OWN_TASKS else "stock",
        "streams": "own" if _streams_in_c else "stock",
        "tls": _tls_kind(),
        "compiler": _core.COMPILER,
        "flags": _core.FLAGS,
    }


def install() -> None:
    """Make asyncfast the loop of every program part that asks asyncio for one.

    Sets the event loop policy, so that asyncio.run() and
    asyncio.new_event_loop() use asyncfast. Raises RuntimeError on CPython 3.16
    and newer, which have no policies: pass ``loop_factory`` there.
    """
    if _sys.version_info >= (3, 16):
        raise RuntimeError(
            "this Python has no event loop policies: use asyncfast.run(main()) "
            "or asyncio.run(main(), loop_factory=asyncfast.new_event_loop)"
        )
    from .policy import EventLoopPolicy, set_policy

    set_policy(EventLoopPolicy())


def __getattr__(name: str) -> _typing.Any:
    # On demand: merely touching policies warns from CPython 3.14 on, and few programs
    # look into their loop by what is left of __all__, telemetry.
    if name == "EventLoopPolicy" and _sys.version_info < (3, 16):
        from .policy import EventLoopPolicy

        return EventLoopPolicy
    if name in __all__:
        from . import telemetry

        return getattr(telemetry, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
