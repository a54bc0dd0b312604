# What these commands install stays in this checkout (.venv, build/), but for
# system packages, which are named before they are installed.
#
#   ARGS=...      is passed on to the program:  make test ARGS="-k timers -x"
#   PYTHON=...    makes .venv with this interpreter:  make test PYTHON=python3.12
#
# setup.py lists the variables that choose the kind of build.

.PHONY: help run test ecosystem conformance soak load faults fuzz lint bench docs package format clean

help:
	@echo "make run          set up, build, run examples/web_scraper.py"
	@echo "make test         set up, build, run the tests"
	@echo "make ecosystem    other people's libraries on asyncfast, of which make test"
	@echo "                  runs only a few: tests/ecosystem"
	@echo "make conformance  CPython's asyncio tests on asyncfast, asyncio, uvloop"
	@echo "make soak         twenty kinds of load for twenty minutes; nothing may stay"
	@echo "make load         ARGS=connections, gigabyte, timers or tasks: ten thousand, one,"
	@echo "                  a million of them; none may be lost, nothing may stay"
	@echo "make faults       system calls and allocations that fail, each in turn"
	@echo "make fuzz         inputs that coverage leads to, for a minute; needs clang"
	@echo "make lint         formatters, linters and static analysis; changes nothing"
	@echo "make bench        set up, build, run benchmarks/run.py"
	@echo "make docs         the documentation as a site, in build/docs"
	@echo "make package      the sdist and a wheel with libuv inside, tried (Linux)"
	@echo "make format       format the C and Python sources"
	@echo "make clean        remove everything that was built or installed here"

run:
	@tools/setup.sh examples
	.venv/bin/python examples/web_scraper.py $(ARGS)

test:
	@tools/setup.sh test
	.venv/bin/python -m pytest $(ARGS)

ecosystem:
	@tools/setup.sh ecosystem
	.venv/bin/python -m pytest tests/ecosystem $(ARGS)

conformance:
	@tools/setup.sh test bench
	.venv/bin/python tests/conformance.py $(ARGS)

soak:
	@tools/setup.sh test
	.venv/bin/python tests/soak.py $(ARGS)

load:
	@tools/setup.sh test
	.venv/bin/python tests/load.py $(ARGS)

faults:
	@tools/setup.sh test
	.venv/bin/python tests/faults/run.py $(ARGS)

fuzz:
	@tools/setup.sh test
	@tools/packages.sh fuzz
	.venv/bin/python tests/fuzz/run.py $(ARGS)

lint:
	@tools/setup.sh lint
	@tools/lint.sh $(ARGS)

bench:
	@tools/setup.sh bench
	.venv/bin/python benchmarks/run.py $(ARGS)

docs:
	@tools/setup.sh docs
	.venv/bin/python -m sphinx --quiet --fail-on-warning --keep-going \
		--fresh-env --write-all --builder html --conf-dir docs . build/docs $(ARGS)

package:
	@tools/package.sh $(ARGS)

format:
	@tools/setup.sh lint
	.venv/bin/clang-format -i src/*/*.c src/*/*.h tests/faults/*.c
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

clean:
	rm -rf .venv build benchmarks/build dist *.egg-info asyncfast/*.so
	rm -rf .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
