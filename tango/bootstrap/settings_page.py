"""Every setting and every other variable of the environment as the page `docs/settings.md`:
`python -m tango.bootstrap.settings_page > docs/settings.md`."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from tango.bootstrap.environment import ADDRESSES, NO_SETTINGS, groups_of, variable
from tango.settings import Settings

_HEAD = """# Settings

Printed from `tango/settings/` by `python -m tango.bootstrap.settings_page`; a test holds it to the
code. A setting is changed by its variable, for a stack by `TANGO_BE_TICK_S=0.5 tango up`; every
process reads the environment once, as it starts. A variable that begins with `TANGO_` and is not on
this page is refused, and so is a value that its setting cannot have.

"""
_ADDRESSES = """## Addresses and keys

Without them, those of the stack that runs in the state folder.

"""
_OTHERS = """## Other variables

What is no setting: where things lie, how a process is told something by whoever starts it, and the
secrets of commands.

| variable | what it is |
|---|---|
"""


def texts_of(settings: type[Any]) -> Mapping[str, str]:
    """By field of a class of settings, inherited ones too, the text below it in the source, in one line."""
    found = {}
    for part in reversed(settings.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(part))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
                found[field.target.id] = " ".join(str(ast.literal_eval(below.value)).split())
    return found


def settings_page() -> str:
    """The whole page."""
    defaults = Settings()
    of_all = texts_of(Settings)
    parts = [_HEAD, _ADDRESSES, _TABLE]
    parts += [_row(name, getattr(defaults, field), of_all[field]) for field, name in ADDRESSES.items()]
    for group, values in groups_of(defaults).items():
        title = " ".join((inspect.getdoc(type(values)) or "").partition("\n\n")[0].split())
        parts += [f"\n## {group}\n\n", "\n".join(textwrap.wrap(title, 100)), "\n\n", _TABLE, *_rows(group, values)]
    parts += ["\n", _OTHERS, *(f"| `{name}` | {_cell(words)} |\n" for name, words in NO_SETTINGS.items())]
    return "".join(parts)


_TABLE = "| variable | default | meaning |\n|---|---|---|\n"


def _rows(group: str, values: Any) -> Iterator[str]:
    texts = texts_of(type(values))
    for field in dataclasses.fields(values):
        yield _row(variable(group, field.name), getattr(values, field.name), texts[field.name])


def _row(name: str, default: object, text: str) -> str:
    match default:
        case "" | ():
            shown = "empty"
        case bool():
            shown = "`on`" if default else "`off`"
        case tuple():
            shown = f"`{','.join(map(str, default))}`"
        case _:
            shown = f"`{default}`"
    return f"| `{name}` | {shown} | {_cell(text)} |\n"


def _cell(words: str) -> str:
    return words.replace("|", "\\|")


if __name__ == "__main__":
    print(settings_page(), end="")
