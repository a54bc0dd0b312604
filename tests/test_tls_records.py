"""TLS record by record: what goes through C where asyncio's own code would do it."""

import asyncio
import contextlib
import ctypes
import gc
import hashlib
import random
import ssl
import types
import weakref
from asyncio import sslproto

import pytest
from support import (
    EVERY_TLS,
    PY,
    QUIET_TLS,
    BufferedRecorder,
    Echo,
    Recorder,
    connected_tls,
    ends,
    like_asyncio,
    python,
    serving,
    text_of,
    told,
    turns,
    until,
)

from asyncfast import tls
from asyncfast.known import is_known

pytestmark = QUIET_TLS
since_3_11 = pytest.mark.skipif(PY < (3, 11), reason="asyncio's TLS of 3.10 is used")


class Wire(asyncio.Protocol):
    """A TLS client whose records the test holds in its hands."""

    def __init__(self, context):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming, self.outgoing, server_hostname="localhost"
        )
        self.data = bytearray()
        self.ready = self.ended = False
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self._advance()

    def data_received(self, data):
        self.incoming.write(data)
        self._advance()

    def _advance(self):
        with contextlib.suppress(ssl.SSLWantReadError):
            if not self.ready:
                self.tls.do_handshake()
                self.ready = True
            while not self.ended:
                piece = self.tls.read(1 << 16)
                self.data += piece
                self.ended = not piece
        self.transport.write(self.outgoing.read())

    def connection_lost(self, exception):
        self.lost.set_result(exception)

    def seal(self, data):
        """One record that says this, not sent."""
        self.tls.write(data)
        return self.outgoing.read()

    def goodbye(self):
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.outgoing.read()


@contextlib.asynccontextmanager
async def wired(loop, served, asked, kind=Recorder):
    """(the client's Wire, the server's protocol)."""
    factory, made = ends(kind)
    async with serving(loop, factory, ssl=served) as (_, address):
        _, wire = await loop.create_connection(lambda: Wire(asked), *address)
        await until(lambda: wire.ready and made and "made" in made[0].events)
        try:
            yield wire, made[0]
        finally:
            wire.transport.abort()
            await until(lambda: "lost" in made[0].events)
            await turns(3)


# -- Whole, in pieces, many at once ------------------------------------------------


@EVERY_TLS
async def test_a_record_byte_by_byte(loop, served, asked):
    async with wired(loop, served, asked) as (wire, server):
        for byte in wire.seal(b"hello"):
            wire.transport.write(bytes([byte]))
            await turns(2)
        assert await server.received(5) == b"hello"
        wire.transport.write(wire.seal(b"world"))
        assert await server.received(10) == b"helloworld"


@EVERY_TLS
async def test_records_that_end_anywhere(loop, served, asked):
    """Three in one segment and the beginning of a fourth, cut at many places."""
    async with wired(loop, served, asked, Echo) as (wire, server):
        expected = b""
        for cut in range(1, 130, 7):
            words = [b"%d-%d," % (cut, number) * 3 for number in range(4)]
            expected += b"".join(words)
            *whole, last = (wire.seal(word) for word in words)
            wire.transport.write(b"".join(whole) + last[:cut])
            await turns(3)
            wire.transport.write(last[cut:])
            assert await server.received(len(expected)) == expected
        await until(lambda: bytes(wire.data) == expected)


@EVERY_TLS
async def test_small_records_come_as_one(loop, served, asked):
    async with wired(loop, served, asked) as (wire, server):
        wire.transport.write(b"".join(wire.seal(b"%04d" % n) for n in range(1000)))
        expected = b"".join(b"%04d" % n for n in range(1000))
        assert await server.received(4000) == expected
        if PY >= (3, 11):
            assert server.events.count("data") < 100


@EVERY_TLS
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_writes_about_as_long_as_a_record(loop, served, asked, kind):
    async with connected_tls(loop, served, asked) as (transport, protocol, _):
        expected = b""
        for size in (1, 16383, 16384, 16385, 32768, 100_000):
            data = random.Random(size).randbytes(size)
            expected += data
            transport.write(kind(data))
        transport.writelines([b"", b"a", b"b" * 20_000, b""])
        transport.writelines(b"%d" % number for number in range(5))
        transport.write(data=b"end")
        expected += b"a" + b"b" * 20_000 + b"01234end"
        assert await protocol.received(len(expected)) == expected


