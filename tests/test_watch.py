"""io/watch.c: add_reader and add_writer, and what happens to a watched descriptor."""

import asyncio
import contextlib
import contextvars
import gc
import os
import socket
import time
import weakref

import pytest
from support import connected, drain, fill, free_pair, like_asyncio, once, until


class FileLike:
    """Something with a fileno() that a weak reference can watch."""

    def __init__(self, sock):
        self.sock = sock

    def fileno(self):
        return self.sock.fileno()


@pytest.fixture
def pipe():
    """(read end, write end), non-blocking; the test may close either."""
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            pass


def poll(loop, count=3):
    """A few iterations: enough for every event that is there."""
    for _ in range(count):
        once(loop)


# -- Reading and writing -----------------------------------------------------------


def test_a_reader_is_called_with_its_arguments(loop, pair):
    got = []
    assert loop.add_reader(pair[0], lambda *args: got.append(args), 1, "two") is None
    poll(loop)
    assert got == []
    pair[1].send(b"x")
    once(loop)
    assert got == [(1, "two")]
    assert loop.remove_reader(pair[0]) is True


def test_a_writer_is_called_while_there_is_room(loop, pair):
    got = []
    fill(pair[0])
    assert loop.add_writer(pair[0], got.append, 1) is None
    poll(loop)
    assert got == []
    drain(pair[1])
    poll(loop)
    assert got
    assert loop.remove_writer(pair[0]) is True


def test_it_is_level_triggered(loop, pair):
    """Called in every iteration until the data is read, once in each."""
    got = []
    pair[1].send(b"abc")
    loop.add_reader(pair[0], lambda: got.append(pair[0].recv(1)))
    once(loop)
    assert got == [b"a"]
    once(loop)
    assert got == [b"a", b"b"]
    poll(loop, 5)
    assert got == [b"a", b"b", b"c"]
    loop.remove_reader(pair[0])


def test_one_descriptor_has_a_reader_and_a_writer(loop, pair):
    order = []
    pair[1].send(b"x")
    loop.add_reader(pair[0], order.append, "read")
    loop.add_writer(pair[0], order.append, "write")
    once(loop)
    assert order == ["read", "write"]
    assert loop.remove_writer(pair[0]) is True
    once(loop)
    assert order == ["read", "write", "read"]
    loop.add_writer(pair[0], order.append, "write")
    assert loop.remove_reader(pair[0]) is True
    del order[:]
    once(loop)
    assert order == ["write"]
    loop.remove_writer(pair[0])


def test_a_second_reader_replaces_the_first(loop, pair):
    got = []
    pair[1].send(b"x")
    loop.add_reader(pair[0], got.append, "old")
    loop.add_reader(pair[0], got.append, "new")
    once(loop)
    assert got == ["new"]
    loop.remove_reader(pair[0])


def test_the_replaced_callback_is_let_go(loop, pair):
    old = FileLike(pair[0])
    gone = weakref.ref(old)
    loop.add_reader(pair[0], old.fileno)
    loop.add_reader(pair[0], print)
    del old
    gc.collect()
    assert gone() is None
    loop.remove_reader(pair[0])


def test_remove_says_whether_there_was_one(loop, pair):
    assert loop.remove_reader(pair[0]) is False
    assert loop.remove_writer(pair[0]) is False
    loop.add_reader(pair[0], print)
    assert loop.remove_writer(pair[0]) is False
    assert loop.remove_reader(pair[0]) is True
    assert loop.remove_reader(pair[0]) is False
    loop.add_writer(pair[0], print)
    assert loop.remove_reader(pair[0]) is False
    assert loop.remove_writer(pair[0]) is True
    assert loop.remove_writer(pair[0]) is False


def test_after_remove_an_event_that_was_seen_does_not_run(loop):
    """Two are ready at once, and the first to run removes the other."""
    ran = []
    pairs = [free_pair(), free_pair()]

    def ready(own):
        ran.append(own)
        loop.remove_reader(pairs[1 - own][0])

    for own, (left, right) in enumerate(pairs):
        right.send(b"x")
        loop.add_reader(left, ready, own)
    poll(loop)
    assert len(set(ran)) == 1
    loop.remove_reader(pairs[ran[0]][0])
    for left, right in pairs:
        left.close()
        right.close()


