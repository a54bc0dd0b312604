"""CPython's own asyncio tests, of the installed version, pass on asyncfast.

`cpython_suite.GROUPS` says which those are.  What fails must be in EXPECTED_FAILURES or
fail on the stock loop of this machine too; an entry that has become wrong fails.

To see one group, and how each test in it fails:

    python tests/conformance.py --loops asyncfast,asyncio --details GROUP
"""

import concurrent.futures
import os

import pytest
from cpython_suite import ALL_GROUPS, GROUPS, LOOP_GROUPS, OWN_GROUPS, run_group

try:
    from test.test_asyncio import utils  # noqa: F401
except ImportError as error:
    if os.environ.get("ASYNCFAST_CI") == "1":
        raise
    pytest.skip(
        f"CPython's own tests are not installed: {error}", allow_module_level=True
    )

LOOPS = os.environ.get("ASYNCFAST_TEST_LOOPS", "asyncfast").split(",")


PRIVATE = "looks into the stock loop: "
WATCHER = "asyncfast uses no child watcher"

# (group, test) -> why it fails here.  These are run where the installed version has
# them, and must fail.
EXPECTED_FAILURES = {
    (
        "SSL",
        "SSL.test_remote_shutdown_receives_trailing_data_on_slow_socket",
    ): PRIVATE + "reads _read_ready_cb and replaces _sock of a transport",
    (
        "test_sslproto",
        "SslProtoHandshakeTests.test_connection_lost_when_busy",
    ): PRIVATE + "makes a transport of a socket that has no descriptor",
    (
        "test_subprocess",
        "GenericWatcherTests.test_create_subprocess_fails_with_inactive_watcher",
    ): WATCHER,
    (
        "test_subprocess",
        "SubprocessPidfdWatcherTests.test_watcher_implementation",
    ): WATCHER,
    (
        "test_subprocess",
        "SubprocessThreadedWatcherTests.test_pid_not_reaped_before_exit_published",
    ): WATCHER,
    (
        "test_subprocess",
        "SubprocessThreadedWatcherTests.test_watcher_implementation",
    ): WATCHER,
}


@pytest.fixture(scope="module")
def results(request):
    """Runs two groups at a time, for they mostly sleep."""
    wanted = [
        (item.callspec.params["group"], item.callspec.params["loop_name"])
        for item in request.session.items
        if getattr(item, "function", None) in (test_group, test_own_classes)
    ]
    pool = concurrent.futures.ThreadPoolExecutor(2)
    running = {key: pool.submit(run_group, *key) for key in wanted}
    yield lambda *key: running[key].result()
    pool.shutdown(cancel_futures=True)


@pytest.mark.guard(900)
@pytest.mark.parametrize("loop_name", LOOPS)
@pytest.mark.parametrize("group", LOOP_GROUPS)
def test_group(group, loop_name, results):
    found = results(group, loop_name)
    excuses = {
        test
        for owner, test in EXPECTED_FAILURES
        if owner == group and test in found.outcomes and loop_name != "asyncio"
    }
    failed = set(found.unsuccessful)
    assert not excuses - failed, "these excuses are wrong"
    new = sorted(failed - excuses)
    if new and loop_name != "asyncio":
        stock = run_group(group, "asyncio", only=new)
        new = [test for test in new if test not in stock.unsuccessful]
    assert not new, "\n".join(
        f"{found.outcomes[test]}: {test}\n{found.details[test]}" for test in new
    )
    # A base that was renamed or emptied must not pass for a success.
    assert found.count("passed") >= GROUPS[group].at_least
    assert found.loops > 0, "the tests ran on some other loop"


@pytest.mark.guard(900)
@pytest.mark.parametrize("loop_name", ["asyncio", "asyncfast"])
@pytest.mark.parametrize("group", OWN_GROUPS)
def test_own_classes(group, loop_name, results):
    """Our Future and Task stand in for asyncio's in all that CPython tests of them, on
    its loops and on ours; nothing is excused."""
    found = results(group, loop_name)
    failed = [f"{test}\n{found.details[test]}" for test in found.unsuccessful]
    assert not failed, "\n".join(failed)
    assert found.count("passed") >= GROUPS[group].at_least


def test_each_excuse_is_for_a_group_that_exists():
    assert {group for group, _ in EXPECTED_FAILURES} <= set(ALL_GROUPS)
