"""telemetry: slow callbacks, and statistics of all of them."""

import asyncio
import contextvars
import functools
import weakref

import pytest
from support import Recorder, busy, connected, once, turns

import asyncfast


@pytest.fixture
def loop_name():
    return "asyncfast"


# -- Slow callbacks ----------------------------------------------------------------


@pytest.fixture
def slow(loop):
    """What was reported: callbacks of 10 milliseconds or more."""
    found = []
    asyncfast.on_slow_callback(0.01, found.append, loop)
    return found


def hold():
    busy(0.012)


def named(found, name):
    """The one report that names it: on a loaded machine others may be slow, too."""
    [one] = [report for report in found if name in report.callback]
    return one


def line_of(function, offset=0):
    code = function.__code__
    return f"{code.co_filename}:{code.co_firstlineno + offset}"


def test_a_slow_function(loop, slow):
    loop.call_soon(hold)
    once(loop)
    report = named(slow, "hold()")
    assert report.callback.startswith("<Handle hold() at ")
    assert 0.012 <= report.duration
    assert (report.task, report.coroutine) == (None, None)
    assert report.where == line_of(hold)


def test_what_is_quick_is_not_reported(loop):
    found = []
    asyncfast.on_slow_callback(0.3, found.append, loop)
    for callback in (int, functools.partial(busy, 0.3), int):
        loop.call_soon(callback)
    once(loop)
    assert len(found) == 1 and "busy" in found[0].callback


def test_a_slow_method_and_a_slow_partial(loop, slow):
    class Owner:
        def method(self):
            hold()

    loop.call_soon(Owner().method)
    loop.call_soon(functools.partial(functools.partial(busy), 0.012))
    once(loop)
    assert named(slow, "Owner.method").where == line_of(Owner.method)
    assert named(slow, "busy").where == line_of(busy)


def test_a_slow_step(loop, slow):
    async def inner():
        await asyncio.sleep(0)
        hold()
        await asyncio.sleep(0)

    async def outer():
        await inner()

    loop.run_until_complete(loop.create_task(outer(), name="worker"))
    report = named(slow, "outer()")
    assert report.callback.startswith("<Task pending name='worker'")
    assert report.task == "worker"
    assert report.coroutine.endswith("test_a_slow_step.<locals>.outer")
    assert report.where == line_of(outer, 1)


def test_a_slow_last_step(loop, slow):
    async def last():
        hold()

    loop.run_until_complete(last())
    report = named(slow, "last()")
    assert report.callback.startswith("<Task finished ")
    assert report.where == line_of(last)


def test_a_slow_generator_of_a_subclassed_task(loop, slow):
    class Mine(asyncio.Task):
        pass

    loop.set_task_factory(lambda loop, coro, **kw: Mine(coro, loop=loop, **kw))

    async def mine():
        hold()

    loop.run_until_complete(mine())
    assert named(slow, "mine()").coroutine.endswith("mine")


def test_a_slow_timer_and_a_slow_reader(loop, slow, pair):
    def timer():
        hold()

    def reader():
        loop.remove_reader(pair[0])
        hold()

    loop.call_later(0, timer)
    loop.add_reader(pair[0], reader)
    pair[1].send(b"x")
    once(loop)
    once(loop)
    assert "TimerHandle" in named(slow, "timer()").callback
    assert named(slow, "reader()").where == line_of(reader)


async def test_a_slow_protocol(loop, slow):
    class Slow(Recorder):
        def data_received(self, data):
            hold()
            super().data_received(data)

    async with connected(loop, Slow) as (transport, protocol, peer):
        peer.send(b"x")
        await protocol.received(1)
        await turns()
        assert named(slow, repr(transport)).duration >= 0.012


def test_how_long_it_was_queued(loop, slow):
    def first():
        loop.call_soon(second)
        busy(0.03)

    def second():
        hold()

    def third():
        hold()

    loop.call_soon(first)
    loop.call_later(0.001, third)
    once(loop)
    once(loop)
    second_queued, third_queued = (
        named(slow, name).queued for name in ("second()", "third()")
    )
    assert 0.03 <= second_queued < 5
    # A timer has waited since it was due.
    assert 0.029 + 0.012 <= third_queued < 5


def test_it_is_queued_from_the_moment_that_it_is_scheduled(loop, slow):
    def first():
        busy(0.3)
        loop.call_soon(hold)

    loop.call_soon(first)
    once(loop)
    once(loop)
    assert named(slow, "hold()").queued < 0.25


def test_a_timer_that_was_overdue_when_it_was_made(loop, slow):
    loop.call_at(0, hold)
    once(loop)
    assert named(slow, "hold()").queued < 5


def test_it_is_logged_in_the_words_of_asyncio(loop, caplog):
    asyncfast.on_slow_callback(0.01, loop=loop)
    loop.call_soon(hold)
    once(loop)
    [record] = [each for each in caplog.records if "hold()" in each.getMessage()]
    assert (record.name, record.levelname) == ("asyncio", "WARNING")
    assert record.getMessage().startswith("Executing <Handle hold() at ")
    assert record.getMessage().endswith(" seconds")


