"""Every place where a loop runs its user's code, and what such code may do there.

A place is a function of a `World` that brings the loop to call `world.act()` where its
name says; a deed is what `act` does, once.  The loop is driven by single iterations, so
that a deed may stop it or end it by an exception, and everything that can be seen goes
to `world.log`, in order: it must be the same on every loop.
"""

import asyncio
import contextlib
import gc
import signal
import threading
import time
import weakref

from support import finish, new_loop, normalise, once, reporting_loop

MUCH = 1 << 18


def name_of(error):
    return error and f"{type(error).__name__}: {normalise(str(error))}"


class World:
    """A loop, what lives on it, and the log of what happened."""

    def __init__(self, kind, deed, tls=()):
        self.kind = kind
        self.loop = reporting_loop(kind)
        self.log = []
        self.deed = deed
        self.tls = tls  # contexts of a server and of a client
        self.acted = False
        self.objects = []
        self.cancel = None  # what the deed "cancel" calls
        self.transport = None
        self.ends = contextlib.ExitStack()
        self.protocols = weakref.WeakSet()

    def note(self, *what):
        self.log.append(what)

    def act(self, *args):
        """Do the deed, the first time; log how it ended."""
        if self.acted:
            return
        self.acted = True
        try:
            self.note("did", self.deed(self))
        except (KeyboardInterrupt, SystemExit, Deliberate):
            self.note("raises")
            raise
        except BaseException as error:
            self.note("could not", name_of(error))

    def end(self):
        """Let go of everything, and close what the deed left open."""
        for protocol in list(self.protocols):
            transport = protocol.transport
            if transport is not None:
                getattr(transport, "abort", transport.close)()
        self.give_up_tasks()
        self.transport = self.cancel = None
        self.objects.clear()
        gc.collect()
        self.drive()
        self.ends.close()

    def give_up_tasks(self):
        """Those that a deed has left without anything that will wake them."""
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.drive()
        for task in asyncio.all_tasks(self.loop):
            self.note("pending")
            task._log_destroy_pending = False
            asyncio.tasks._unregister_task(task)

    def inside(self, call):
        """Have the loop call it: outside, a deed could run the loop forever."""
        self.loop.call_soon(call)
        self.drive()

    def drive(self, iterations=8):
        for _ in range(iterations):
            try:
                once(self.loop)
            except BaseException as error:
                if type(error).__name__ == "Hang":
                    raise
                self.note("run ended by", name_of(error))

    def drive_until(self, condition):
        """For what another thread or process has to do first."""
        end = time.monotonic() + 10
        while not condition() and time.monotonic() < end:
            self.drive(1)
            time.sleep(0.001)
        self.drive()


# -- Deeds -------------------------------------------------------------------------


class Deliberate(Exception):
    pass


def nothing(world):
    return None


def close(world):
    return world.transport.close()


def abort(world):
    return world.transport.abort()


def close_twice(world):
    world.transport.close()
    world.transport.abort()
    return world.transport.is_closing()


def write(world):
    return world.transport.write(b"written")


def write_pieces(world):
    world.transport.write(b"one")
    world.transport.writelines([b"two", b"three"])
    world.transport.write(b"four")


def write_much(world):
    return world.transport.write(bytes(MUCH))


def write_and_close(world):
    world.transport.write(b"last words")
    world.transport.close()


def write_eof(world):
    return world.transport.write_eof()


def swap(world, kind=None):
    protocol = (kind or Telling)(world, "second")
    protocol.transport = world.transport
    return world.transport.set_protocol(protocol)


def swap_to_buffered(world):
    return swap(world, TellingBuffered)


def pause(world):
    world.transport.pause_reading()
    world.loop.call_soon(world.transport.resume_reading)


def limits(world):
    world.transport.set_write_buffer_limits(0)
    return world.transport.get_write_buffer_limits()


def cancel(world):
    return world.cancel()


def stop(world):
    return world.loop.stop()


def close_loop(world):
    return world.loop.close()


def run_again(world):
    return world.loop.run_forever()


def run_another(world):
    other = new_loop(world.kind)
    with contextlib.closing(other), contextlib.closing(asyncio.sleep(0)) as sleeping:
        return other.run_until_complete(sleeping)