def test_a_reader_that_removes_its_writer(loop, pair):
    ran = []
    pair[1].send(b"x")
    loop.add_reader(pair[0], lambda: loop.remove_writer(pair[0]))
    loop.add_writer(pair[0], ran.append, "writer")
    poll(loop)
    assert ran == []
    loop.remove_reader(pair[0])


def test_a_reader_that_removes_itself(loop, pair):
    ran = []

    def ready():
        ran.append(loop.remove_reader(pair[0]))

    pair[1].send(b"x")
    loop.add_reader(pair[0], ready)
    poll(loop)
    assert ran == [True]


def test_a_reader_that_replaces_itself(loop, pair):
    ran = []

    def first():
        ran.append("first")
        loop.add_reader(pair[0], ran.append, "second")

    pair[1].send(b"x")
    loop.add_reader(pair[0], first)
    once(loop)
    assert ran == ["first"]
    once(loop)
    assert ran == ["first", "second"]
    loop.remove_reader(pair[0])


def test_a_callback_that_raises_is_reported_and_stays(loop, reports, pair):
    def fail():
        pair[0].recv(1)
        raise ValueError("in the reader")

    pair[1].send(b"xy")
    loop.add_reader(pair[0], fail)
    poll(loop)
    errors = [report["exception"] for report in reports.take()]
    assert [str(error) for error in errors] == ["in the reader"] * 2
    loop.remove_reader(pair[0])


def test_a_reader_runs_in_the_context_of_its_adder(loop, pair):
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []
    token = variable.set("at add")
    loop.add_reader(pair[0], lambda: seen.append(variable.get()))
    variable.reset(token)
    pair[1].send(b"x")
    once(loop)
    assert seen == ["at add"]
    loop.remove_reader(pair[0])


def test_hanging_up_is_readable(loop, pair):
    got = []
    loop.add_reader(pair[0], lambda: got.append(pair[0].recv(1)))
    pair[1].close()
    once(loop)
    assert got == [b""]
    loop.remove_reader(pair[0])


def test_hanging_up_is_writable(loop, pair):
    got = []
    fill(pair[0])
    loop.add_writer(pair[0], got.append, 1)
    pair[1].close()
    once(loop)
    assert got == [1]
    loop.remove_writer(pair[0])


def test_pipes(loop, pipe):
    got = []
    read, write = pipe
    loop.add_reader(read, lambda: got.append(os.read(read, 10)))
    loop.add_writer(write, lambda: (os.write(write, b"x"), loop.remove_writer(write)))
    poll(loop)
    assert got == [b"x"]
    os.close(write)
    once(loop)
    assert got == [b"x", b""]
    loop.remove_reader(read)


def test_the_write_end_sees_that_its_reader_went(loop, pipe):
    got = []
    read, write = pipe
    while True:
        try:
            os.write(write, bytes(4096))
        except BlockingIOError:
            break
    loop.add_writer(write, got.append, 1)
    once(loop)
    assert got == []
    os.close(read)
    once(loop)
    assert got == [1]
    loop.remove_writer(write)


def test_a_listening_socket_is_readable(loop, listener):
    accepted = []
    loop.add_reader(listener, lambda: accepted.append(listener.accept()[0]))
    with socket.create_connection(listener.getsockname()):
        poll(loop)
    loop.remove_reader(listener)
    assert len(accepted) == 1
    accepted[0].close()


def test_a_datagram_socket_is_readable(loop):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        got = []
        loop.add_reader(sock, lambda: got.append(sock.recv(10)))
        sock.sendto(b"hello", sock.getsockname())
        poll(loop)
        assert got == [b"hello"]
        loop.remove_reader(sock)


def test_two_descriptors_of_one_file(loop, pair):
    got = []
    twin = pair[0].dup()
    loop.add_reader(pair[0], got.append, "one")
    loop.add_reader(twin, got.append, "two")
    pair[1].send(b"x")
    once(loop)
    assert sorted(got) == ["one", "two"]
    loop.remove_reader(pair[0])
    loop.remove_reader(twin)
    twin.close()


def test_hundreds_of_descriptors_in_one_iteration(loop):
    got = set()
    pairs = [free_pair() for _ in range(200)]
    for number, (left, right) in enumerate(pairs):
        loop.add_reader(left, got.add, number)
        right.send(b"x")
    poll(loop)
    assert got == set(range(200))
    for left, right in pairs:
        loop.remove_reader(left)
        left.close()
        right.close()


