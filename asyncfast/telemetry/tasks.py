"""All tasks of a loop: where each is, and what it waits for."""

import asyncio
import json
import linecache
import sys
from typing import Literal, TextIO

from ._common import code_name

__all__ = ["dump_tasks"]


def dump_tasks(
    file: TextIO | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
    format: Literal["text", "json"] = "text",
) -> None:
    """Write all tasks of *loop* that are not done, by default of the running one,
    to *file*, by default sys.stderr.

    Of each: its name, its coroutine, its state, what it waits for and who waits
    for it, and the stack through everything that it awaits, the innermost frame
    last. *format* is ``text`` for people, or ``json``: a list of objects with the
    keys ``name``, ``coroutine``, ``state`` (``running``, ``ready`` or
    ``waiting``), ``cancelling``, ``waits_for``, ``awaited_by`` and ``stack``.

    Works on loops of any make. From another thread it shows what is there at the
    moment. Raises ValueError for another *format*, RuntimeError without a loop.
    """
    if format not in ("text", "json"):
        raise ValueError(f"format must be 'text' or 'json', got {format!r}")
    loop = loop or asyncio.get_running_loop()
    tasks = _described(loop)
    file = sys.stderr if file is None else file
    if format == "json":
        json.dump(tasks, file, indent=2)
        file.write("\n")
    else:
        file.write("\n".join(_text(task) for task in tasks))


def _described(loop):
    tasks = sorted(asyncio.all_tasks(loop), key=_order)
    waiters = {}
    for task in tasks:
        for awaited in _tasks_in(getattr(task, "_fut_waiter", None)):
            waiters.setdefault(awaited, []).append(task.get_name())
    current = asyncio.current_task(loop)
    return [
        {
            "name": task.get_name(),
            "coroutine": _name_of(task.get_coro()),
            "state": _state(task, current),
            "cancelling": getattr(task, "cancelling", int)() > 0,
            "waits_for": _awaited(task),
            "awaited_by": waiters.get(task, []),
            "stack": _stack(task.get_coro()),
        }
        for task in tasks
    ]


def _order(task):
    """Task-2 before Task-10."""
    name = task.get_name()
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or 0)


def _state(task, current):
    if task is current:
        return "running"
    return "ready" if getattr(task, "_fut_waiter", None) is None else "waiting"


def _tasks_in(future):
    """The tasks that are behind a future: it, or those that it gathers."""
    if isinstance(future, asyncio.Task):
        return [future]
    return [
        child
        for child in getattr(future, "_children", ())
        if isinstance(child, asyncio.Task)
    ]


def _awaited(task):
    future = getattr(task, "_fut_waiter", None)
    if future is None:
        return None
    names = [f"task {child.get_name()!r}" for child in _tasks_in(future)]
    return ", ".join(names) or repr(future)


def _name_of(coro):
    return getattr(coro, "__qualname__", None) or type(coro).__qualname__


# The stack of a coroutine

_PARTS = [
    ("cr_frame", "cr_await"),
    ("gi_frame", "gi_yieldfrom"),
    ("ag_frame", "ag_await"),
]


def _parts(coro):
    """(frame, what it awaits) of a coroutine or generator; None for anything else."""
    for frame, awaited in _PARTS:
        if hasattr(coro, frame):
            return getattr(coro, frame), getattr(coro, awaited)
    return None


def _stack(coro):
    frames = []
    while (parts := _parts(coro)) is not None:
        frame, coro = parts
        if frame is None:
            break
        # What a running coroutine calls stands on its thread's stack.
        frames += _called_from(frame) if _is_running(frame) else [_entry(frame)]
    return frames


def _thread_frames(frame):
    """The frames of the thread in which *frame* runs, the innermost first."""
    for innermost in sys._current_frames().values():
        found = []
        while innermost is not None:
            found.append(innermost)
            if innermost is frame:
                return found
            innermost = innermost.f_back
    return []


def _is_running(frame):
    return frame.f_back is not None


def _called_from(frame):
    inside = [
        each
        for each in _thread_frames(frame)
        if each.f_code.co_filename != __file__ or each is frame
    ]
    return [_entry(each) for each in reversed(inside or [frame])]


def _entry(frame):
    code, line = frame.f_code, frame.f_lineno
    return {
        "file": code.co_filename,
        "line": line,
        "function": code_name(code),
        "text": linecache.getline(code.co_filename, line or 0).strip(),
    }


# Text


def _text(task):
    head = f"{task['name']}: {task['coroutine']}, {task['state']}"
    if task["cancelling"]:
        head += ", being cancelled"
    lines = [head]
    if task["waits_for"]:
        lines.append(f"  waits for {task['waits_for']}")
    if task["awaited_by"]:
        lines.append(f"  awaited by {', '.join(task['awaited_by'])}")
    for entry in task["stack"]:
        lines.append(
            f'  File "{entry["file"]}", line {entry["line"]}, in {entry["function"]}'
        )
        if entry["text"]:
            lines.append(f"    {entry['text']}")
    return "\n".join(lines) + "\n"