class Pauser(Recorder):
    """Reads in fits and starts, writes when it may."""

    def connection_made(self, transport):
        super().connection_made(transport)
        self.random = random.Random(7)
        self.digest = hashlib.sha256()
        self.count = 0
        self.pauses = 0
        self.may_write = asyncio.Event()
        self.may_write.set()

    def data_received(self, data):
        self.digest.update(data)
        self.count += len(data)
        if self.random.random() < 0.3:
            self.transport.pause_reading()
            self.pauses += 1
            asyncio.get_running_loop().call_later(0.001, self.resume)
        self._saw("data")

    def resume(self):
        self.transport.resume_reading()
        self.pauses -= 1
        self._saw("resumed")

    async def read_all(self, total):
        await self.until(lambda: self.count == total and self.pauses == 0)

    def pause_writing(self):
        self.may_write.clear()

    def resume_writing(self):
        self.may_write.set()

    async def send(self, total):
        """The digest of what it has sent."""
        sent = hashlib.sha256()
        while total > 0:
            data = self.random.randbytes(min(self.random.choice(SIZES), total))
            sent.update(data)
            total -= len(data)
            if self.random.random() < 0.5:
                self.transport.write(data)
            else:
                half = len(data) // 2
                self.transport.writelines([data[:half], data[half:]])
            await self.may_write.wait()
            if self.random.random() < 0.1:
                await asyncio.sleep(0)
        return sent.digest()


SIZES = (1, 100, 5000, 16384, 16385, 70_000, 300_000)


@EVERY_TLS
async def test_megabytes_both_ways_with_pauses(loop, served, asked):
    total = 8 << 20
    ways = {"server": Pauser, "client": Pauser}
    async with connected_tls(loop, served, asked, **ways) as (_, client, server):
        client.transport.set_write_buffer_limits(high=100_000)
        sent = await asyncio.gather(client.send(total), server.send(total))
        await server.read_all(total)
        await client.read_all(total)
        assert sent == [server.digest.digest(), client.digest.digest()]
        assert client.transport.get_write_buffer_size() == 0


# -- What a protocol may do in its callbacks ---------------------------------------


def doing(what):
    """A Recorder that does something with its transport when it has data."""

    def data_received(self, data):
        Recorder.data_received(self, data)
        what(self)

    return type("Doing", (Recorder,), {"data_received": data_received})


def write_and_close(self):
    self.transport.write(b"bye")
    self.transport.close()
    self.transport.write(b"dropped")


def pause_and_write(self):
    self.transport.pause_reading()
    self.transport.write(b"busy")


def throw(error):
    raise error


ACTIONS = {
    "close": lambda self: self.transport.close(),
    "write and close": write_and_close,
    "abort": lambda self: self.transport.abort(),
    "write and abort": lambda self: (
        self.transport.write(b"x"),
        self.transport.abort(),
    ),
    "pause and write": pause_and_write,
    "raise": lambda self: throw(LookupError("found nothing")),
    "raise CancelledError": lambda self: throw(asyncio.CancelledError()),
}


@EVERY_TLS
@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("farewell", [False, True])
def test_actions_while_data_comes(loop, served, asked, name, farewell):
    """One record, or three and the end of all with them."""

    async def main(loop):
        async with wired(loop, served, asked, doing(ACTIONS[name])) as (wire, server):
            records = wire.seal(b"one")
            if farewell:
                records += wire.seal(b"two") + wire.seal(b"three") + wire.goodbye()
            wire.transport.write(records)
            await server.saw("data")
            await turns(20)
            events, data = list(server.events), bytes(server.data)
            closing = server.transport.is_closing()
            server.transport.abort()
            await server.saw("lost")
            await turns(5)
            seen = [events, data, closing, bytes(wire.data), wire.ended]
            return [*seen, text_of(server.exception), told(loop)]

    like_asyncio(loop, lambda loop: loop.run_until_complete(main(loop)))
    loop.reports.clear()


class Small(BufferedRecorder):
    """A buffer that takes less than a record."""

    def __init__(self):
        super().__init__(10)

    def get_buffer(self, hint):
        return memoryview(self.buffer)


