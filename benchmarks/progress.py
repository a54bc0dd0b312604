"""One line that tells what is measured and how long the rest will take."""

import sys
import time

WIDTH = 24
# Where nobody watches a line change, one now and then is enough for a log.
LOG_EVERY = 10.0


class Progress:
    def __init__(self, total, stream=sys.stderr):
        self._total = total
        self._done = 0
        self._began = time.monotonic()
        self._logged = 0.0
        self._stream = stream
        self._live = stream.isatty()

    def show(self, what):
        """Say what is under way now."""
        if self._live:
            self._stream.write(f"\r\x1b[K{self._line(what)}")
            self._stream.flush()
        elif time.monotonic() - self._logged >= LOG_EVERY:
            self._logged = time.monotonic()
            print(self._line(what), file=self._stream, flush=True)

    def advance(self, samples):
        self._done += samples

    def finish(self):
        if self._live:
            self._stream.write("\r\x1b[K")
        took = clock(time.monotonic() - self._began)
        print(f"{self._done} samples in {took}", file=self._stream, flush=True)

    def _line(self, what):
        filled = WIDTH * self._done // max(self._total, 1)
        bar = "#" * filled + "." * (WIDTH - filled)
        return f"[{bar}] {self._done}/{self._total} {self._left()} left  {what}"

    def _left(self):
        if not self._done:
            return "?:??"
        each = (time.monotonic() - self._began) / self._done
        return clock(each * (self._total - self._done))


def clock(seconds):
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
