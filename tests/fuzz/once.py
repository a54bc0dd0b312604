"""What the harness, the tests and run.py do with one input: give it to a target.

A target is a module target_NAME with a function `run(draw)`, which raises if something
is wrong; mostly that is that asyncio did otherwise.
"""

import contextlib
import gc
import importlib
import logging
import sys
import warnings

from draw import Draw
from support import new_loop, settled_descriptors

LOOK = 500  # inputs after which one looks for what they left behind


def look_up():
    """Once: libuv keeps a pipe from its first lookup on."""
    loop = new_loop("asyncfast")
    with contextlib.suppress(OSError):
        loop.run_until_complete(loop.getaddrinfo("localhost", 0))
    loop.close()


class Target:
    """Runs inputs, and fails if what they leave behind grows with their number."""

    def __init__(self, name):
        look_up()
        self.run = importlib.import_module(f"target_{name}").run
        self.count, self.before, self.growing = 0, None, 0

    def __call__(self, data):
        self.run(Draw(data))
        self.count += 1
        if self.count % LOOK == 0:
            self.look()

    def look(self):
        gc.collect()
        there = settled_descriptors(
            lambda there: self.before is None or len(there) <= len(self.before[0])
        )
        objects = len(gc.get_objects())
        if self.before is not None:
            opened = {fd: there[fd] for fd in there.keys() - self.before[0].keys()}
            # Caches fill, but not by an object each time, and again and again.
            more = objects - self.before[1]
            self.growing = self.growing + 1 if more >= LOOK else 0
            assert len(there) <= len(self.before[0]), f"left open: {opened}"
            assert self.growing < 4, f"{more} objects stay of {LOOK} inputs"
        self.before = there, objects


def load(name):
    """The function of the target of that name, for inputs of any bytes."""
    # Thousands of loops are told of what is meant to be wrong.
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda unraisable: None
    return Target(name)
