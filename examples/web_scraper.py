"""Scrape a web shop of 1,000 pages, 50 at a time, on asyncio and on asyncfast.

Teaches the shape of a real scraper: a queue of pages still to be read, a fixed
number of workers, links followed as they are found, failures tried again with
backoff, and one place where the event loop is chosen.

The shop is an aiohttp server in a process of its own, on the same kind of loop as
the scraper that reads it. The loops take turns, so that whatever else the machine
is doing slows both alike.

Prints a table of pages a second on each loop. A progress bar is drawn on stderr
when that is a terminal. The exit code is 1 if a page could not be read.

    python examples/web_scraper.py
    python examples/web_scraper.py --pages 5000 --concurrency 100 --rounds 3
    python examples/web_scraper.py --loops asyncfast
"""

import argparse
import asyncio
import contextlib
import gc
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncfast

try:
    import aiohttp
    from aiohttp import web
except ImportError as missing:
    sys.exit(f"web_scraper.py needs aiohttp: python -m pip install aiohttp ({missing})")

T = TypeVar("T")

RUN: dict[str, Callable[..., Any]] = {
    "asyncio": asyncio.run,
    "asyncfast": asyncfast.run,
}


def run_on(loop: str, main: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine on the loop of that name."""

    async def checked() -> T:
        # asyncio.run obeys an installed policy: a row of the table must not carry
        # the name of a loop that it was not measured on.
        running = type(asyncio.get_running_loop()).__module__.partition(".")[0]
        if running != loop:
            main.close()
            sys.exit(f"{loop} cannot be measured: its run() starts a loop of {running}")
        return await main

    result: T = RUN[loop](checked())
    return result


# ---------------------------------------------------------------- the shop

LINKS_PER_PAGE = 5
BUSY_EVERY = 100
TITLES = ["The Quiet Harbour", "A Field Guide to Rain", "Letters from the Night Train"]
BLURB = "<p>Bound in linen, printed on heavy paper, sent within two days.</p>\n" * 25


def book_page(number: int, pages: int) -> str:
    """The page of one book: its title, its price, and links to other books."""
    first = number * LINKS_PER_PAGE + 1
    linked = [n for n in range(first, first + LINKS_PER_PAGE) if n < pages]
    links = "\n".join(f'<li><a href="/books/{n}">Book {n}</a></li>' for n in linked)
    title = f"{TITLES[number % len(TITLES)]}, volume {number + 1}"
    price = f"{5 + number % 40}.{number % 100:02}"
    return (
        f"<!doctype html><html><head><title>Bookshop</title></head><body>\n"
        f'<h1>{title}</h1>\n<span class="price">${price}</span>\n'
        f'{BLURB}<ul>\n{links}\n</ul><a href="/books/0">Home</a>\n</body></html>\n'
    )


class Shop:
    """Serves the books, and is too busy to answer every hundredth request."""

    def __init__(self, pages: int) -> None:
        self._pages = pages
        self._requests = 0

    async def book(self, request: web.Request) -> web.Response:
        self._requests += 1
        if self._requests % BUSY_EVERY == 0:
            return web.Response(status=503, text="busy, please come back")
        number = int(request.match_info["number"])
        if number >= self._pages:
            return web.Response(status=404, text="no such book")
        page = book_page(number, self._pages)
        return web.Response(text=page, content_type="text/html")


async def serve(pages: int) -> None:
    """Run the shop, say on which port, and stop when the parent has gone."""
    app = web.Application()
    app.router.add_get(r"/books/{number:\d+}", Shop(pages).book)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(runner.addresses[0][1], flush=True)
        await end_of_stdin()
    finally:
        await runner.cleanup()


async def end_of_stdin() -> None:
    # The pipe ends with the parent, however the parent ends: even a kill leaves
    # no server behind.
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())


@contextlib.contextmanager
def running_shop(loop: str, pages: int) -> Iterator[str]:
    """Start the shop in a process of its own; give its address."""
    command = [sys.executable, __file__, "--serve", loop, "--pages", str(pages)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C is for the scraper; the shop then closes in good order.
        start_new_session=True,
    ) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        if not port:
            sys.exit(f"the server on {loop} ended before it announced its port")
        yield f"http://127.0.0.1:{port}"


# ------------------------------------------------------------- the scraper

ATTEMPTS = 4
FIRST_DELAY = 0.005
HEADING = re.compile(r"<h1>(.+?)</h1>")
PRICE = re.compile(r'class="price">\$(\d+)\.(\d\d)<')
LINK = re.compile(r'<a href="(/books/\d+)"')


@dataclass(frozen=True)
class Book:
    title: str
    cents: int
    links: tuple[str, ...]


def parse(html: str) -> Book:
    heading, price = HEADING.search(html), PRICE.search(html)
    if heading is None or price is None:
        raise ValueError("the page shows no book")
    cents = int(price[1]) * 100 + int(price[2])
    return Book(heading[1], cents, tuple(LINK.findall(html)))


def worth_retrying(error: Exception) -> bool:
    """A page that is not there stays away; a busy server may have time later."""
    return not isinstance(error, aiohttp.ClientResponseError) or error.status >= 500


class Scraper:
    """Reads every page that can be reached from the first."""

    def __init__(
        self, session: aiohttp.ClientSession, on_page: Callable[[], None]
    ) -> None:
        self.books: dict[str, Book] = {}
        self.failed: dict[str, str] = {}
        self.retried = 0
        self._session = session
        self._on_page = on_page
        self._found: set[str] = set()
        self._unread: asyncio.Queue[str] = asyncio.Queue()

    async def run(self, first: str, concurrency: int) -> None:
        self._follow([first])
        everything_read = asyncio.create_task(self._unread.join())
        workers = [asyncio.create_task(self._work()) for _ in range(concurrency)]
        tasks = [everything_read, *workers]
        # A worker only ends by a bug: waiting for the queue alone would then
        # wait for ever.
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    def _follow(self, links: Iterable[str]) -> None:
        for path in links:
            if path not in self._found:
                self._found.add(path)
                self._unread.put_nowait(path)

    async def _work(self) -> None:
        while True:
            path = await self._unread.get()
            try:
                self.books[path] = book = parse(await self._fetch(path))
            except (aiohttp.ClientError, asyncio.TimeoutError, ValueError) as error:
                self.failed[path] = str(error) or type(error).__name__
            else:
                self._follow(book.links)
            self._on_page()
            self._unread.task_done()

    async def _fetch(self, path: str) -> str:
        for attempt in range(1, ATTEMPTS):
            try:
                return await self._read(path)
            except (aiohttp.ClientError, asyncio.TimeoutError) as error:
                if not worth_retrying(error):
                    raise
            self.retried += 1
            await asyncio.sleep(FIRST_DELAY * 2 ** (attempt - 1))
        return await self._read(path)

    async def _read(self, path: str) -> str:
        async with self._session.get(path) as response:
            response.raise_for_status()
            return await response.text()


@dataclass(frozen=True)
class Round:
    seconds: float
    books: dict[str, Book]
    failed: dict[str, str]
    retried: int

    @property
    def pages_a_second(self) -> float:
        return len(self.books) / self.seconds


async def scrape(url: str, concurrency: int, on_page: Callable[[], None]) -> Round:
    """One round: read the whole shop and say how long it took."""
    async with aiohttp.ClientSession(
        url,
        connector=aiohttp.TCPConnector(limit=concurrency),
        timeout=aiohttp.ClientTimeout(total=30),
    ) as session:
        scraper = Scraper(session, on_page)
        started = time.perf_counter()
        await scraper.run("/books/0", concurrency)
        seconds = time.perf_counter() - started
    return Round(seconds, scraper.books, scraper.failed, scraper.retried)


# ---------------------------------------------------------- the comparison


class ProgressBar:
    """A bar on stderr for a person who waits; silent in a log or a pipe."""

    WIDTH = 40

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._label = ""
        self._drawn = ""
        self._shown = sys.stderr.isatty()

    def start(self, label: str) -> None:
        self._label = label
        self._draw()

    def advance(self) -> None:
        self._done += 1
        # A hundred drawings in all, not one for each page: what is measured is the
        # loop, not the terminal.
        if self._shown and self._done % max(1, self._total // 100) == 0:
            self._draw()

    def clear(self) -> None:
        if self._shown:
            self._write("")

    def _draw(self) -> None:
        if self._shown:
            filled = self._done * self.WIDTH // self._total
            bar = "#" * filled + "-" * (self.WIDTH - filled)
            self._write(f"[{bar}] {self._done:,}/{self._total:,} pages, {self._label}")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def measure(loop: str, url: str, concurrency: int, bar: ProgressBar) -> Round:
    # No round pays for the garbage of the one before.
    gc.collect()
    result = run_on(loop, scrape(url, concurrency, bar.advance))
    if not result.books:
        why = next(iter(result.failed.values()))
        sys.exit(f"not one page could be read on {loop}: {why}")
    return result


def compare(options: argparse.Namespace) -> dict[str, list[Round]]:
    """Measure the loops in turn, each against a shop on a loop of its own kind."""
    results: dict[str, list[Round]] = {loop: [] for loop in options.loops}
    bar = ProgressBar(options.pages * options.rounds * len(options.loops))
    with contextlib.ExitStack() as shops:
        shops.callback(bar.clear)
        urls = {
            loop: shops.enter_context(running_shop(loop, options.pages))
            for loop in options.loops
        }
        for number in range(1, options.rounds + 1):
            # Being first or last must not always fall to the same loop.
            for loop in options.loops if number % 2 else options.loops[::-1]:
                bar.start(f"round {number} of {options.rounds} on {loop}")
                done = measure(loop, urls[loop], options.concurrency, bar)
                results[loop].append(done)
    return results


def print_table(options: argparse.Namespace, results: dict[str, list[Round]]) -> None:
    print(
        f"{options.pages:,} pages, {options.concurrency} at a time; "
        f"median of {options.rounds} rounds on each loop; "
        f"Python {platform.python_version()}, {os.cpu_count()} CPUs\n"
    )
    print(f"{'loop':<10}{'pages/s':>10}{'slowest':>10}{'fastest':>10}")
    medians: list[float] = []
    for loop, rounds in results.items():
        rates = [done.pages_a_second for done in rounds]
        medians.append(statistics.median(rates))
        columns = [medians[-1], min(rates), max(rates)]
        print(f"{loop:<10}" + "".join(f"{rate:>10,.0f}" for rate in columns), end="")
        beside = f"   {medians[-1] / medians[0]:.2f} times {next(iter(results))}"
        print(beside if len(medians) > 1 else "")


def print_findings(results: dict[str, list[Round]]) -> bool:
    """Say what was read; whether every round on every loop read everything."""
    rounds = [done for on_loop in results.values() for done in on_loop]
    books = rounds[0].books
    worth = sum(book.cents for book in books.values())
    links = sum(len(book.links) for book in books.values())
    print(f"\nfound in a round: {len(books):,} books, {links:,} links, ", end="")
    print(f"${worth // 100:,}.{worth % 100:02} for all books")
    print(f"tried again after a busy server: {sum(done.retried for done in rounds)}")
    failed = {path: why for done in rounds for path, why in done.failed.items()}
    for path, why in list(failed.items())[:5]:
        print(f"could not be read: {path}: {why}")
    if len(failed) > 5:
        print(f"could not be read: {len(failed) - 5:,} more")
    same = all(done.books == books for done in rounds)
    print(f"the same books in every round: {'yes' if same else 'NO'}")
    return same and not failed


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def loop_names(text: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in RUN:
            known = " and ".join(RUN)
            raise argparse.ArgumentTypeError(f"no loop {name!r}, only {known}")
    return names


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Scrape a web shop on asyncio and on asyncfast, and compare."
    )
    add = parser.add_argument
    add("--pages", type=positive, default=1000, help="pages in the shop (%(default)s)")
    add("--concurrency", type=positive, default=50, help="at a time (%(default)s)")
    add("--rounds", type=positive, default=21, help="on each loop (%(default)s)")
    add("--loops", type=loop_names, default=list(RUN), help="asyncio,asyncfast")
    add("--serve", choices=RUN, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    options = parse_options()
    if options.serve:
        run_on(options.serve, serve(options.pages))
        return 0
    # Ctrl-C ends the program at once, wherever it is: there is nothing to save, and
    # the shops end with the pipe to their stdin.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    results = compare(options)
    print_table(options, results)
    return 0 if print_findings(results) else 1


if __name__ == "__main__":
    sys.exit(main())
