"""What the pages say of this tree is so; `make docs` follows the links between them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "benchmarks" / "README.md",
    ROOT / "src" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
FOLDERS = "asyncfast|benchmarks|docs|examples|src|tests|tools"


def page_id(page):
    return page.relative_to(ROOT).as_posix()


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_the_files_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    names = re.findall(rf"(?<![\w/.])(?:{FOLDERS})/[\w/]+\.[a-z]+", text)
    bases = (ROOT, page.parent)
    assert [n for n in names if not any((base / n).exists() for base in bases)] == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_the_targets_of_make_that_a_page_names_exist(page):
    targets = re.findall(r"^(\w+):", read("Makefile"), re.MULTILINE)
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?:`|^    |&& )make ([a-z]+)", text, re.MULTILINE)
    assert set(named) <= set(targets)


def settings(text):
    return set(re.findall(r"ASYNCFAST_[A-Z_]+", text))


def test_every_setting_is_explained():
    programs = [ROOT / "setup.py", *(ROOT / "asyncfast").rglob("*.py")]
    used = settings("".join(path.read_text(encoding="utf-8") for path in programs))
    assert used - settings(read("docs/building.md")) == set()


def test_the_packages_to_install_are_those_that_the_build_asks_for():
    advice = re.search(r'HOW_TO_INSTALL = f"""(.*?)"""', read("setup.py"), re.DOTALL)
    commands = re.findall(r"^    \w.*?   +(\S.*)$", advice[1], re.MULTILINE)
    assert len(commands) == 4
    page = read("docs/building.md")
    assert [command for command in commands if command not in page] == []


def test_one_list_of_pythons():
    classifiers = re.findall(r"Python :: 3\.(\d+)", read("pyproject.toml"))
    built = re.findall(r'"cp3(\d+)-\*"', read("pyproject.toml"))
    (tested,) = re.findall(r'^MINORS="(.*)"', read(".ci/run"), re.MULTILINE)
    assert classifiers == built == tested.split()
    told = f"3.{classifiers[0]} to 3.{classifiers[-1]}"
    assert told in read("README.md")
    assert told in read("CHANGELOG.md")
