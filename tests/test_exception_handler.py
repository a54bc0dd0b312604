"""Reports: what the loop tells the exception handler, and what a handler may do."""

import asyncio
import contextvars
import gc
import logging

import pytest
from support import PY, BufferedRecorder, Recorder, connected, like_asyncio, once, turns


def texts(caplog):
    return [r.getMessage() for r in caplog.records if r.name == "asyncio"]


# -- The handler -------------------------------------------------------------------


def test_the_handler_gets_the_loop_and_the_context(loop):
    got = []
    loop.set_exception_handler(lambda *args: got.append(args))
    context = {"message": "text", "extra": 1}
    assert loop.call_exception_handler(context) is None
    assert got == [(loop, context)]


def test_get_and_set(loop):
    def handler(loop, context):
        pass

    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None


@pytest.mark.parametrize("thing", [1, "text", ...], ids=repr)
def test_a_handler_must_be_callable(loop, thing):
    def scenario(loop):
        try:
            loop.set_exception_handler(thing)
        except TypeError as error:
            raise TypeError(str(error).partition(", got")[0]) from None

    assert like_asyncio(loop, scenario)[1] is TypeError


def test_the_default_handler_logs(loop, caplog):
    loop.set_exception_handler(None)
    loop.call_soon(lambda: 1 / 0)
    once(loop)
    [record] = [r for r in caplog.records if r.name == "asyncio"]
    assert record.levelno == logging.ERROR
    assert record.exc_info[0] is ZeroDivisionError
    assert record.getMessage().startswith("Exception in callback ")
    assert "handle: <Handle " in record.getMessage()


def test_the_default_handler_tells_every_key(loop, caplog):
    loop.default_exception_handler({"message": "text", "b": 2, "a": [1]})
    assert texts(caplog) == ["text\na: [1]\nb: 2"]


def test_no_message(loop, caplog):
    loop.default_exception_handler({})
    assert texts(caplog) == ["Unhandled exception in event loop"]


def test_a_handler_that_fails(loop, caplog):
    def handler(loop, context):
        raise LookupError("handler")

    loop.set_exception_handler(handler)
    loop.call_soon(lambda: 1 / 0)
    once(loop)
    [record] = [r for r in caplog.records if r.name == "asyncio"]
    assert record.getMessage().startswith("Unhandled error in exception handler")
    assert record.exc_info[0] is LookupError


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_handler_leaves_the_loop(loop, kind):
    def handler(loop, context):
        raise kind("out")

    loop.set_exception_handler(handler)
    loop.call_soon(lambda: 1 / 0)
    with pytest.raises(kind, match="out"):
        loop.run_forever()


def test_an_overridden_default_handler_that_fails(loop, caplog):
    def broken(context):
        raise LookupError("default")

    loop.set_exception_handler(None)
    loop.default_exception_handler = broken
    loop.call_soon(lambda: 1 / 0)
    once(loop)
    assert any("Exception in default exception handler" in t for t in texts(caplog))


def test_call_exception_handler_of_the_instance_is_used(loop):
    got = []
    loop.call_exception_handler = got.append
    loop.call_soon(lambda: 1 / 0)
    once(loop)
    del loop.call_exception_handler
    assert type(got[0]["exception"]) is ZeroDivisionError


@pytest.mark.skipif(PY < (3, 12), reason="new in 3.12")
def test_the_handler_runs_in_the_context_of_the_callback(loop):
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []
    loop.set_exception_handler(lambda *_: seen.append(variable.get()))

    def fail():
        variable.set("callback")
        raise ValueError

    loop.call_soon(fail)
    once(loop)
    assert seen == ["callback"]


# -- What is reported --------------------------------------------------------------


def test_the_message_of_a_callback_is_that_of_asyncio(loop):
    def scenario(loop):
        def fail(*args):
            raise ValueError

        reports = []
        loop.set_exception_handler(lambda _, context: reports.append(context))
        loop.call_soon(fail, 1, "two")
        loop.call_at(0, fail)
        once(loop)
        return [(report["message"], sorted(report)) for report in reports]

    like_asyncio(loop, scenario)


