"""What the parts of telemetry share."""

import asyncio
import math

from .. import _core


def own_loop(loop):
    """The loop that is meant: *loop*, or the running one for None.

    RuntimeError if none is running, TypeError if it isn't asyncfast's.
    """
    if loop is None:
        loop = asyncio.get_running_loop()
    if not isinstance(loop, _core.Loop):
        raise TypeError(f"an asyncfast loop is needed, got {loop!r}")
    return loop


def seconds(name, value):
    """*value* as a float, which must be a positive and finite number."""
    number = float(value)
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"{name} must be a positive number of seconds, got {value!r}")
    return number


def place(code):
    """Where a code object begins."""
    return f"{code.co_filename}:{code.co_firstlineno}"


def code_name(code):
    """Its qualified name, or on 3.10 its name."""
    return getattr(code, "co_qualname", code.co_name)
