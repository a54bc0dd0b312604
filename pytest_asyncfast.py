"""A pytest plugin: the asynchronous tests of any suite, on asyncfast.

``pytest --asyncfast``, or ``asyncfast = true`` in pytest's configuration, has
every loop that the run asks asyncio for made by asyncfast: by pytest-asyncio,
anyio's plugin, pytest-aiohttp, unittest, or a test itself. It stands beside the
package, not in it, because pytest imports every plugin that is installed.
"""

import sys

import pytest

_OPTION = "asyncfast"


def pytest_addoption(parser):
    """Add ``--asyncfast`` and the ini option of that name."""
    text = "run asynchronous tests on the asyncfast event loop"
    group = parser.getgroup("asyncfast")
    group.addoption("--asyncfast", action="store_true", default=None, help=text)
    parser.addini(_OPTION, text, type="bool", default=False)


def _is_wanted(config):
    return config.getoption(_OPTION) or config.getini(_OPTION)


class _Factories:
    """What pytest-asyncio asks where Python has no policies.

    Registered only then: a hook that answers nothing is an error to it.
    """

    @pytest.hookimpl(optionalhook=True)
    def pytest_asyncio_loop_factories(self):
        import asyncfast

        return {"asyncfast": asyncfast.new_event_loop}


def _install(config):
    """Have asyncfast make every loop; returns what undoes that."""
    import asyncio

    import asyncfast

    if sys.version_info < (3, 16):
        from asyncfast.policy import get_policy, set_policy

        before = get_policy()
        asyncfast.install()
        return lambda: set_policy(before)
    config.pluginmanager.register(_Factories())
    patch = pytest.MonkeyPatch()
    for name in ("EventLoop", "new_event_loop"):
        patch.setattr(asyncio, name, asyncfast.new_event_loop)
    return patch.undo


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Before anybody makes a loop."""
    if _is_wanted(config):
        config.add_cleanup(_install(config))


def pytest_report_header(config):
    """Say on what the tests run."""
    if not _is_wanted(config):
        return None
    import asyncfast

    return f"asyncfast: {asyncfast.__version__}, libuv {asyncfast.libuv_version()}"
