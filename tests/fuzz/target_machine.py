"""The operations of tests/test_state_machine.py, in an order that coverage leads to."""

from draw import Draw
from worlds import (
    EVENTS,
    MAKING,
    MOST_OPERATIONS,
    MOST_SIDES,
    ON_THE_LOOP,
    TO_END,
    TO_LIVE,
    TO_SEND,
    Worlds,
)

STEPS = 40
TABLES = (TO_SEND, TO_SEND, TO_LIVE, TO_LIVE, ON_THE_LOOP, TO_END)


def operation(draw, table):
    name = draw.pick(list(table))
    which = draw.number(MOST_SIDES)
    return (name, which, *(draw.pick(choices) for choices in table[name]))


def plan(draw):
    name, _, *args = operation(draw, draw.pick((TO_SEND, TO_LIVE, TO_END)))
    action = ("raise",) if not draw.number(6) else (name, *args)
    return ("plan", draw.number(MOST_SIDES), draw.pick(EVENTS), *action)


def step(draw):
    """The arguments of Worlds.do."""
    kind = draw.number(8)
    if kind == 0:
        return [operation(draw, MAKING)], 1
    if kind == 1:
        return [plan(draw)], 1
    count = 1 if kind < 5 else 2 + draw.number(MOST_OPERATIONS - 1)
    first = draw.number(count + 1)
    return [operation(draw, draw.pick(TABLES)) for _ in range(count)], first


def run(draw: Draw):
    worlds = Worlds()
    try:
        worlds.do([operation(draw, MAKING)])
        for _ in range(STEPS):
            if draw.more():
                worlds.do(*step(draw))
        worlds.end()
    finally:
        worlds.close()
