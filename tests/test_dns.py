"""io/dns.c: getaddrinfo and getnameinfo; the socket module is the oracle."""

import asyncio
import contextvars
import gc
import socket
import threading
import weakref

import pytest
from support import descriptors, like_asyncio, once, outcome, turns

HOSTS = [
    "127.0.0.1",
    "::1",
    "localhost",
    "0.0.0.0",
    "::",
    "255.255.255.255",
    "::ffff:127.0.0.1",
    "2001:db8::1",
    "127.1",
    "1",
    "0x7f.1",
    b"127.0.0.1",
    b"localhost",
    "127.0.0.1 ",
    " 127.0.0.1",
    "fe80::1",
    "[::1]",
    "",
    None,
]
PORTS = [80, 0, "80", b"80", "http", b"http", None, 65535, "00080"]
PORTS += [True, 2**63, -(2**70), type("Port", (int,), {})(80)]


def resolve(loop, *args, **kwargs):
    return loop.run_until_complete(loop.getaddrinfo(*args, **kwargs))


def same_as_socket(loop, *args, **kwargs):
    """Assert that the loop answers what the socket module does."""
    expected = outcome(lambda: socket.getaddrinfo(*args, **kwargs))
    got = outcome(lambda: resolve(loop, *args, **kwargs))
    assert got == expected
    return got


# -- getaddrinfo -------------------------------------------------------------------


@pytest.mark.parametrize("host", HOSTS, ids=repr)
def test_hosts(loop, host):
    same_as_socket(loop, host, 80, type=socket.SOCK_STREAM)


@pytest.mark.parametrize("port", PORTS, ids=repr)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", None])
def test_ports(loop, host, port):
    if host is None and port is None:
        port = 1
    same_as_socket(loop, host, port, type=socket.SOCK_STREAM)


@pytest.mark.parametrize(
    "family", [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, 99]
)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::ffff:1.2.3.4"])
def test_families(loop, host, family):
    same_as_socket(loop, host, 80, family=family, type=socket.SOCK_STREAM)


@pytest.mark.parametrize(
    "type_", [0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, 77]
)
@pytest.mark.parametrize("proto", [0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, 200])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_types_and_protocols(loop, host, type_, proto):
    """Type 0 gives one entry for each type."""
    same_as_socket(loop, host, 80, type=type_, proto=proto)


FLAGS = [
    socket.AI_PASSIVE,
    socket.AI_NUMERICHOST,
    socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    socket.AI_CANONNAME,
    socket.AI_CANONNAME | socket.AI_NUMERICHOST,
    socket.AI_V4MAPPED,
    socket.AI_ALL | socket.AI_V4MAPPED,
    1 << 20,
]


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", None])
@pytest.mark.parametrize("family", [0, socket.AF_INET6])
def test_flags(loop, host, flags, family):
    kwargs = {"type": socket.SOCK_STREAM, "flags": flags, "family": family}
    same_as_socket(loop, host, 80, **kwargs)


@pytest.mark.parametrize("port", ["http", "name.invalid", "-1", "99999", 70000, -1])
def test_services(loop, port):
    kwargs = {"type": socket.SOCK_STREAM, "flags": socket.AI_NUMERICSERV}
    same_as_socket(loop, "127.0.0.1", port, **kwargs)
    same_as_socket(loop, "127.0.0.1", port, type=socket.SOCK_STREAM)


@pytest.mark.parametrize("zone", ["lo", "1", "nosuchzone", ""])
def test_zones_of_ipv6(loop, zone):
    same_as_socket(loop, f"fe80::1%{zone}", 80, type=socket.SOCK_STREAM)


def test_a_zone_is_kept(loop):
    index = socket.if_nametoindex("lo")
    [entry] = resolve(loop, "fe80::1%lo", 80, type=socket.SOCK_STREAM)
    assert entry[4] == ("fe80::1%lo", 80, 0, index) or entry[4][3] == index


@pytest.mark.parametrize("host", ["name.invalid", "a" * 70, "a..b", "no such host"])
def test_a_name_that_is_none(loop, host):
    kind, error, _ = same_as_socket(
        loop, host, 80, flags=socket.AI_NUMERICHOST, type=socket.SOCK_STREAM
    )
    assert kind == "raised" and issubclass(error, (socket.gaierror, UnicodeError))


def test_an_error_has_its_number_and_text(loop):
    with pytest.raises(socket.gaierror) as info:
        resolve(loop, "name.invalid", 80, flags=socket.AI_NUMERICHOST)
    assert info.value.errno == socket.EAI_NONAME
    assert info.value.args == (socket.EAI_NONAME, info.value.strerror)


@pytest.mark.parametrize("host", [1, 1.5, [], ..., ("127.0.0.1",)], ids=repr)
def test_a_host_that_is_no_text(loop, host):
    assert same_as_socket(loop, host, 80)[1] is TypeError


@pytest.mark.parametrize("port", [1.5, [], ...], ids=repr)
def test_a_port_that_is_no_port(loop, port):
    assert same_as_socket(loop, "127.0.0.1", port)[0] == "raised"


@pytest.mark.parametrize("port", [2**31, 2**63, 2**100, -(2**70)])
def test_a_port_that_is_too_big(loop, port):
    same_as_socket(loop, "127.0.0.1", port, type=socket.SOCK_STREAM)


@pytest.mark.parametrize("host", ["127.0.0.1\0", "a\0b", b"127.0.0.1\0x"], ids=repr)
def test_a_host_with_a_zero_byte(loop, host):
    same_as_socket(loop, host, 80, type=socket.SOCK_STREAM)