def run_in_thread(world):
    async def main():
        future = asyncio.get_running_loop().run_in_executor(None, int, "7")
        return await future

    def run():
        loop = new_loop(world.kind)
        try:
            results.append(loop.run_until_complete(main()))
        finally:
            finish(loop)

    results = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results


def run_nested(world):
    """What asyncio forbids and nested-loop packages do: hide the loop that runs."""
    running, other = asyncio._get_running_loop(), new_loop(world.kind)
    task = asyncio.current_task(world.loop) if running else None
    asyncio._set_running_loop(None)
    try:
        return other.run_until_complete(asyncio.sleep(0, "nested"))
    finally:
        other.close()
        asyncio._set_running_loop(running)
        assert not running or asyncio.current_task(world.loop) is task


def interrupt(world):
    raise KeyboardInterrupt("deliberate")


def leave(world):
    raise SystemExit(3)


def fail(world):
    raise Deliberate("deliberate")


def cancelled(world):
    raise asyncio.CancelledError("deliberate")


def drop(world):
    world.transport = world.cancel = None
    world.objects.clear()
    gc.collect()


def schedule(world):
    loop = world.loop
    loop.call_soon(world.note, "soon")
    loop.call_later(0, world.note, "later")
    loop.call_soon(world.note, "never").cancel()
    loop.call_soon_threadsafe(world.note, "threadsafe")


def start_tasks(world):
    async def step(number):
        await asyncio.sleep(0)
        world.note("task", number)

    tasks = [world.loop.create_task(step(number)) for number in range(3)]
    tasks[1].cancel()


def replace_handler(world):
    def handler(loop, context):
        world.note("other handler", context["message"].split(" callback ")[0])

    return world.loop.set_exception_handler(handler)


def turn_debug(world):
    world.loop.set_debug(not world.loop.get_debug())
    world.loop.call_soon(world.loop.set_debug, False)


def take_signal(world):
    signal.raise_signal(signal.SIGURG)


ANYWHERE = [
    nothing,
    cancel,
    stop,
    close_loop,
    run_again,
    run_another,
    run_in_thread,
    run_nested,
    interrupt,
    leave,
    fail,
    drop,
    schedule,
    start_tasks,
    replace_handler,
    turn_debug,
    take_signal,
]
TO_A_TRANSPORT = [
    close,
    abort,
    close_twice,
    write,
    write_pieces,
    write_much,
    write_and_close,
    write_eof,
    swap,
    swap_to_buffered,
    pause,
    limits,
]
TO_A_DATAGRAM_TRANSPORT = [close, abort, close_twice]


# -- Protocols that tell -----------------------------------------------------------


class Telling(asyncio.Protocol):
    """Logs its calls; acts in that which is named `place`."""

    def __init__(self, world, name="first", place=None):
        self.world, self.name, self.place = world, name, place
        self.transport = None
        world.protocols.add(self)

    def tell(self, call, *what):
        self.world.note(self.name, call, *what)
        if call == self.place:
            self.world.act()

    def connection_made(self, transport):
        self.world.transport = self.transport = transport
        self.tell("connection_made")

    def data_received(self, data):
        self.tell("data_received", bytes(data))

    def eof_received(self):
        self.tell("eof_received")
        return True

    def pause_writing(self):
        self.tell("pause_writing")

    def resume_writing(self):
        self.tell("resume_writing")

    def connection_lost(self, error):
        self.tell("connection_lost", name_of(error))

    def datagram_received(self, data, address):
        self.tell("datagram_received", bytes(data))

    def error_received(self, error):
        self.tell("error_received", name_of(error))

    def pipe_data_received(self, fd, data):
        self.tell("pipe_data_received", fd, bytes(data))

    def pipe_connection_lost(self, fd, error):
        self.tell("pipe_connection_lost", fd, name_of(error))

    def process_exited(self):
        self.tell("process_exited")


class TellingBuffered(Telling, asyncio.BufferedProtocol):
    """The same, with a buffer of its own."""

    def __init__(self, world, name="first", place=None):
        super().__init__(world, name, place)
        self.buffer = bytearray(1024)

    def get_buffer(self, hint):
        self.tell("get_buffer")
        return self.buffer

    def buffer_updated(self, count):
        self.tell("buffer_updated", bytes(self.buffer[:count]))
