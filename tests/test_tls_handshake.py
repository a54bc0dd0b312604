"""TLS: certificates, names, and handshakes that succeed, fail or hang; start_tls."""

import asyncio
import contextlib
import gc
import socket
import ssl

import pytest
from support import (
    EVERY_TLS,
    PY,
    QUIET_TLS,
    Echo,
    Recorder,
    connected,
    connected_tls,
    drain,
    ends,
    free_pair,
    like_asyncio,
    reset,
    server_context,
    serving,
    text_of,
    told,
    turns,
    until,
)

pytestmark = [*QUIET_TLS, EVERY_TLS]


# -- Certificates and names --------------------------------------------------------


def refused(loop, served, asked, name="localhost"):
    """What client and server see of a handshake that fails."""
    factory, made = ends(Recorder)

    async def main():
        async with serving(loop, factory, ssl=served) as (server, address):
            try:
                await loop.create_connection(
                    Recorder, *address, ssl=asked, server_hostname=name
                )
            finally:
                await turns(10)
                gc.collect()

    try:
        loop.run_until_complete(main())
    finally:
        assert not made or made[0].events == []


# A reset may overtake the alert that says why.
OVERTAKEN = (ssl.SSLError, ConnectionResetError)


def test_an_unknown_certificate(loop, served):
    def scenario(loop):
        refused(loop, served, ssl.create_default_context())

    kind, error, text = like_asyncio(loop, scenario)
    assert error is ssl.SSLCertVerificationError
    assert "self-signed certificate" in text or "self signed" in text


def test_a_certificate_of_another_name(loop, served, asked):
    def scenario(loop):
        refused(loop, served, asked, "example.com")

    kind, error, text = like_asyncio(loop, scenario)
    assert error is ssl.SSLCertVerificationError
    assert "Hostname mismatch" in text and "'example.com'" in text


async def test_an_unchecked_certificate(loop, served):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with connected_tls(loop, served, context, server_hostname="") as (
        transport,
        p,
        _,
    ):
        transport.write(b"hello")
        assert await p.received(5) == b"hello"
        assert transport.get_extra_info("peercert") == {}


async def test_the_name_is_that_of_the_host(loop, served, asked):
    """Without server_hostname."""
    async with serving(loop, ssl=served) as (_, address):
        transport, protocol = await loop.create_connection(
            Recorder, *address, ssl=asked
        )
        name = transport.get_extra_info("ssl_object").server_hostname
        assert name == "127.0.0.1"
        transport.abort()
        await protocol.saw("lost")
        await turns(5)


async def test_alpn(loop, served, asked):
    served.set_alpn_protocols(["h2", "http/1.1"])
    asked.set_alpn_protocols(["http/1.1", "other"])
    async with connected_tls(loop, served, asked) as (transport, _, server):
        for end in (transport, server.transport):
            chosen = end.get_extra_info("ssl_object").selected_alpn_protocol()
            assert chosen == "http/1.1"


async def test_the_server_sees_the_name(loop, served, asked, certificate):
    """And may choose a certificate by it."""
    seen = []
    other = server_context(certificate)

    def choose(ssl_object, name, context):
        seen.append((name, context is served))
        ssl_object.context = other

    served.sni_callback = choose
    async with connected_tls(loop, served, asked) as (_, _, server):
        assert seen == [("localhost", True)]
        assert server.transport.get_extra_info("ssl_object").context is other


def test_a_name_that_the_server_refuses(loop, served, asked):
    served.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    with pytest.raises(OVERTAKEN):
        refused(loop, served, asked)


async def test_a_client_certificate(loop, served, asked, certificate):
    served.verify_mode = ssl.CERT_REQUIRED
    served.load_verify_locations(certificate[0])
    asked.load_cert_chain(*certificate)
    async with connected_tls(loop, served, asked) as (transport, protocol, server):
        transport.write(b"it's me")
        await protocol.received(7)
        assert server.transport.get_extra_info("peercert")["subject"]


