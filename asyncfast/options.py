"""What the command lines of ``python -m asyncfast`` share."""

import argparse
import math


def seconds(text: str) -> float:
    """An option's float of seconds; raises argparse.ArgumentTypeError unless it's above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not (number > 0 and math.isfinite(number)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return number