def test_debug_mode_does_not_log_it_again(loop, caplog):
    asyncfast.on_slow_callback(0.01, loop=loop)
    loop.set_debug(True)
    loop.slow_callback_duration = 0.01
    loop.call_soon(hold)
    once(loop)
    assert len([each for each in caplog.records if "hold()" in each.getMessage()]) == 1


def test_it_ends(loop, slow):
    asyncfast.on_slow_callback(None, loop=loop)
    loop.call_soon(hold)
    once(loop)
    assert not slow


def test_the_handler_may_end_it(loop):
    found = []

    def handler(report):
        found.append(report)
        asyncfast.on_slow_callback(None, loop=loop)

    asyncfast.on_slow_callback(0.01, handler, loop)
    for _ in range(3):
        loop.call_soon(hold)
    once(loop)
    assert len(found) == 1


def test_the_time_of_the_handler_is_nobodys(loop):
    found = []

    def handler(report):
        found.append(report.callback)
        busy(0.3)

    asyncfast.on_slow_callback(0.3, handler, loop)
    loop.call_soon(busy, 0.3)
    loop.call_soon(int)
    once(loop)
    assert len(found) == 1


def test_an_exception_of_the_handler(loop, reports):
    def handler(report):
        raise ValueError("no")

    asyncfast.on_slow_callback(0.01, handler, loop)
    loop.call_soon(hold)
    ran = []
    loop.call_soon(ran.append, 1)
    once(loop)
    assert ran
    report = reports.take_one()
    assert report["message"] == "Exception in handler of a slow callback"
    assert str(report["exception"]) == "no"


def test_a_handler_that_ends_the_program(loop):
    def handler(report):
        raise SystemExit(3)

    asyncfast.on_slow_callback(0.01, handler, loop)
    loop.call_soon(hold)
    with pytest.raises(SystemExit):
        once(loop)


def test_the_current_task_is_over_when_it_is_reported(loop):
    found = []
    asyncfast.on_slow_callback(
        0.01, lambda report: found.append(asyncio.current_task(loop)), loop
    )

    async def main():
        hold()

    loop.run_until_complete(main())
    assert found and set(found) == {None}


def test_a_slow_callback_that_ends_the_program(loop, slow):
    def leave():
        hold()
        raise KeyboardInterrupt

    loop.call_soon(leave)
    with pytest.raises(KeyboardInterrupt):
        once(loop)
    assert not slow


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_bad_seconds(loop, seconds):
    with pytest.raises(ValueError, match="must be a positive number of seconds"):
        asyncfast.on_slow_callback(seconds, loop=loop)
    with pytest.raises(ValueError, match="must be a positive number of seconds"):
        asyncfast.watchdog(seconds, loop=loop)
    with pytest.raises(ValueError, match="must be a positive number of seconds"):
        asyncfast.monitor_delay(seconds, loop=loop)


def test_bad_handlers(loop):
    with pytest.raises(TypeError, match="a callable object is needed"):
        asyncfast.on_slow_callback(1, "print", loop)
    with pytest.raises(TypeError, match="a callable object is needed"):
        asyncfast.watchdog(1, "print", loop)
    with pytest.raises(TypeError):
        asyncfast.on_slow_callback(object(), loop=loop)


# -- Statistics --------------------------------------------------------------------


def stats_of(loop, name):
    [row] = [row for row in asyncfast.callback_stats(loop) if row.name.endswith(name)]
    return row


@pytest.fixture
def measured(loop):
    asyncfast.enable_callback_stats(loop)
    return loop


def test_calls_are_counted_by_function(measured):
    def mine(seconds):
        busy(seconds)

    for seconds in (0.01, 0.02):
        measured.call_soon(mine, seconds)
        measured.call_later(0, functools.partial(mine, seconds))
    once(measured)
    row = stats_of(measured, "mine")
    assert row.where == line_of(mine)
    assert row.count == 4
    assert 0.06 <= row.total == row.mean * 4
    assert 0.02 <= row.max < row.total
    # The third has waited for the first two, the fourth for all.
    assert row.queued >= 0.01 + 0.03 + 0.04
    assert row.max_queued >= 0.04
    assert row.mean_queued == row.queued / 4


def test_steps_are_counted_by_coroutine(measured):
    async def inner():
        for _ in range(5):
            await asyncio.sleep(0)

    async def outer():
        await inner()

    async def main():
        await asyncio.gather(outer(), outer())

    measured.run_until_complete(main())
    assert stats_of(measured, "outer").count == 12
    assert not [r for r in asyncfast.callback_stats(measured) if "inner" in r.name]


def test_steps_of_other_tasks_are_counted_by_coroutine(measured):
    async def theirs():
        await asyncio.sleep(0)

    measured.set_task_factory(lambda loop, coro, **kw: asyncio.Task(coro, loop=loop))
    measured.run_until_complete(theirs())
    assert stats_of(measured, "theirs").count == 2