def test_no_client_certificate(loop, served, asked, certificate):
    """By TLS 1.2 it is the handshake that fails, at both ends."""
    served.verify_mode = ssl.CERT_REQUIRED
    served.load_verify_locations(certificate[0])
    asked.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(OVERTAKEN):
        refused(loop, served, asked)


async def test_no_client_certificate_by_tls_1_3(loop, served, asked, certificate):
    """The client has connected already when it is refused."""
    served.verify_mode = ssl.CERT_REQUIRED
    served.load_verify_locations(certificate[0])
    async with serving(loop, ssl=served) as (_, address):
        transport, protocol = await loop.create_connection(
            Recorder, *address, ssl=asked, server_hostname="localhost"
        )
        transport.write(b"x")
        await protocol.saw("lost")
        assert protocol.data == b""
        assert isinstance(protocol.exception, (ssl.SSLError, OSError, type(None)))
        await turns(5)
    loop.reports.clear()


def test_no_common_version(loop, served, asked):
    served.minimum_version = ssl.TLSVersion.TLSv1_3
    asked.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(OVERTAKEN):
        refused(loop, served, asked)


# -- Handshakes that fail or hang --------------------------------------------------


def test_a_server_that_says_nothing(loop, asked, listener):
    def scenario(loop):
        loop.run_until_complete(
            loop.create_connection(
                Recorder,
                *listener.getsockname(),
                ssl=asked,
                server_hostname="localhost",
                ssl_handshake_timeout=0.05,
            )
        )

    kind, error, text = like_asyncio(loop, scenario)
    assert error is ConnectionAbortedError
    assert text.startswith("SSL handshake is taking longer than 0.05 seconds")


def test_a_client_that_says_nothing(loop, served):
    """It is hung up on, and nobody hears of it."""

    async def main(loop):
        kwargs = {"ssl": served, "ssl_handshake_timeout": 0.05}
        factory, made = ends()
        async with serving(loop, factory, **kwargs) as (_, address):
            with socket.create_connection(address) as sock:
                sock.setblocking(False)
                got = await loop.sock_recv(sock, 10)
                await turns(3)
                return [got, made[0].events, told(loop)]

    like_asyncio(loop, lambda loop: loop.run_until_complete(main(loop)))


FIRST_WORDS = {
    "nothing": b"",
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "noise": bytes(range(256)),
    "a piece": b"\x16\x03\x01\x02\x00\x01",
}


@pytest.mark.parametrize("words", FIRST_WORDS)
def test_a_client_that_is_no_tls(loop, served, words):
    """Or goes away in the middle of its handshake."""

    async def main(loop):
        factory, made = ends()
        async with serving(loop, factory, ssl=served) as (_, address):
            with socket.create_connection(address) as sock:
                sock.setblocking(False)
                sock.send(FIRST_WORDS[words])
                sock.shutdown(socket.SHUT_WR)
                await until(lambda: made)
                with contextlib.suppress(ConnectionError):
                    while await loop.sock_recv(sock, 1000):
                        pass
            await turns(5)
            gc.collect()
            return [made[0].events, told(loop)]

    like_asyncio(loop, lambda loop: loop.run_until_complete(main(loop)))


@pytest.mark.parametrize("words", FIRST_WORDS)
def test_a_server_that_is_no_tls(loop, asked, listener, words):
    async def answer(loop):
        sock, _ = await loop.sock_accept(listener)
        with sock:
            await loop.sock_recv(sock, 1 << 16)
            await loop.sock_sendall(sock, FIRST_WORDS[words])

    async def main(loop):
        answering = loop.create_task(answer(loop))
        try:
            await loop.create_connection(
                Recorder, *listener.getsockname(), ssl=asked, server_hostname="x"
            )
        finally:
            await answering

    scenario = lambda loop: loop.run_until_complete(main(loop))  # noqa: E731
    kind, error, text = like_asyncio(loop, scenario)
    assert issubclass(error, OSError)