def test_adding_and_removing_all_the_time(loop, pair):
    """As psycopg does for every wait: both directions, on and off."""
    got = []
    pair[1].send(b"x")
    for number in range(300):
        loop.add_reader(pair[0], got.append, number)
        loop.add_writer(pair[0], int)
        if number % 3 == 0:
            once(loop)
        assert loop.remove_reader(pair[0]) is True
        assert loop.remove_writer(pair[0]) is True
    assert got == list(range(0, 300, 3))


def test_nothing_is_called_while_nothing_happens(loop, pair):
    """No spurious call: grpc reads in blocking mode on every one."""
    got = []
    loop.add_reader(pair[0], got.append, 1)
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert got == []
    loop.remove_reader(pair[0])


def test_data_that_nobody_watches_does_not_spin_the_loop(loop, pair):
    """A removed watcher must leave the kernel's set, or polling returns at once."""
    loop.add_reader(pair[0], int)
    loop.add_writer(pair[0], int)
    pair[1].send(b"x")
    once(loop)
    loop.remove_reader(pair[0])
    loop.remove_writer(pair[0])
    cpu = time.thread_time()
    loop.call_later(0.2, loop.stop)
    loop.run_forever()
    assert time.thread_time() - cpu < 0.1


def test_a_hang_up_that_nobody_reads_does_not_call_the_reader_of_before(loop, pair):
    got = []
    fill(pair[0])
    loop.add_reader(pair[0], got.append, "read")
    loop.add_writer(pair[0], int)
    loop.remove_reader(pair[0])
    pair[1].close()
    poll(loop)
    assert got == []
    loop.remove_writer(pair[0])


# -- What a descriptor may be ------------------------------------------------------


@pytest.mark.parametrize("form", ["number", "socket", "object"])
def test_a_number_or_anything_with_a_fileno(loop, pair, form):
    forms = {"number": int, "socket": lambda fd: pair[0]}
    make = forms.get(form, lambda fd: FileLike(pair[0]))
    got = []
    loop.add_reader(make(pair[0].fileno()), got.append, 1)
    pair[1].send(b"x")
    once(loop)
    assert got == [1]
    assert loop.remove_reader(make(pair[0].fileno())) is True


def test_the_forms_are_the_same_descriptor(loop, pair):
    got = []
    loop.add_reader(pair[0], got.append, "socket")
    loop.add_reader(pair[0].fileno(), got.append, "number")
    pair[1].send(b"x")
    once(loop)
    assert got == ["number"]
    assert loop.remove_reader(FileLike(pair[0])) is True


def test_the_object_is_kept_alive(loop, pair):
    thing = FileLike(pair[0])
    alive = weakref.ref(thing)
    loop.add_reader(thing, print)
    del thing
    gc.collect()
    assert alive() is not None
    loop.remove_reader(pair[0])
    gc.collect()
    assert alive() is None


class Odd:
    def __init__(self, value):
        self.value = value

    def fileno(self):
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


