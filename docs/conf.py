"""How the documentation is made out of Markdown and docstrings: `make docs`.

The source is the whole checkout, so that a link between pages is the same on the site
and in the page as it is read in the repository.
"""

import re

from sphinx.util import logging

import asyncfast

project = "asyncfast"
copyright = "asyncfast contributors"
version = release = asyncfast.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/**.md",
    "benchmarks/README.md",
    "src/README.md",
]
exclude_patterns = ["build", ".venv*"]
myst_heading_anchors = 3

# What is asyncio's is documented there, and no other site is asked at build time.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!asyncfast\b).*|asyncfast\._T")]

autodoc_member_order = "groupwise"
autodoc_typehints = "description"
autodoc_default_options = {"members": True}

html_theme = "furo"
html_title = f"asyncfast {version}"
html_additional_pages = {"index": "start.html"}
html_static_path = ["static"]
html_css_files = ["site.css"]
templates_path = ["templates"]


def add_navigation(app, docname, source):
    """The lists of links of the first page are the site's navigation too."""
    if docname != root_doc:
        return
    for heading, links in re.findall(r"^## (.*)\n\n((?:\*.*\n)+)", source[0], re.M):
        pages = re.findall(r"\[(.*?)\]\((.*?)\.md\)", links)
        entries = [f"{title} <{page}>" for title, page in pages]
        options = [":hidden:", f":caption: {heading}", ""]
        source[0] += "\n".join(["\n```{toctree}", *options, *entries, "```\n"])


def escape_arguments(app, what, name, obj, options, lines):
    """The docstrings of C write `callback(*args)`, which would open an emphasis."""
    lines[:] = [line.replace("(*", "(\\*") for line in lines]


def check_reference(app, environment):
    """A name that the package exports must be on the page of the API."""
    known = environment.domaindata["py"]["objects"]
    for name in asyncfast.__all__:
        if not name.startswith("_") and f"asyncfast.{name}" not in known:
            logging.getLogger(__name__).warning(f"docs/api.md lacks asyncfast.{name}")


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", add_navigation)
    app.connect("autodoc-process-docstring", escape_arguments)
    app.connect("env-check-consistency", check_reference)