def test_a_task_whose_exception_nobody_took(loop, reports):
    async def fail():
        raise ValueError("lost")

    task = loop.create_task(fail())
    loop.run_until_complete(asyncio.wait([task]))
    del task
    gc.collect()
    report = reports.take_one()
    assert report["message"] == "Task exception was never retrieved"
    assert str(report["exception"]) == "lost"
    assert isinstance(report["future"], asyncio.Task)
    del report
    gc.collect()
    assert reports == []


def test_a_future_whose_exception_nobody_took(loop, reports):
    loop.create_future().set_exception(ValueError("lost"))
    gc.collect()
    assert reports.take_one()["message"] == "Future exception was never retrieved"


def test_a_task_that_was_forgotten(loop, reports):
    async def forever():
        await loop.create_future()

    task = loop.create_task(forever())
    loop.run_until_complete(turns(2))
    del task
    gc.collect()
    report = reports.take_one()
    assert report["message"] == "Task was destroyed but it is pending!"
    assert isinstance(report["task"], asyncio.Task)


# -- Protocols that raise ----------------------------------------------------------


class Boom(Exception):
    """Raised by the protocols of these tests."""


def broken(base, method):
    """A protocol class that raises in one method, after recording the call."""

    def fail(self, *args):
        if method != "get_buffer":
            getattr(base, method)(self, *args)
        raise Boom(method)

    return type("Broken", (base,), {method: fail})


FATAL = {
    (Recorder, "data_received"): "Fatal error: protocol.data_received() call failed.",
    (Recorder, "eof_received"): "Fatal error: protocol.eof_received() call failed.",
    (BufferedRecorder, "get_buffer"): "Fatal error: protocol.get_buffer() call failed.",
    (
        BufferedRecorder,
        "buffer_updated",
    ): "Fatal error: protocol.buffer_updated() call failed.",
}


@pytest.mark.parametrize("case", FATAL, ids=lambda case: case[1])
async def test_an_exception_in_a_read_callback_ends_the_connection(loop, reports, case):
    base, method = case
    async with connected(loop, broken(base, method)) as (transport, protocol, peer):
        peer.send(b"x")
        if method == "eof_received":
            peer.shutdown(1)
        await protocol.saw("lost")
        report = reports.take_one()
        assert report["message"] == FATAL[case]
        assert type(report["exception"]) is Boom
        assert report["transport"] is transport
        assert report["protocol"] is protocol
        assert protocol.exception is report["exception"]
        assert protocol.events.count("lost") == 1


async def test_an_exception_in_connection_made(loop, reports):
    """It is reported like any callback's; the connection stays."""
    async with connected(loop, broken(Recorder, "connection_made")) as (t, p, peer):
        assert type(reports.take_one()["exception"]) is Boom
        assert not t.is_closing()
        peer.send(b"x")
        await p.received(1)


async def test_an_exception_in_connection_lost(loop, reports):
    cls = broken(Recorder, "connection_lost")
    async with connected(loop, cls) as (transport, protocol, _):
        sock = transport.get_extra_info("socket")
        transport.close()
        await protocol.saw("lost")
        await turns(2)
        assert type(reports.take_one()["exception"]) is Boom
        assert sock.fileno() == -1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("method", ["data_received", "eof_received", "connection_lost"])
def test_an_interrupt_in_a_protocol_leaves_the_loop(loop, kind, method):
    class Broken(Recorder):
        pass

    raised = []

    def fail(self, *args):
        getattr(Recorder, method)(self, *args)
        if not raised:
            raised.append(1)
            raise kind("out")

    setattr(Broken, method, fail)

    async def main():
        async with connected(loop, Broken) as (_, protocol, peer):
            peer.send(b"x")
            peer.shutdown(1)
            await protocol.saw("never")

    task = loop.create_task(main())
    with pytest.raises(kind, match="out"):
        loop.run_until_complete(task)
    assert not task.done()


async def test_after_a_broken_protocol_the_loop_serves_others(loop, reports):
    async with connected(loop) as (_, healthy, peer):
        cls = broken(Recorder, "data_received")
        for _ in range(10):
            async with connected(loop, cls) as (_, protocol, other):
                other.send(b"x")
                await protocol.saw("lost")
        assert len(reports.take()) == 10
        peer.send(b"still here")
        assert await healthy.received(10) == b"still here"