BAD = {
    "none": lambda: None,
    "text": lambda: "0",
    "float": lambda: 1.0,
    "object": object,
    "negative": lambda: -1,
    "negative and huge": lambda: -(2**70),
    "huge": lambda: 2**70,
    "more than an int": lambda: 2**31,
    "closed number": lambda: 3999,
    "negative fileno": lambda: Odd(-1),
    "text fileno": lambda: Odd("1"),
    "raising fileno": lambda: Odd(ValueError("own")),
    "raising KeyError": lambda: Odd(KeyError("own")),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize(
    "method", ["add_reader", "add_writer", "remove_reader", "remove_writer"]
)
def test_a_bad_descriptor_is_refused_as_asyncio_does(loop, method, what):
    args = (print,) if method.startswith("add") else ()
    like_asyncio(loop, lambda loop: getattr(loop, method)(BAD[what](), *args))
    assert loop.run_until_complete(asyncio.sleep(0, "works")) == "works"


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_a_closed_socket_is_refused(loop, method):
    def scenario(loop):
        sock = socket.socket()
        sock.close()
        getattr(loop, method)(sock, print)

    assert like_asyncio(loop, scenario)[0] == "raised"


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_a_regular_file_is_refused_at_once(loop, method, tmp_path):
    """Twisted wants this PermissionError from the call itself."""
    with open(tmp_path / "file", "wb") as file:
        with pytest.raises(PermissionError):
            getattr(loop, method)(file, print)
        like_asyncio(loop, lambda loop: getattr(loop, method)(file, print))
        assert loop.remove_reader(file) is False
    once(loop)


@pytest.mark.parametrize(
    "method", ["add_reader", "add_writer", "remove_reader", "remove_writer"]
)
def test_the_descriptor_of_a_transport_is_refused(loop, run, method):
    args = (print,) if method.startswith("add") else ()

    def scenario(loop):
        async def main():
            async with connected(loop) as (transport, protocol, peer):
                fd = transport.get_extra_info("socket").fileno()
                with pytest.raises(RuntimeError, match="is used by transport") as info:
                    getattr(loop, method)(fd, *args)
                peer.send(b"still works")
                await protocol.received(11)
            # Afterwards the number is free again.
            return str(info.value).split(" transport ")[0].replace(str(fd), "N")

        return loop.run_until_complete(main())

    assert like_asyncio(loop, scenario)[1] == "File descriptor N is used by"


# -- Closing what is watched -------------------------------------------------------


def test_a_watched_socket_closed_without_remove(loop):
    """A mistake that many programs make; it must not crash or spin."""
    left, right = free_pair()
    loop.add_reader(left, int)
    loop.add_writer(left, int)
    fd = left.fileno()
    once(loop)
    left.close()
    right.close()
    poll(loop)
    assert loop.run_until_complete(asyncio.sleep(0.01, "works")) == "works"
    # asyncio's answer to this is the kernel's; what matters is that it ends it.
    with contextlib.suppress(OSError):
        loop.remove_reader(fd)
    with contextlib.suppress(OSError):
        loop.remove_writer(fd)
    assert loop.remove_reader(fd) in (True, False)


def test_a_watched_pipe_closed_in_its_own_callback(loop, pipe):
    read, write = pipe
    ran = []

    def ready():
        ran.append(1)
        os.close(read)

    os.write(write, b"x")
    loop.add_reader(read, ready)
    poll(loop)
    assert ran == [1]
    assert loop.remove_reader(read) is True


def test_a_number_is_used_again_after_close_and_remove(loop):
    got = []
    for round_ in range(20):
        left, right = free_pair()
        fd = left.fileno()
        loop.add_reader(left, got.append, round_)
        right.send(b"x")
        poll(loop, 1)
        left.close()
        right.close()
        assert loop.remove_reader(fd) is True
    assert got == list(range(20))


def test_a_number_is_used_again_after_remove_and_close(loop):
    got = []
    for round_ in range(20):
        left, right = free_pair()
        loop.add_writer(left, got.append, round_)
        once(loop)
        loop.remove_writer(left)
        left.close()
        right.close()
    assert got == list(range(20))


def test_a_number_used_again_without_remove_does_no_harm(loop):
    """asyncio takes it for the old one and stays silent; nobody may crash or spin."""
    left, right = free_pair()
    fd = left.fileno()
    loop.add_reader(left, int)
    once(loop)
    left.close()
    right.close()
    again, other = free_pair()
    assert again.fileno() == fd
    with again, other:
        with contextlib.suppress(OSError):
            loop.add_reader(again, drain, again)
        other.send(b"x")
        poll(loop)
        loop.remove_reader(fd)
        got = []
        loop.add_reader(again, lambda: got.append(again.recv(10)))
        other.send(b"y")
        poll(loop)
        assert got[0][-1:] == b"y"
        assert loop.remove_reader(again) is True


def test_close_forgets_the_readers(new, pair):
    loop = new()
    thing = FileLike(pair[0])
    gone = weakref.ref(thing)
    loop.add_reader(thing, thing.fileno)
    loop.add_writer(thing, thing.fileno)
    loop.close()
    del thing
    gc.collect()
    assert gone() is None
    assert pair[0].fileno() >= 0


def test_a_reader_ends_a_wait_for_a_far_timer(loop, run, pair):
    async def main():
        far = loop.call_later(1000, print)
        event = asyncio.Event()
        loop.add_reader(pair[0], event.set)
        loop.call_later(0.01, pair[1].send, b"x")
        await event.wait()
        loop.remove_reader(pair[0])
        far.cancel()

    run(main())


async def test_a_reader_added_by_a_running_task_is_seen(loop, pair):
    got = []
    await asyncio.sleep(0)
    loop.add_reader(pair[0], lambda: got.append(drain(pair[0])))
    pair[1].send(b"x")
    await until(lambda: got)
    loop.remove_reader(pair[0])
    assert got == [b"x"]
