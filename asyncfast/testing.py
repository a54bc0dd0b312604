"""unittest on asyncfast."""

import asyncio
import sys
import unittest
import unittest.mock

from .loop import new_event_loop

__all__ = ["IsolatedAsyncioTestCase"]


class IsolatedAsyncioTestCase(unittest.IsolatedAsyncioTestCase):
    """:class:`unittest.IsolatedAsyncioTestCase`, its tests run on asyncfast.

    Each test has a loop of its own, in debug mode. On every supported Python
    the class attribute ``loop_factory`` makes the loops, as with the standard
    library's class from CPython 3.13 on; a subclass may set it to any other
    callable that takes no arguments and returns a loop.
    """

    @staticmethod
    def loop_factory() -> asyncio.AbstractEventLoop:
        """Make the loop of one test."""
        return new_event_loop()

    if sys.version_info < (3, 11):

        def _setupAsyncioLoop(self):
            with unittest.mock.patch.object(
                asyncio, "new_event_loop", self.loop_factory
            ):
                super()._setupAsyncioLoop()

    elif sys.version_info < (3, 13):

        def _setupAsyncioRunner(self):
            super()._setupAsyncioRunner()
            self._asyncioRunner = asyncio.Runner(
                debug=True, loop_factory=self.loop_factory
            )
