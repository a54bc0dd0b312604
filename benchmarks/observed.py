"""Loops of asyncfast that are observed, to count what that costs:

python benchmarks/instructions.py --rows call_soon_chain \\
    --loops asyncfast,timed=observed:timed,slow=observed:slow,stats=observed:stats
"""

import asyncfast


def timed():
    loop = asyncfast.new_event_loop()
    asyncfast.enable_timing(loop)
    return loop


def slow():
    loop = asyncfast.new_event_loop()
    asyncfast.on_slow_callback(3600, loop=loop)
    return loop


def stats():
    loop = asyncfast.new_event_loop()
    asyncfast.enable_callback_stats(loop)
    return loop