def test_what_is_no_function_is_counted_by_name_or_class(measured):
    class Callable:
        def __call__(self):
            pass

    measured.call_soon([].append, 1)
    measured.call_soon([].append, 2)
    measured.call_soon(Callable())
    once(measured)
    assert stats_of(measured, "list.append").count == 2
    row = stats_of(measured, "Callable")
    assert (row.count, row.where) == (1, None)


async def test_transports_are_counted_by_protocol(loop):
    asyncfast.enable_callback_stats()
    async with connected(loop) as (_, protocol, peer):
        peer.send(b"x")
        await protocol.received(1)
        await turns()
        assert stats_of(loop, "Recorder").count >= 1


def test_what_is_cancelled_is_not_counted(measured):
    measured.call_soon(hold).cancel()
    once(measured)
    assert not [r for r in asyncfast.callback_stats(measured) if r.name == "hold"]


def test_those_come_first_that_took_most(measured):
    measured.call_soon(int)
    measured.call_soon(hold)
    once(measured)
    rows = asyncfast.callback_stats(measured)
    assert rows == sorted(rows, key=lambda row: -row.total)


def test_statistics_begin_anew(measured):
    measured.call_soon(hold)
    once(measured)
    assert asyncfast.callback_stats(measured, reset=True)
    assert not asyncfast.callback_stats(measured)
    measured.call_soon(hold)
    once(measured)
    assert stats_of(measured, "hold").count == 1


def test_statistics_end(measured):
    measured.call_soon(hold)
    once(measured)
    asyncfast.enable_callback_stats(measured)
    assert asyncfast.callback_stats(measured)
    asyncfast.disable_callback_stats(measured)
    measured.call_soon(hold)
    once(measured)
    assert not asyncfast.callback_stats(measured)
    assert not asyncfast.callback_stats(measured, reset=True)


def test_statistics_and_slow_callbacks_do_not_end_each_other(measured, slow):
    asyncfast.disable_callback_stats(measured)
    measured.call_soon(hold)
    once(measured)
    assert named(slow, "hold()")
    asyncfast.enable_callback_stats(measured)
    asyncfast.on_slow_callback(None, loop=measured)
    measured.call_soon(hold)
    once(measured)
    assert stats_of(measured, "hold").count == 1


def test_a_callback_may_switch_measuring(loop):
    loop.call_soon(asyncfast.enable_callback_stats, loop)
    loop.call_soon(asyncfast.disable_callback_stats, loop)
    loop.call_soon(asyncfast.enable_callback_stats, loop)
    ran = []
    for number in range(1000):
        loop.call_soon(ran.append, number)
    once(loop)
    once(loop)
    assert ran == list(range(1000))


def test_statistics_that_are_looked_at_while_they_are_forgotten(measured):
    """Code dies with the statistics, and whoever refers to it weakly is told."""

    def look(_):
        seen.append(asyncfast.callback_stats(measured))

    asyncfast.on_slow_callback(60, loop=measured)
    seen = []
    references = []
    for number in range(100):
        function = eval(f"lambda: {number}")
        references.append(weakref.ref(function.__code__, look))
        measured.call_soon(function)
    del function
    once(measured)
    asyncfast.disable_callback_stats(measured)
    assert seen and not any(seen)


def test_many_kinds_of_callbacks(measured):
    for number in range(5000):
        space = {}
        exec(f"def f{number}(): pass", space)
        measured.call_soon(space[f"f{number}"])
    once(measured)
    rows = asyncfast.callback_stats(measured)
    assert len(rows) <= 4097
    assert stats_of(measured, "(others)").count + len(rows) - 1 == 5000


def test_much_is_scheduled_while_it_is_measured(loop):
    ran = []
    for number in range(1000):
        loop.call_soon(ran.append, number)
    asyncfast.enable_callback_stats(loop)
    for number in range(1000, 3000):
        loop.call_soon(ran.append, number)
    once(loop)
    asyncfast.disable_callback_stats(loop)
    for number in range(3000, 6000):
        loop.call_soon(ran.append, number)
    once(loop)
    assert ran == list(range(6000))


def test_context_and_current_task_are_the_same_when_measured(measured):
    variable = contextvars.ContextVar("variable", default=0)
    seen = []

    def look():
        seen.append((variable.get(), asyncio.current_task(measured)))

    async def main():
        variable.set(1)
        measured.call_soon(look)
        await asyncio.sleep(0)
        return asyncio.current_task()

    task = measured.create_task(main())
    assert measured.run_until_complete(task) is task
    assert seen == [(1, None)]


def test_exceptions_are_reported_when_measured(measured, reports):
    def fail():
        raise ValueError("no")

    measured.call_soon(fail)
    once(measured)
    assert str(reports.take_one()["exception"]) == "no"
    assert stats_of(measured, "fail").count == 1


def test_a_measured_loop_is_forgotten(new):
    loop = new()
    asyncfast.enable_callback_stats(loop)
    asyncfast.on_slow_callback(1, loop.call_soon, loop)
    loop.call_soon(hold)
    once(loop)
    loop.close()
