"""Wherever a loop runs its user's code, that code may do what it likes.

Each deed in each place (deeds.py, places.py) must end on asyncfast as it ends on
asyncio: the same calls in the same order, the same exceptions, the same reports; and
the loop must serve afterwards.
"""

import deeds
import pytest
from places import CHILD_PLACES, PLACES, TLS_PLACES, happened
from support import LOOPS, PY, TLS_WAYS

from asyncfast import tls

pytestmark = [
    pytest.mark.skipif(len(LOOPS) < 2, reason="compares two loops"),
    pytest.mark.usefixtures("small_heap"),
]


# Refused, they end the running loop of CPython 3.13.
NOT_ON_ASYNCIO = {deeds.run_again, deeds.run_another} if PY == (3, 13) else set()


def expected(place, deed, tls):
    """What happens on asyncio; None where that stumbles over its own transports, which
    may end twice when their own callbacks end them.
    """
    if deed in NOT_ON_ASYNCIO:
        return None
    log = happened("asyncio", place, deed, tls)
    return None if "'NoneType' object" in str(log) else log


def differences(place, those, tls=()):
    """{deed: what happened on (asyncfast, asyncio)} where that isn't the same."""
    found = {}
    for deed in those:
        ours = happened("asyncfast", place, deed, tls)
        theirs = expected(place, deed, tls)
        if theirs not in (None, ours):
            found[deed.__name__] = (ours, theirs)
    return found


@pytest.mark.parametrize("name", [*PLACES, *CHILD_PLACES])
def test_every_deed_ends_as_on_asyncio(name):
    assert differences(*{**PLACES, **CHILD_PLACES}[name]) == {}


@pytest.mark.parametrize("way", [None, *TLS_WAYS])
@pytest.mark.parametrize("name", TLS_PLACES)
def test_every_deed_in_tls_ends_as_on_asyncio(name, way, served, asked, monkeypatch):
    if way:
        monkeypatch.setattr(tls, *TLS_WAYS[way])
    assert differences(*TLS_PLACES[name], (served, asked)) == {}
