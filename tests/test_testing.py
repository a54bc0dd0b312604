"""asyncfast/testing.py and pytest_asyncfast.py: other people's tests on asyncfast."""

import asyncio
import importlib.metadata
import subprocess
import sys
import textwrap
import unittest

import pytest
from support import python, use

from asyncfast import testing

WHOSE = """
    import asyncio

    def whose(loop=None):
        return type(loop or asyncio.get_running_loop()).__module__.split(".")[0]
"""

# Under its runtime each start of pytest takes seconds, and C does nothing new here.
pytestmark = pytest.mark.nosanitizer

# -- unittest ----------------------------------------------------------------------


def result_of(case):
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert not result.errors, result.errors[0][1]
    return result


def test_a_unittest_case_runs_on_asyncfast():
    seen = []

    async def note(self):
        seen.append(asyncio.get_running_loop())

    class Case(testing.IsolatedAsyncioTestCase):
        asyncSetUp = test = asyncTearDown = note

    assert result_of(Case).wasSuccessful()
    assert len(seen) == 3 and len(set(seen)) == 1
    assert type(seen[0]).__module__ == "asyncfast.loop"
    assert seen[0].get_debug()
    assert seen[0].is_closed()


def test_each_test_of_a_case_has_a_loop_of_its_own():
    seen = []

    async def note(self):
        seen.append(asyncio.get_running_loop())

    class Case(testing.IsolatedAsyncioTestCase):
        test_one = test_two = note

        async def test_that_fails(self):
            await note(self)
            self.fail("on purpose")

    result = result_of(Case)
    assert [str(case) for case, _ in result.failures] == [str(Case("test_that_fails"))]
    assert len(set(seen)) == 3


def test_a_case_may_choose_another_loop():
    seen = []

    class Case(testing.IsolatedAsyncioTestCase):
        loop_factory = asyncio.SelectorEventLoop

        async def test(self):
            seen.append(type(asyncio.get_running_loop()))

    assert result_of(Case).wasSuccessful()
    assert seen == [asyncio.SelectorEventLoop]


# -- pytest ------------------------------------------------------------------------


@pytest.fixture
def plugin(tmp_path):
    """The options that load the plugin: none where the package is installed."""
    show = "from importlib.metadata import entry_points as points; "
    show += "print([point.name for point in points(group='pytest11')])"
    installed = "'asyncfast'" in python("-c", show, cwd=tmp_path).stdout
    return [] if installed else ["-p", "pytest_asyncfast"]


@pytest.fixture
def suite(tmp_path, plugin):
    """Run pytest on this source; returns what it printed."""

    def run(source, *options, passed):
        (tmp_path / "test_it.py").write_text(
            textwrap.dedent(WHOSE) + textwrap.dedent(source)
        )
        command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"]
        # Where nothing of this project's configuration is found.
        done = subprocess.run(
            [*command, *plugin, *options, "test_it.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert f"{passed} passed" in done.stdout, done.stdout + done.stderr
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


ANYIO = """
    import unittest
    import pytest

    @pytest.fixture
    def anyio_backend():
        return "asyncio"

    @pytest.mark.anyio
    async def test_anyio():
        assert whose() == "{whose}"

    def test_run():
        async def main():
            assert whose() == "{whose}"
        asyncio.run(main())

    class TestUnit(unittest.IsolatedAsyncioTestCase):
        async def test_unittest(self):
            assert whose() == "{whose}"
"""


def test_the_plugin_does_nothing_unasked(suite):
    output = suite(ANYIO.format(whose="asyncio"), passed=3)
    assert "libuv" not in output


def test_anyio_unittest_and_run(suite):
    output = suite(ANYIO.format(whose="asyncfast"), "--asyncfast", passed=3)
    assert "asyncfast: " in output and "libuv" in output


def test_it_may_be_asked_for_in_the_configuration(suite, tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncfast = true\n")
    suite(ANYIO.format(whose="asyncfast"), passed=3)


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_pytest_asyncio(suite, mode):
    use("pytest_asyncio")
    source = """
        import pytest
        import pytest_asyncio

        @pytest_asyncio.fixture
        async def fixture():
            yield whose()

        @pytest.mark.asyncio
        async def test_function(fixture):
            assert fixture == whose() == "asyncfast"

        @pytest.mark.asyncio
        @pytest.mark.parametrize("number", [1, 2])
        async def test_parameters(number):
            assert whose() == "asyncfast"

        class TestClass:
            @pytest.mark.asyncio
            async def test_method(self):
                assert whose() == "asyncfast"
    """
    output = suite(source, "--asyncfast", f"--asyncio-mode={mode}", passed=4)
    assert "test_function PASSED" in output  # under the name that it had


def test_a_suite_may_name_its_loops(suite, tmp_path):
    use("pytest_asyncio")
    version = importlib.metadata.version("pytest-asyncio")
    if tuple(map(int, version.split(".")[:2])) < (1, 4):
        pytest.skip("the hook is new in pytest-asyncio 1.4")
    (tmp_path / "conftest.py").write_text(
        textwrap.dedent("""
            import asyncio
            import asyncfast

            def pytest_asyncio_loop_factories(config, item):
                return {
                    "asyncio": asyncio.SelectorEventLoop,
                    "asyncfast": asyncfast.new_event_loop,
                }
        """)
    )
    source = """
        import pytest

        @pytest.mark.asyncio
        async def test_it(request):
            assert whose() in request.node.name
    """
    output = suite(source, passed=2)
    assert "test_it[asyncio] PASSED" in output
    assert "test_it[asyncfast] PASSED" in output


def test_anyio_may_name_the_loop(suite):
    source = """
        import asyncfast
        import pytest

        LOOP = {"loop_factory": asyncfast.new_event_loop}

        @pytest.fixture(params=[("asyncio", LOOP)], ids=["asyncfast"])
        def anyio_backend(request):
            return request.param

        @pytest.mark.anyio
        async def test_it():
            assert whose() == "asyncfast"
    """
    assert "test_it[asyncfast] PASSED" in suite(source, passed=1)


def test_pytest_aiohttp(suite):
    use("pytest_aiohttp")
    source = """
        from aiohttp import web

        async def test_client(aiohttp_client):
            async def hello(request):
                return web.Response(text=whose())

            application = web.Application()
            application.router.add_get("/", hello)
            client = await aiohttp_client(application)
            reply = await client.get("/")
            assert await reply.text() == whose() == "asyncfast"
    """
    suite(source, "--asyncfast", "--asyncio-mode=auto", passed=1)


def test_a_patched_clock(suite):
    """As suites do that want time to pass at once."""
    source = """
        def test_time():
            loop = asyncio.new_event_loop()
            assert whose(loop) == "asyncfast"
            now = loop.time()
            loop.time = lambda: now
            fired = []
            loop.call_later(3600, fired.append, 1)
            loop.call_soon(loop.stop)
            loop.run_forever()
            assert fired == []
            now += 3601
            loop.call_soon(loop.stop)
            loop.run_forever()
            assert fired == [1]
            loop.close()
    """
    suite(source, "--asyncfast", passed=1)
