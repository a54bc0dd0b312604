"""CPython's own asyncio tests, of the installed version, pass on asyncfast.

`cpython_suite.GROUPS` says which those are.  What fails must be in EXPECTED_FAILURES or
fail on the stock loop of this machine too; an entry that has become wrong fails.

To see one group, and how each test in it fails:

    python tests/conformance.py --loops asyncfast,asyncio --details GROUP
"""

import concurrent.futures
import os
from dataclasses import dataclass

import pytest
from cpython_suite import GROUPS, PY, run_group

try:
    from test.test_asyncio import utils  # noqa: F401
except ImportError as error:
    if os.environ.get("ASYNCFAST_CI") == "1":
        raise
    pytest.skip(
        f"CPython's own tests are not installed: {error}", allow_module_level=True
    )

LOOPS = os.environ.get("ASYNCFAST_TEST_LOOPS", "asyncfast").split(",")


@dataclass(frozen=True)
class Excuse:
    why: str
    since: tuple = (3, 10)
    before: tuple = (3, 99)


# (group, test) -> why it fails here.  These are run, and must fail.
EXPECTED_FAILURES = {
    (
        "test_subprocess",
        "GenericWatcherTests.test_create_subprocess_fails_with_inactive_watcher",
    ): Excuse(
        "asyncfast uses no child watcher, so none can be inactive",
        since=(3, 11),
        before=(3, 14),
    ),
}


def excused(group, loop_name):
    return {
        test
        for (owner, test), excuse in EXPECTED_FAILURES.items()
        if owner == group and loop_name != "asyncio"
        if excuse.since <= PY < excuse.before
    }


@pytest.fixture(scope="module")
def results(request):
    """Runs two groups at a time, for they mostly sleep."""
    wanted = [
        (item.callspec.params["group"], item.callspec.params["loop_name"])
        for item in request.session.items
        if getattr(item, "function", None) is test_group
    ]
    pool = concurrent.futures.ThreadPoolExecutor(2)
    running = {key: pool.submit(run_group, *key) for key in wanted}
    yield lambda *key: running[key].result()
    pool.shutdown(cancel_futures=True)


@pytest.mark.guard(900)
@pytest.mark.parametrize("loop_name", LOOPS)
@pytest.mark.parametrize("group", GROUPS)
def test_group(group, loop_name, results):
    found = results(group, loop_name)
    excuses = excused(group, loop_name)
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


@pytest.mark.parametrize("group, test", EXPECTED_FAILURES)
def test_an_excuse_is_for_a_group_that_exists(group, test):
    assert group in GROUPS