@pytest.mark.parametrize("words", ["nothing", "a piece"])
async def test_a_client_that_resets_during_the_handshake(loop, served, asked, words):
    factory, made = ends()
    async with serving(loop, factory, ssl=served) as (_, address):
        sock = socket.create_connection(address)
        sock.send(FIRST_WORDS[words])
        await until(lambda: made)
        reset(sock)
        await turns(10)
        assert made[0].events == []
        transport, protocol = await loop.create_connection(
            Recorder, *address, ssl=asked, server_hostname="localhost"
        )
        transport.write(b"next")
        assert await protocol.received(4) == b"next"
        transport.abort()
        await protocol.saw("lost")
        await turns(5)


async def test_a_cancelled_handshake_leaves_nothing(loop, served, asked):
    async with serving(loop, ssl=served) as (_, address):
        for wait in range(12):
            task = loop.create_task(
                loop.create_connection(
                    Recorder, *address, ssl=asked, server_hostname="localhost"
                )
            )
            await turns(wait)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                transport, protocol = await task
                transport.abort()
                await protocol.saw("lost")
        await turns(10)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_factory_that_raises(loop, served, asked):
    class Refuses(Exception):
        pass

    def factory():
        raise Refuses("no protocol")

    async def main(loop):
        async with serving(loop, ssl=served) as (_, address):
            await loop.create_connection(
                factory, *address, ssl=asked, server_hostname="localhost"
            )

    scenario = lambda loop: loop.run_until_complete(main(loop))  # noqa: E731
    assert like_asyncio(loop, scenario)[1] is Refuses


# -- start_tls ---------------------------------------------------------------------


async def upgraded(loop, served, asked, left, right):
    """Both plain transports to TLS: ((transport, protocol), (transport, protocol))."""
    ends = []
    for transport, protocol in (left, right):
        ends.append((transport, protocol))
    (client, asks), (server, answers) = ends
    new_server, new_client = await asyncio.gather(
        loop.start_tls(server, answers, served, server_side=True),
        loop.start_tls(client, asks, asked, server_hostname="localhost"),
    )
    return (new_client, asks), (new_server, answers)


async def plain_pair(loop):
    left, right = free_pair()
    return (
        await loop.connect_accepted_socket(Recorder, left),
        await loop.connect_accepted_socket(Echo, right),
    )


async def test_start_tls_at_both_ends(loop, served, asked):
    left, right = await plain_pair(loop)
    left[0].write(b"plain")
    assert await left[1].received(5) == b"plain"
    (client, asks), (server, answers) = await upgraded(loop, served, asked, left, right)
    assert client is not left[0]
    # start_tls does not call connection_made again.
    answers.transport = server
    client.write(b"secret" * 50_000)
    assert (await asks.received(300_005))[5:] == b"secret" * 50_000
    assert client.get_extra_info("cipher")
    assert client.get_extra_info("sslcontext") is asked
    client.close()
    await asks.saw("lost")
    await answers.saw("lost")
    assert asks.exception is None
    await turns(3)


def test_start_tls_that_fails(loop, served, asked):
    async def main(loop):
        left, right = await plain_pair(loop)
        strict = ssl.create_default_context()
        done = await asyncio.gather(
            loop.start_tls(right[0], right[1], served, server_side=True),
            loop.start_tls(left[0], left[1], strict, server_hostname="localhost"),
            return_exceptions=True,
        )
        await turns(5)
        events = [left[1].events, right[1].events]
        left[0].abort(), right[0].abort()
        await turns(5)
        return [*map(text_of, done), *events, told(loop)]

    like_asyncio(loop, lambda loop: loop.run_until_complete(main(loop)))


def test_start_tls_times_out(loop, asked):
    async def main(loop):
        async with connected(loop) as (transport, protocol, _):
            await loop.start_tls(transport, protocol, asked, ssl_handshake_timeout=0.05)

    asked.check_hostname = False
    scenario = lambda loop: loop.run_until_complete(main(loop))  # noqa: E731
    kind, error, text = like_asyncio(loop, scenario)
    assert error is ConnectionAbortedError


