"""The documentation as a site: `make docs`. Pages are Markdown as they lie here; commands and Python API are read from the code."""

from __future__ import annotations

import re
from typing import Any

from tango import __version__

project = "Tango"
release = version = __version__
copyright = "the authors of Tango, Apache License 2.0"

extensions = ["myst_parser", "sphinx_click", "sphinx.ext.autodoc"]
exclude_patterns = ["README.md"]
myst_heading_anchors = 4
# Docstrings have code in single backquotes, as Markdown does.
default_role = "code"
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": False}

html_theme = "furo"
html_title = "Tango"
html_copy_source = False
html_show_sphinx = False

_INDENTED = re.compile(r"^ {4,}\S")


def _literal_blocks(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Indented blocks of docstrings are code, as in Markdown; reStructuredText would take them for quotations."""
    marked: list[str] = []
    is_code = False
    for line in lines:
        begins = _INDENTED.match(line) is not None and not is_code and (not marked or not marked[-1].strip())
        if begins:
            marked += ["::", ""]
        if line.strip():
            is_code = begins or (is_code and _INDENTED.match(line) is not None)
        marked.append(line)
    lines[:] = marked


def _as_it_stands(app: Any, context: Any, lines: list[str]) -> None:
    """Help texts are plain: a star is no emphasis."""
    lines[:] = [line.replace("*", r"\*") for line in lines]


def setup(app: Any) -> None:
    """Called by Sphinx."""
    for part in ("description", "options", "arguments", "epilog"):
        app.connect(f"sphinx-click-process-{part}", _as_it_stands)
    app.connect("autodoc-process-docstring", _literal_blocks)