@EVERY_TLS
async def test_another_protocol_between_the_records(loop, served, asked):
    """What is left of a record by a protocol with a small buffer is the next one's."""
    second, third = Small(), Recorder()

    def switch(self):
        self.transport.set_protocol(second)

    async with wired(loop, served, asked, doing(switch)) as (wire, first):
        transport = first.transport
        wire.transport.write(wire.seal(b"first"))
        await first.received(5)
        wire.transport.write(wire.seal(b"0123456789abcdefghijklmnopq"))
        assert await second.received(27) == b"0123456789abcdefghijklmnopq"
        transport.set_protocol(third)
        wire.transport.write(wire.seal(b"third"))
        assert await third.received(5) == b"third"
        transport.set_protocol(first)
        assert bytes(first.data) == b"first"


@EVERY_TLS
async def test_writes_while_the_socket_takes_nothing(loop, served, asked):
    """They wait below, then above, and all arrive."""
    async with connected_tls(loop, served, asked, server=Recorder) as (
        transport,
        protocol,
        server,
    ):
        server.transport.pause_reading()
        data = bytes(range(256)) * 64
        total = 0
        while "pause" not in protocol.events:
            transport.write(data)
            total += len(data)
        assert transport.get_write_buffer_size() > 0
        server.transport.resume_reading()
        await server.received(total)
        await protocol.saw("resume")
        assert server.data == data * (total // len(data))
        assert transport.get_write_buffer_size() == 0


# Those of 3.10 are the transport's below, which takes whole numbers that fit.
MARKS = (0, 5, None) if PY < (3, 11) else (0, 5, 1 << 70, 100.5, None)


@EVERY_TLS
def test_water_marks(loop, served, asked):
    """Odd marks and what follows from them are asyncio's."""

    async def main(loop):
        found = []
        async with connected_tls(loop, served, asked) as (transport, protocol, server):
            for high in MARKS:
                transport.set_write_buffer_limits(high=high)
                transport.write(b"hello")
                await server.received(5)
                await turns(5)
                limits = transport.get_write_buffer_limits()
                found.append((limits, set(protocol.events)))
                protocol.events.clear()
                server.data.clear()
        return found

    like_asyncio(loop, lambda loop: loop.run_until_complete(main(loop)))


# -- What goes wrong ---------------------------------------------------------------


def spoilt(record):
    return record[:-1] + bytes([record[-1] ^ 1])


BROKEN = {
    "spoilt": lambda wire: spoilt(wire.seal(b"hello")),
    "good, then spoilt": lambda wire: wire.seal(b"good") + spoilt(wire.seal(b"bad")),
    "no record": lambda wire: b"GET / HTTP/1.0\r\n\r\n",
    "too long": lambda wire: b"\x17\x03\x03\xff\xff" + bytes(100),
    "nothing": lambda wire: b"\x17\x03\x03\x00\x00",
    "cut": lambda wire: wire.seal(b"hello")[:-1],
    "data after the end": lambda wire: wire.goodbye() + b"\x17\x03\x03\x00\x05hello",
}


@EVERY_TLS
@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_broken_records(loop, served, asked, name, version):
    """The same exception, text for text, by the same way."""
    asked.maximum_version = ssl.TLSVersion[version]

    async def main(loop):
        async with wired(loop, served, asked) as (wire, server):
            wire.transport.write(wire.seal(b"before"))
            await server.received(6)
            wire.transport.write(BROKEN[name](wire))
            await turns(10)
            wire.transport.close()
            await server.saw("lost")
            await turns(5)
            told_of = [text_of(server.exception), told(loop)]
            return [server.events, bytes(server.data), *told_of]

    like_asyncio(loop, lambda loop: loop.run_until_complete(main(loop)))
    loop.reports.clear()


@EVERY_TLS
async def test_late_client_certificate(loop, served, asked, certificate):
    """Asked for after the handshake: the ssl module writes behind our back."""
    served.load_verify_locations(certificate[0])
    asked.load_cert_chain(*certificate)
    served.verify_mode = ssl.CERT_REQUIRED
    served.post_handshake_auth = asked.post_handshake_auth = True

    def ask(self):
        tls_object = self.transport.get_extra_info("ssl_object")
        if self.data == b"hello":
            tls_object.verify_client_post_handshake()
        self.transport.write(b"?")
        self.certificate = tls_object.getpeercert()

    async with connected_tls(loop, served, asked, server=doing(ask)) as (
        transport,
        protocol,
        server,
    ):
        transport.write(b"hello")
        await protocol.received(1)
        transport.write(b"again")
        await protocol.received(2)
        assert server.certificate["subject"]


def renew_keys(tls_object):
    """Python has no word for it: ask OpenSSL, where tls.direct knows the way."""
    inside = ctypes.c_void_p.from_address(id(tls_object._sslobj) + 24)
    library = ctypes.CDLL(tls.sys.modules["_ssl"].__file__)
    assert library.SSL_key_update(inside, 1) == 1


@EVERY_TLS
@pytest.mark.skipif(not tls.direct, reason="the library is out of reach")
async def test_renewed_keys(loop, served, asked):
    """The client renews its keys and wants new ones, with data and without."""
    async with wired(loop, served, asked, Echo) as (wire, server):
        expected = b""
        for number in range(3):
            renew_keys(wire.tls)
            record = wire.seal(b"line %d" % number)
            expected += b"line %d" % number
            wire.transport.write(record[:20])
            await turns(number)
            wire.transport.write(record[20:])
            assert await server.received(len(expected)) == expected
            renew_keys(wire.tls)
            with contextlib.suppress(ssl.SSLWantReadError):
                wire.tls.do_handshake()
            wire.transport.write(wire.outgoing.read())
        await until(lambda: bytes(wire.data) == expected)


# -- When C keeps out of it --------------------------------------------------------


def takes(transport):
    """(do asyncio's methods run in C?, past the ssl module?)"""
    protocol = transport._ssl_protocol
    in_c = isinstance(protocol, tls._core._TlsProtocol)
    return in_c, in_c and protocol._go_direct()


needs_c = pytest.mark.skipif(not tls.in_c, reason="this CPython's own code is used")


@needs_c
@pytest.mark.parametrize("loop_name", ["asyncfast"])
async def test_c_takes_part(loop, served, asked, monkeypatch):
    async with connected_tls(loop, served, asked) as (transport, _, server):
        assert takes(transport) == takes(server.transport) == (True, tls.direct)
    monkeypatch.setattr(tls, "in_c", False)
    async with connected_tls(loop, served, asked) as (transport, _, server):
        assert takes(transport) == takes(server.transport) == (False, False)


@needs_c
@pytest.mark.parametrize("loop_name", ["asyncfast"])
async def test_start_tls_takes_part(loop, served, asked, certificate):
    factory, _ = ends(Recorder)
    async with serving(loop, factory) as (_, address):
        transport, protocol = await loop.create_connection(Recorder, *address)
        start = loop.start_tls(transport, protocol, asked, server_hostname="localhost")
        task = loop.create_task(start)
        await turns(5)
        assert isinstance(transport.get_protocol(), tls.SSLProtocol)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await turns(5)


@EVERY_TLS
async def test_names_and_bases(loop, served, asked):
    async with connected_tls(loop, served, asked) as (transport, _, _):
        assert isinstance(transport, sslproto._SSLProtocolTransport)
        assert type(transport).__name__ == "_SSLProtocolTransport"
        assert isinstance(transport._ssl_protocol, sslproto.SSLProtocol)
        assert repr(transport).startswith("<asyncio.sslproto._SSLProtocolTransport ")


@EVERY_TLS
async def test_the_methods_of_users_are_called(loop, served, asked, monkeypatch):
    calls = []

    def write(self, data, write=ssl.SSLObject.write):
        calls.append(bytes(data))
        return write(self, data)

    monkeypatch.setattr(ssl.SSLObject, "write", write)
    async with connected_tls(loop, served, asked) as (transport, protocol, _):
        transport.write(b"hello")
        assert await protocol.received(5) == b"hello"
    assert calls.count(b"hello") == 2


@EVERY_TLS
async def test_the_class_of_users_is_taken(loop, served, asked):
    class Own(ssl.SSLObject):
        count = 0

        def read(self, *args):
            Own.count += 1
            return super().read(*args)

    served.sslobject_class = Own
    async with connected_tls(loop, served, asked) as (transport, protocol, server):
        assert type(server.transport.get_extra_info("ssl_object")) is Own
        before = Own.count
        transport.write(b"hello")
        assert await protocol.received(5) == b"hello"
        assert Own.count > before


@EVERY_TLS
async def test_messages_are_told(loop, served, asked):
    told_of = []
    served._msg_callback = lambda *args: told_of.append(args[1])
    async with connected_tls(loop, served, asked) as (transport, protocol, _):
        del told_of[:]
        transport.write(b"hello")
        assert await protocol.received(5) == b"hello"
        assert {"read", "write"} <= set(told_of)


@since_3_11
@pytest.mark.parametrize("loop_name", ["asyncfast"])
async def test_a_protocol_class_of_users_is_taken(loop, served, asked, monkeypatch):
    own = type("Own", (sslproto.SSLProtocol,), {})
    monkeypatch.setattr(sslproto, "SSLProtocol", own)
    async with connected_tls(loop, served, asked) as (transport, protocol, _):
        assert type(transport._ssl_protocol) is own
        transport.write(b"hello")
        assert await protocol.received(5) == b"hello"


@needs_c
def test_an_asyncio_that_is_not_known_is_left_alone(monkeypatch):
    assert is_known(sslproto, tls._KNOWN)
    for path in tls._KNOWN:
        owner, _, name = path.partition(".")
        with monkeypatch.context() as patch:
            patch.setattr(getattr(sslproto, owner), name, lambda self: self.other)
            assert not is_known(sslproto, tls._KNOWN), path


@needs_c
def test_a_library_that_is_not_there():
    assert not tls._core._load_openssl("/nonexistent/_ssl.so")
    assert not tls._core._load_openssl(tls._core.__file__)
    assert tls._core._load_openssl(tls.sys.modules["_ssl"].__file__) is tls.direct


@needs_c
@pytest.mark.parametrize("way, in_c", [("stock", False), ("ssl", True)])
def test_the_environment_decides(way, in_c):
    code = (
        "import asyncfast; from asyncfast import tls; "
        "print(tls.in_c, tls.direct, asyncfast.build_info()['tls'])"
    )
    done = python("-c", code, env={"ASYNCFAST_TLS": way})
    assert done.stdout.split() == [str(in_c), "False", way]


# -- Nothing to crash on -----------------------------------------------------------


@needs_c
def test_a_protocol_that_was_never_set_up():
    empty = tls.SSLProtocol.__new__(tls.SSLProtocol)
    assert empty._transport is None
    assert not empty._go_direct()
    empty._do_read()
    empty._wrapped = empty._state = "open"
    empty._engine = ssl.MemoryBIO()
    transport = tls._SSLProtocolTransport(None, empty)
    transport._closed = True
    for call in (
        empty._do_read,
        lambda: transport.write(b"x"),
        lambda: transport.writelines([b"x"]),
    ):
        with pytest.raises((AttributeError, TypeError)):
            call()
    del empty._incoming
    assert empty._incoming is None


@needs_c
@pytest.mark.parametrize("field", sorted(vars(tls._core._TlsProtocol)))
@pytest.mark.parametrize("loop_name", ["asyncfast"])
async def test_fields_that_somebody_overwrote(loop, served, asked, field):
    """Whatever is in them, it is an exception and not a crash."""
    if isinstance(vars(tls._core._TlsProtocol)[field], types.GetSetDescriptorType):
        async with connected_tls(loop, served, asked) as (transport, _, _):
            protocol = transport._ssl_protocol
            kept = getattr(protocol, field)
            for value in (None, 5, object(), "text"):
                setattr(protocol, field, value)
                with contextlib.suppress(Exception):
                    transport.write(b"hello")
                with contextlib.suppress(Exception):
                    protocol._do_read()
                await turns(2)
            setattr(protocol, field, kept)
        loop.reports.clear()


@EVERY_TLS
async def test_the_ssl_object_goes_with_the_connection(loop, served, asked):
    async with connected_tls(loop, served, asked) as (transport, protocol, _):
        transport.write(b"hello")
        await protocol.received(5)
        found = weakref.ref(transport.get_extra_info("ssl_object"))
        transport.abort()
        await protocol.saw("lost")
    del transport, protocol
    await turns(3)
    gc.collect()
    assert found() is None
