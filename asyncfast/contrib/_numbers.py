"""What is exported of a loop, whatever the system."""

import weakref

from .. import telemetry
from ..telemetry._common import own_loop

# (field of Metrics, name, unit, description)
COUNTS = [
    ("iterations", "iterations", "{iteration}", "Turns of the loop"),
    ("callbacks", "callbacks", "{callback}", "Callbacks that were run"),
    ("polls", "polls", "{poll}", "Turns that asked the system for events"),
    ("wakeups", "wakeups", "{wakeup}", "Waits that another thread has ended"),
    ("reads", "reads", "{call}", "System calls that received something"),
    ("writes", "writes", "{call}", "System calls that sent something"),
    ("bytes_received", "received", "By", "Bytes received"),
    ("bytes_sent", "sent", "By", "Bytes sent"),
    ("gil_wait", "gil_wait", "s", "Time in which another thread had the GIL"),
]
STATES = [
    ("ready", "ready", "{callback}", "Callbacks that are ready to run"),
    ("timers", "timers", "{timer}", "Timers that are not due yet"),
    ("descriptors", "descriptors", "{descriptor}", "Descriptors that are watched"),
]
TIME = "Time in which the loop ran, busy or idle"
DELAY = "How late the loop was since the export before"
PERCENTILES = (50, 90, 99)


class Source:
    """The numbers of one loop, which it doesn't keep alive."""

    def __init__(self, loop, delay):
        loop = own_loop(loop)
        if delay is not None and not isinstance(delay, telemetry.DelayMonitor):
            raise TypeError(f"a DelayMonitor is needed, got {delay!r}")
        telemetry.enable_timing(loop)
        self._loop = weakref.ref(loop)
        self.delay = delay

    def metrics(self):
        """The numbers now; None if the loop is gone."""
        loop = self._loop()
        return None if loop is None else telemetry.metrics(loop)
