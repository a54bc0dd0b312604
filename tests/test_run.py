"""asyncfast/loop.py: running beside other loops."""

import asyncio

from support import Reports, outcome


def test_a_stock_loop_and_this_one_take_turns(loop):
    stock = asyncio.SelectorEventLoop()
    stock.set_exception_handler(Reports())
    for each in (loop, stock, loop):
        assert outcome(each.run_until_complete, asyncio.sleep(0, 1)) == ("returned", 1)
    stock.close()
