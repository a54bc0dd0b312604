"""Looking into a running loop: numbers, slow callbacks, blocks, tasks.

Everything here is also a name of :mod:`asyncfast` itself; docs/telemetry.md says
what each is good for, and what it costs.
"""

from .blocking import Block, Watchdog, watchdog
from .callbacks import (
    CallbackStats,
    SlowCallback,
    callback_stats,
    disable_callback_stats,
    enable_callback_stats,
    on_slow_callback,
)
from .counters import Metrics, disable_timing, enable_timing, metrics
from .delay import DelayMonitor, monitor_delay
from .server import MetricsServer, serve_metrics
from .tasks import dump_tasks

__all__ = [
    "Block",
    "CallbackStats",
    "DelayMonitor",
    "Metrics",
    "MetricsServer",
    "SlowCallback",
    "Watchdog",
    "callback_stats",
    "disable_callback_stats",
    "disable_timing",
    "dump_tasks",
    "enable_callback_stats",
    "enable_timing",
    "metrics",
    "monitor_delay",
    "on_slow_callback",
    "serve_metrics",
    "watchdog",
]
