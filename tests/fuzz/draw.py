"""Values out of the bytes of an input, plain ones and odd ones."""

import array
import ctypes
import decimal
import fractions
import functools
import math


class Draw:
    """Reads an input from its beginning; when it's used up, all is zero."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def more(self):
        return self.at < len(self.data)

    def byte(self):
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def number(self, limit):
        """From 0 to limit - 1."""
        value = 0
        for _ in range((limit - 1).bit_length() + 7 >> 3):
            value = value << 8 | self.byte()
        return value % limit

    def pick(self, choices):
        return choices[self.number(len(choices))]

    def flag(self):
        return bool(self.byte() & 1)

    def bytes(self, most):
        size = self.number(most + 1)
        begin, self.at = self.at, self.at + size
        return self.data[begin : self.at]

    def text(self, most):
        return self.bytes(most).decode("utf-8", "surrogateescape")


class Raises:
    """Every question to it is an error."""

    def _refuse(self, *args):
        raise ZeroDivisionError("refused")

    __index__ = __int__ = __float__ = __len__ = __bool__ = __hash__ = _refuse
    __iter__ = __call__ = __eq__ = __lt__ = __le__ = __ge__ = __gt__ = _refuse
    __add__ = __radd__ = __sub__ = __mul__ = __rmul__ = __floordiv__ = _refuse
    __await__ = fileno = _refuse


class Number:
    """Stands for a number by its methods only."""

    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value

    def __float__(self):
        return float(self.value)

    def fileno(self):
        return self.value


class Int(int):
    pass


class Str(str):
    pass


class Bytes(bytes):
    pass


class List(list):
    pass


def function(*args):
    return len(args)


INTS = (0, 1, -1, 2, 255, 65535, 65536, 2**31 - 1, 2**31, -(2**31), 2**32)
INTS += (2**62, 2**63 - 1, 2**63, -(2**63), 2**64, -(2**64), 10**30, -(10**400))
FLOATS = (0.0, -0.0, 0.5, -1.5, 1e-9, 1e15, 1e18, 1e19, 1e300, -1e300, 5e-324)
FLOATS += (math.nan, math.inf, -math.inf)
TEXTS = ("", "a", "\0", "\udc80", "name", "é" * 70, "context")


def odd(draw):
    """One of everything."""
    return draw.pick(ODD)(draw)


def constant(value):
    return lambda draw: value


def view(draw):
    """A buffer; most have a shape of their own."""
    data = bytearray(draw.bytes(40) or b"0123456789abcdef")
    return draw.pick(VIEWS)(data)


def in_rows(data):
    size = len(data) // 2 * 2
    return memoryview(data[:size]).cast("B", (size // 2, 2)) if size else data


def numbers(code, data):
    """An array of such numbers, of as many bytes as fill them."""
    size = array.array(code).itemsize
    return array.array(code, data[: len(data) // size * size])


def released(data):
    view = memoryview(data)
    view.release()
    return view


VIEWS = (
    bytes,
    bytearray,
    memoryview,
    Bytes,
    lambda data: memoryview(bytes(data)),
    lambda data: memoryview(data)[::2],
    lambda data: memoryview(data)[::-1],
    lambda data: memoryview(data)[3:-2],
    in_rows,
    lambda data: memoryview(numbers("I", data)),
    lambda data: memoryview(numbers("d", data))[::2],
    lambda data: numbers("h", data),
    lambda data: (ctypes.c_int * len(data))(*data),
    lambda data: memoryview(data).cast("c"),
    lambda data: memoryview(data).toreadonly(),
    lambda data: memoryview(b""),
    released,
)


ODD = (
    constant(None),
    constant(True),
    lambda draw: draw.pick(INTS),
    lambda draw: draw.pick(INTS),
    lambda draw: draw.pick(FLOATS),
    lambda draw: draw.pick(FLOATS),
    lambda draw: draw.pick(TEXTS),
    lambda draw: draw.number(1 << 16),
    lambda draw: decimal.Decimal(draw.pick(("1", "NaN", "sNaN", "1e400", "-0.5"))),
    lambda draw: fractions.Fraction(draw.byte() - 100, 7),
    lambda draw: Number(draw.pick(INTS)),
    lambda draw: Int(draw.pick(INTS)),
    lambda draw: complex(draw.byte(), 1),
    lambda draw: Str(draw.pick(TEXTS)),
    lambda draw: Raises(),
    view,
    view,
    lambda draw: [view(draw) for _ in range(draw.number(4))],
    lambda draw: tuple(odd(draw) for _ in range(draw.number(4))),
    lambda draw: List([b"a", b"b"]),
    lambda draw: {b"key": b"value"},
    lambda draw: iter([b"x", b"yz"]),
    lambda draw: object(),
    lambda draw: function,
    lambda draw: functools.partial(function, 1),
    lambda draw: dict,
    constant(...),
)