async def test_start_tls_is_cancelled(loop, asked):
    asked.check_hostname = False
    for wait in range(4):
        async with connected(loop) as (transport, protocol, peer):
            task = loop.create_task(loop.start_tls(transport, protocol, asked))
            await turns(wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert transport.is_closing() or wait == 0
            drain(peer)


BAD_START = {
    "no context": lambda loop, t: loop.start_tls(t, Recorder(), None),
    "true": lambda loop, t: loop.start_tls(t, Recorder(), True),
    "no transport": lambda loop, t: loop.start_tls(None, Recorder(), CONTEXT),
    "odd transport": lambda loop, t: loop.start_tls(
        asyncio.Transport(), Recorder(), CONTEXT
    ),
    "no hostname": lambda loop, t: loop.start_tls(t, Recorder(), CONTEXT),
    "zero timeout": lambda loop, t: loop.start_tls(
        t, Recorder(), CONTEXT, server_hostname="x", ssl_handshake_timeout=0
    ),
    "both sides": lambda loop, t: loop.start_tls(
        t, Recorder(), CONTEXT, server_side=True, server_hostname=5
    ),
}
CONTEXT = ssl.create_default_context()


@pytest.mark.parametrize("what", BAD_START)
def test_bad_arguments_of_start_tls(loop, what):
    async def main(loop):
        async with connected(loop) as (transport, _, peer):
            peer.close()
            await BAD_START[what](loop, transport)

    scenario = lambda loop: loop.run_until_complete(main(loop))  # noqa: E731
    assert like_asyncio(loop, scenario)[0] == "raised"
    loop.reports.clear()


# -- Arguments ---------------------------------------------------------------------


BAD_CONNECT = [
    {"ssl": None, "server_hostname": "x"},
    {"ssl": None, "ssl_handshake_timeout": 1},
    {"ssl": CONTEXT, "ssl_handshake_timeout": 0},
    {"ssl": CONTEXT, "ssl_handshake_timeout": -1},
    {"ssl": CONTEXT, "host": "", "server_hostname": None},
    {"ssl": "yes"},
    {"ssl": 5},
    {"ssl": CONTEXT, "server_hostname": 5},
    {"ssl": CONTEXT, "server_hostname": "a\0b"},
    {"ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)},
]
if PY >= (3, 11):
    BAD_CONNECT += [
        {"ssl": None, "ssl_shutdown_timeout": 1},
        {"ssl": CONTEXT, "ssl_shutdown_timeout": 0},
    ]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("arguments", BAD_CONNECT, ids=range(len(BAD_CONNECT)))
def test_bad_arguments_of_create_connection(loop, listener, arguments):
    def scenario(loop):
        host, port = listener.getsockname()
        given = {"host": host, "port": port, **arguments}
        try:
            loop.run_until_complete(loop.create_connection(Recorder, **given))
        finally:
            loop.reports.clear()
            loop.run_until_complete(turns(3))

    assert like_asyncio(loop, scenario)[0] == "raised"


def test_a_socket_needs_a_hostname(loop):
    def scenario(loop):
        left, right = free_pair()
        with left, right:
            loop.run_until_complete(
                loop.create_connection(Recorder, sock=left, ssl=CONTEXT)
            )

    assert like_asyncio(loop, scenario) == (
        "raised",
        ValueError,
        "You must set server_hostname when using ssl without a host",
    )


BAD_SERVE = [
    {"ssl": True},
    {"ssl": None, "ssl_handshake_timeout": 1},
]
if PY >= (3, 11):
    BAD_SERVE += [{"ssl": None, "ssl_shutdown_timeout": 1}]


@pytest.mark.parametrize("arguments", BAD_SERVE, ids=range(len(BAD_SERVE)))
@pytest.mark.parametrize("method", ["create_server", "create_unix_server"])
def test_bad_arguments_of_servers(loop, method, arguments, tmp_path):
    def scenario(loop):
        where = ("127.0.0.1", 0) if method == "create_server" else (None,)
        serve = getattr(loop, method)
        loop.run_until_complete(serve(Echo, *where, **arguments))

    assert like_asyncio(loop, scenario)[0] == "raised"
