"""Instruments for OpenTelemetry::

asyncfast.contrib.opentelemetry.instrument()
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .._version import __version__
from ..telemetry import DelayMonitor
from ._numbers import COUNTS, DELAY, PERCENTILES, STATES, TIME, Source

if TYPE_CHECKING:
    from opentelemetry import metrics as _api

__all__ = ["instrument"]

PREFIX = "asyncio.eventloop."


def instrument(
    loop: asyncio.AbstractEventLoop | None = None,
    *,
    meter_provider: "_api.MeterProvider | None" = None,
    attributes: Mapping[str, str] | None = None,
    delay: DelayMonitor | None = None,
) -> None:
    """Make instruments for the numbers of *loop*, by default the running one.

    They are named ``asyncio.eventloop...`` and observed with *attributes* at
    each export, in any thread; *meter_provider* is by default the global one.
    ``asyncio.eventloop.utilization`` is that since the export before. With
    *delay*, an enabled :class:`asyncfast.DelayMonitor`, there are also
    ``asyncio.eventloop.delay.p50`` and its kin, since the export before; each
    export resets it. It enables timing, and doesn't keep the loop alive.

    Raises ImportError without opentelemetry-api, RuntimeError without a loop,
    TypeError if it is not asyncfast's or *delay* isn't a DelayMonitor.
    """
    from opentelemetry import metrics

    meter = metrics.get_meter("asyncfast", __version__, meter_provider)
    _Instruments(meter, Source(loop, delay), dict(attributes or {}))


class _Instruments:
    def __init__(self, meter, source, attributes):
        self._source = source
        self._attributes = attributes
        self._before = source.metrics()
        count, state = meter.create_observable_counter, meter.create_observable_gauge
        for field, name, unit, text in COUNTS:
            count(PREFIX + name, [self._field(field)], unit, text)
        for field, name, unit, text in STATES:
            state(PREFIX + name, [self._field(field)], unit, text)
        count(PREFIX + "time", [self._time], "s", TIME)
        text = "The share of its time in which the loop was busy"
        state(PREFIX + "utilization", [self._utilization], "1", text)
        if source.delay is not None:
            self._add_delay(state)

    def _add_delay(self, state):
        delay = self._source.delay
        for name in ("min", "mean", "stddev"):
            look = [self._value(lambda name=name: getattr(delay, name))]
            state(f"{PREFIX}delay.{name}", look, "s", DELAY)
        for percent in PERCENTILES:
            look = [self._value(lambda percent=percent: delay.percentile(percent))]
            state(f"{PREFIX}delay.p{percent}", look, "s", DELAY)

        # Instruments are observed in the order in which they were made.
        def longest_and_reset():
            value = delay.max
            delay.reset()
            return value

        state(PREFIX + "delay.max", [self._value(longest_and_reset)], "s", DELAY)

    def _observation(self, value, **attributes):
        from opentelemetry.metrics import Observation

        return Observation(value, {**self._attributes, **attributes})

    def _value(self, value):
        return lambda options: [self._observation(value())]

    def _field(self, field):
        def observe(options):
            numbers = self._source.metrics()
            return (
                [] if numbers is None else [self._observation(getattr(numbers, field))]
            )

        return observe

    def _time(self, options):
        numbers = self._source.metrics()
        return [
            self._observation(getattr(numbers, state), state=state)
            for state in (() if numbers is None else ("busy", "idle"))
        ]

    def _utilization(self, options):
        numbers = self._source.metrics()
        if numbers is None:
            return []
        before, self._before = self._before, numbers
        return [self._observation((numbers - before).utilization)]
