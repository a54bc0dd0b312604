"""Samples gathered, and what they say: medians, spreads, ratios."""

from dataclasses import dataclass, field
from statistics import quantiles


@dataclass(frozen=True)
class Figure:
    """A median between the quartiles of the samples that it was taken from."""

    middle: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values):
        values = list(values)
        if len(values) == 1:
            return cls(values[0], values[0], values[0], 1)
        low, middle, high = quantiles(values, n=4, method="inclusive")
        return cls(middle, low, high, len(values))

    @property
    def spread(self):
        """Half the distance between the quartiles, as a share of the median."""
        return (self.high - self.low) / 2 / self.middle if self.middle else 0.0


# Half the quartiles' distance of a ratio that may be ten percent off by chance.
UNSURE = 0.05


@dataclass
class Results:
    """The samples of every row and loop, each sample with its round."""

    subject: str
    limits: frozenset[str] = frozenset()
    samples: dict[tuple[str, str], list[dict]] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, row, loop, sample):
        self.samples.setdefault((row, loop), []).append(sample)

    def of(self, row, loop):
        return self.samples.get((row, loop), [])

    def tried(self, row, loop):
        return (row, loop) in self.samples or (row, loop) in self.failures

    def figure(self, row, loop, value):
        """The figure of a value of the samples, or None where there are none."""
        values = [value(sample) for sample in self.of(row, loop)]
        return Figure.of(values) if values else None

    def best_other(self, row, loops):
        """The loop, neither the subject nor a limit, that costs least."""
        rivals = {
            loop: figure.middle
            for loop in loops
            if loop != self.subject and loop not in self.limits
            if (figure := self.figure(row, loop, cost))
        }
        return min(rivals, key=rivals.get) if rivals else None

    def ratio(self, row, other):
        """How many times the subject's cost the other has: the median and the
        quartiles of the ratios of their samples in the same round, which took turns."""
        ours = {sample["round"]: cost(sample) for sample in self.of(row, self.subject)}
        theirs = {sample["round"]: cost(sample) for sample in self.of(row, other)}
        pairs = [theirs[turn] / ours[turn] for turn in ours.keys() & theirs.keys()]
        return Figure.of(pairs) if pairs else None

    def is_unsure(self, row):
        """Whether the ratio of CPU to a rival is not to be relied on: its rounds differ,
        or there was but one. A steady row's latency has stretches enough."""
        ours = self.of(row, self.subject)
        if not ours or "load_rate" in ours[0] or "bytes" in ours[0]:
            return False
        rivals = {
            loop
            for name, loop in self.samples
            if name == row and loop != self.subject and loop not in self.limits
        }
        ratios = [ratio for loop in rivals if (ratio := self.ratio(row, loop))]
        return any(ratio.spread > UNSURE or ratio.count == 1 for ratio in ratios)


def cost(sample):
    """What a row is judged by: seconds of CPU, user and system, per operation; of a
    row about memory the bytes, under a steady load the latency that 1 % exceed."""
    if "load_rate" in sample:
        return latency("p99")(sample)
    return sample["bytes" if "bytes" in sample else "cpu"] / sample["operations"]


def wall(sample):
    """Seconds per operation."""
    return sample["wall"] / sample["operations"]


def rate(sample):
    """Operations per second."""
    return sample["operations"] / sample["wall"]


def bound_by_client(sample):
    """Was the client's core full while the server's was not? One that keeps a rate
    spins, and is always busy."""
    return (
        "load_rate" not in sample
        and sample["client_busy"] > 0.95
        and sample["cpu"] / sample["wall"] < 0.9
    )


def latency(share):
    """A reader of one latency percentile, in seconds."""
    return lambda sample: sample["latency_us"][share] / 1e6
