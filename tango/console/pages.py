"""The pages, and the frame that each is shown in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@dataclass(frozen=True, slots=True)
class Page:
    """A page: the module of `static/pages/` that makes it, and where it stands in the menu."""

    path: str
    module: str
    title: str
    in_menu: bool = True


PAGES = (
    Page("/", "fleet", "Fleet"),
    Page("/services", "services", "Services"),
    Page("/queues", "queues", "Queues"),
    Page("/decisions", "decisions", "Decisions"),
    Page("/runs", "runs", "Runs"),
    Page("/jobs", "jobs", "Jobs"),
    Page("/processes", "processes", "Processes"),
    Page("/clusters/{cluster}", "cluster", "Cluster", in_menu=False),
    Page("/runs/{run}", "run", "Run", in_menu=False),
    Page("/compare/{runs}", "compare", "Runs side by side", in_menu=False),
    Page("/jobs/{key}", "job", "Job", in_menu=False),
    Page("/requests/{key}", "request", "Request", in_menu=False),
)
"""In the order of the menu."""

# StrictUndefined: a name that a template misspells fails a test instead of leaving a gap.
_TEMPLATES = Environment(loader=PackageLoader("tango.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True)


def page_html(page: Page, parameters: Mapping[str, str], *, visitor: str) -> str:
    """The frame of a page; `parameters` are those of its path."""
    menu = [one for one in PAGES if one.in_menu]
    return _render("page.html.j2", page=page, parameters=dict(parameters), menu=menu, visitor=visitor)


def login_html(*, wrong: bool = False) -> str:
    """Asks for the token."""
    return _render("login.html.j2", wrong=wrong)


def _render(template: str, **values: Any) -> str:
    return _TEMPLATES.get_template(template).render(**values)