@pytest.mark.parametrize("host", ["bücher.invalid", "\udc80", "é" * 64], ids=ascii)
def test_a_host_that_is_not_ascii(loop, host):
    kwargs = {"type": socket.SOCK_STREAM, "flags": socket.AI_NUMERICHOST}
    same_as_socket(loop, host, 80, **kwargs)


def test_port_by_position_and_options_by_name_only(loop):
    with pytest.raises(TypeError):
        resolve(loop, "127.0.0.1", 80, socket.AF_INET)
    with pytest.raises(TypeError):
        resolve(loop, "127.0.0.1")


def test_the_answer_can_be_unpacked_and_changed(loop):
    """A list of 5-tuples that nobody else holds."""
    first = resolve(loop, "127.0.0.1", 80, type=socket.SOCK_STREAM)
    assert type(first) is list
    family, type_, proto, canonical, address = first[0]
    assert isinstance(family, socket.AddressFamily)
    assert isinstance(type_, socket.SocketKind)
    assert (proto, canonical, address) == (6, "", ("127.0.0.1", 80))
    first.clear()
    assert resolve(loop, "127.0.0.1", 80, type=socket.SOCK_STREAM)


def test_many_at_once(loop, run):
    async def main():
        hosts = ["localhost", "127.0.0.1", "::1", "localhost"] * 25
        kwargs = {"type": socket.SOCK_STREAM}
        answers = await asyncio.gather(
            *(loop.getaddrinfo(host, port, **kwargs) for port, host in enumerate(hosts))
        )
        for port, answer in enumerate(answers):
            assert {entry[4][1] for entry in answer} == {port}

    run(main())


async def test_it_does_not_block_the_loop(loop):
    """Other callbacks run while a name is looked up."""
    task = loop.create_task(loop.getaddrinfo("localhost", 80))
    ran = []
    loop.call_soon(ran.append, 1)
    await task
    assert ran == [1]


async def test_the_task_keeps_its_context(loop):
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("mine")
    await loop.getaddrinfo("localhost", 80)
    assert variable.get() == "mine"


async def test_a_lookup_is_cancelled(loop):
    for _ in range(20):
        task = loop.create_task(loop.getaddrinfo("localhost", 80))
        await turns(1)
        if task.cancel():  # unless the answer was quicker
            await asyncio.wait([task])
            assert task.cancelled()
    assert await loop.getaddrinfo("localhost", 80)


def test_closing_with_a_lookup_on_its_way(new):
    """The answer comes to a loop that is gone, and must not harm anyone."""
    for _ in range(10):
        loop = new()
        task = loop.create_task(loop.getaddrinfo("localhost", 80))
        loop.call_soon(loop.stop)
        loop.run_forever()
        task.cancel()
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def close_amid_lookups(loop):
    lookups = [loop.getaddrinfo("localhost", 80) for _ in range(8)]
    tasks = [loop.create_task(lookup) for lookup in lookups]
    once(loop)
    for task in tasks:
        task.cancel()
    once(loop)
    loop.close()


def test_loops_closed_amid_lookups_leave_nothing(new):
    """What was asked for them goes when the answers have come, though to nobody."""
    before, loops = descriptors(), []
    for _ in range(20):
        loop = new()
        close_amid_lookups(loop)
        loops.append(weakref.ref(loop))
    # Where anything stays for good, the guard of all tests ends this.
    while any(ref() for ref in loops) or len(descriptors()) > len(before):
        loop = new()
        assert resolve(loop, "localhost", 80)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        del loop
        gc.collect()


def test_lookups_from_loops_in_threads(new):
    failures = []

    def work():
        loop = new()
        try:
            for _ in range(20):
                assert resolve(loop, "localhost", 80)
        except BaseException as error:
            failures.append(error)
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# -- getnameinfo -------------------------------------------------------------------

NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
ADDRESSES = [
    ("127.0.0.1", 80),
    ("127.0.0.1", 80, 0, 0),
    ("::1", 80),
    ("::1", 80, 0, 0),
    ("fe80::1", 80, 0, 1),
    ("127.0.0.1", 0),
    ("127.0.0.1",),
    (),
    ("localhost", 80),
    ("name.invalid", 80),
    ("127.0.0.1", "http"),
    ("127.0.0.1", -1),
    ("127.0.0.1", 70000),
    ("::1", 80, -1, 0),
    ("::1", 80, 1 << 20, 0),
    ("::1", 80, 0, 1, 2),
    "127.0.0.1",
    None,
    1,
    ["127.0.0.1", 80],
]


def same_name(loop, *args):
    def ask(loop):
        return loop.run_until_complete(loop.getnameinfo(*args))

    return like_asyncio(loop, ask)


@pytest.mark.parametrize("address", ADDRESSES, ids=repr)
def test_getnameinfo_of_addresses(loop, address):
    same_name(loop, address, NUMERIC)


@pytest.mark.parametrize(
    "flags", [0, NUMERIC, socket.NI_NUMERICHOST, socket.NI_DGRAM | socket.NI_NAMEREQD]
)
def test_getnameinfo_flags(loop, flags):
    same_name(loop, ("127.0.0.1", 80), flags)


def test_getnameinfo_takes_flags_by_name_and_by_default(loop, run):
    expected = socket.getnameinfo(("127.0.0.1", 80), 0)
    assert run(loop.getnameinfo(("127.0.0.1", 80))) == expected
    expected = ("127.0.0.1", "80")
    assert run(loop.getnameinfo(("127.0.0.1", 80), flags=NUMERIC)) == expected


@pytest.mark.parametrize("flags", [None, "1", 1.5])
def test_getnameinfo_flags_that_are_none(loop, flags):
    assert same_name(loop, ("127.0.0.1", 80), flags)[1] is TypeError
