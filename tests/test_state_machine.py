"""Whatever is done to connections, timers and jobs in whatever order does as on asyncio.

Hypothesis chooses what to do, and shrinks what fails; tests/worlds.py does it on both
loops and holds it against its model.

ASYNCFAST_FUZZ_SECONDS=3600 goes on for so long, with other choices every time.
"""

import os
import time

import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.stateful import (  # noqa: E402
    RuleBasedStateMachine,
    rule,
    run_state_machine_as_test,
)
from support import descriptors  # noqa: E402
from worlds import (  # noqa: E402
    EVENTS,
    MAKING,
    MOST_OPERATIONS,
    ON_THE_LOOP,
    TO_END,
    TO_LIVE,
    TO_SEND,
    Worlds,
)

SECONDS = float(os.environ.get("ASYNCFAST_FUZZ_SECONDS", "0"))
WHICH = st.integers(0, 11)


def operations(table):
    return st.one_of(
        *(
            st.tuples(st.just(name), WHICH, *map(st.sampled_from, choices))
            for name, choices in table.items()
        )
    )


def without_which(operation):
    return (operation[0], *operation[2:])


LIVE, END = operations(TO_LIVE) | operations(TO_SEND), operations(TO_END)
SCHEDULE = operations(ON_THE_LOOP)
REACTIONS = st.one_of(LIVE, LIVE, END).map(without_which) | st.just(("raise",))


class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.worlds, self.done = Worlds(), False

    def do(self, *args):
        try:
            self.worlds.do(*args)
        except BaseException:
            # What is wrong already would only be found once more.
            self.done = True
            raise

    @rule(operation=operations(MAKING))
    def make(self, operation):
        self.do([operation])

    @rule(operation=LIVE)
    def act(self, operation):
        self.do([operation])

    @rule(
        operations=st.lists(
            st.one_of(LIVE, LIVE, LIVE, SCHEDULE, END),
            min_size=2,
            max_size=MOST_OPERATIONS,
        ),
        first=st.integers(0, MOST_OPERATIONS),
    )
    def act_in_one_go(self, operations, first):
        self.do(operations, first)

    @rule(operation=END | SCHEDULE, first=st.integers(0, 1))
    def end_or_schedule(self, operation, first):
        self.do([operation], first)

    @rule(which=WHICH, event=st.sampled_from(EVENTS), operation=REACTIONS)
    def plan(self, which, event, operation):
        self.do([("plan", which, event, *operation)])

    def teardown(self):
        try:
            if not self.done:
                self.worlds.end()
        finally:
            self.worlds.close()


def run(examples, **kwargs):
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            **kwargs,
        ),
    )


@pytest.mark.guard(600 + SECONDS)
def test_all_that_may_be_done_does_as_on_asyncio(_warm):
    before = descriptors()
    if SECONDS:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            run(100)
    else:
        run(250, derandomize=True)
    assert len(descriptors()) <= len(before)
