"""`tango top`: what stands on the screen, whatever its size and the fleet's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from tango.cli.main import cli
from tango.cli.top import PictureReader, picture_document, print_picture
from tango.cli.top_screen import PARTS, VIEWS, Screen, bar, node_rows, render, shared_lines, spark
from tango.domain.live_view import LiveLately, LiveNow, LiveTenant
from tango.errors import StoreUnavailable, UsageError
from tests.fakes.live_pictures import AT_S, lately_of, nodes_of, picture
from tests.long import example_count

PROCESSES = [
    {"name": "beat", "role": "periodic ticks", "pid": 12, "state": "running", "restarts": 0},
    {"name": "replayer", "role": "replay worker", "pid": None, "state": "backing off", "restarts": 3},
]


def lines_of(screen: Screen, *, view: str = "overview", offset: int = 0, width: int = 80, height: int = 24) -> list[str]:
    """The lines as a terminal of this size shows them."""
    console = Console(width=width, height=height, force_terminal=True, color_system=None, legacy_windows=False)
    shown, _ = render(screen, view=view, offset=offset, width=width, height=height)
    with console.capture() as written:
        console.print(shown, end="")
    return written.get().removesuffix("\n").split("\n")


def whole(now: LiveNow | None = None) -> Screen:
    """A screen on which all is well."""
    return Screen(now=now or picture(), lately=lately_of(), processes=PROCESSES[:1])


def test_a_plain_terminal_shows_what_matters_at_once() -> None:
    """Nodes, QoS with its target, the queue's age, how far the run is and who decides, in 80 columns of 24 lines."""
    text = "\n".join(lines_of(whole()))

    assert "1 clusters, 2 of 2 nodes ready" in text
    assert "QoS 75% in 5 min" in text
    assert "waiting 12, oldest 1:15" in text
    for word in ("c1", "2/2", "web", "100 ms", "trace 1", "50%", "BE batch", "dcg-be", "q quit"):
        assert word in text


def test_shares_are_shown_while_tenants_compete() -> None:
    """With who waits below its share and for how long, and who gets nothing for its sake; no section where there are none."""
    tenants = (
        LiveTenant(tenant="blue", weight=3.0, share=0.25, weighted_share=0.083, below_s=75.0, withheld=False),
        LiveTenant(tenant="red", weight=1.0, share=0.5, weighted_share=0.5, below_s=None, withheld=True),
    )

    lines = lines_of(whole(picture(tenants=tenants)), width=100, height=40)

    (blue,), (red,) = ([line for line in lines if line.startswith(name)] for name in ("blue", "red"))
    assert blue.split() == ["blue", "3", "25%", "8%", "1:15"]
    assert red.split() == ["red", "1", "50%", "50%", "–", "gets", "nothing", "now"]
    assert "below its share" not in "\n".join(lines_of(whole()))


def test_bars_tell_lc_be_others_and_free_apart_without_colour() -> None:
    """Each part has its sign, as long as its share."""
    lc, be, others, free = PARTS

    assert bar(100, 50, 25, cells=8) == lc * 4 + be * 2 + free * 2
    assert bar(100, 50, 25, 25, cells=8) == lc * 4 + be * 2 + others * 2
    assert bar(0, 0, 0) == ""


@given(st.integers(1, 10_000), st.lists(st.integers(0, 20_000), max_size=3), st.integers(1, 40))
@settings(max_examples=example_count(50))
def test_a_bar_is_as_long_as_it_is_to_be(total: int, parts: list[int], cells: int) -> None:
    """Also where pods hold more than the node has."""
    assert len(bar(total, *parts, cells=cells)) == cells


def test_a_line_of_shares_has_a_gap_where_nothing_ended() -> None:
    """Nobody takes silence for a miss."""
    assert spark([1.0, None, 0.8, 0.0], low=0.8) == "█ ▁▁"


@given(st.lists(st.integers(3, 500), max_size=5), st.integers(0, 100))
@settings(max_examples=example_count(50))
def test_sections_share_the_lines_that_there_are(wanted: list[int], lines: int) -> None:
    """None gets more than it wants, and together they fit."""
    given_lines = shared_lines(wanted, lines)

    assert sum(given_lines) <= lines
    assert all(n <= most for n, most in zip(given_lines, wanted, strict=True))
    assert sum(wanted) > lines or given_lines == wanted


@pytest.mark.parametrize("view", VIEWS.values())
@pytest.mark.parametrize(("width", "height"), [(40, 8), (80, 24), (250, 60)])
@pytest.mark.parametrize("nodes", [2, 1000])
def test_every_view_fits_every_terminal(view: str, width: int, height: int, nodes: int) -> None:
    """At a thousand nodes too; what does not fit is told as a number."""
    lines = lines_of(whole(picture(nodes=nodes, runs=20)), view=view, width=width, height=height)

    assert len(lines) <= height
    assert max(cell_len(line) for line in lines) <= width


def test_a_long_listing_scrolls_to_its_end() -> None:
    """And no further."""
    screen = whole(picture(nodes=100))

    first = lines_of(screen, view="nodes")
    shown, offset = render(screen, view="nodes", offset=10_000, width=80, height=24)

    assert any("more" in line for line in first)
    assert 0 < offset < 100
    assert not any("more" in line for line in lines_of(screen, view="nodes", offset=offset))
    assert shown is not None


def test_nodes_that_need_a_look_come_first() -> None:
    """What is not ready, what is closed, then the fullest."""
    rows = node_rows(
        nodes_of("c1", 4, ready=[True, True, False, True], schedulable=[True, False, True, True], cpu_lc_millicores=[0, 0, 0, 3000])
    )

    assert [(row["node"], row["state"]) for row in rows] == [
        ("n3", "not ready"),
        ("n2", "closed"),
        ("n4", "ready"),
        ("n1", "ready"),
    ]


def test_what_is_wrong_stands_above_everything() -> None:
    """A process that does not run, and a database that does not answer, beside the last figures."""
    screen = Screen(now=picture(), lately=lately_of(), processes=PROCESSES, trouble="PostgreSQL does not answer")

    lines = lines_of(screen)

    assert "No new figures: PostgreSQL does not answer" in lines[2]
    assert "1 of 2 processes do not run: replayer (backing off)" in lines[3]


def test_names_with_control_characters_do_nothing_to_the_terminal() -> None:
    """They come from callers and traces."""
    text = "\n".join(lines_of(whole(picture(fleet="a\x1b[2Jb")), view="overview"))

    assert "\x1b" not in text


class Broken:
    """A view whose database went away after the first look."""

    def __init__(self) -> None:
        self.looks = 0

    def now(self) -> LiveNow:
        """Once."""
        self.looks += 1
        if self.looks > 1:
            raise StoreUnavailable("PostgreSQL does not answer")
        return picture()

    def lately(self) -> LiveLately:
        """As ever."""
        return lately_of()


def test_the_last_picture_stays_while_the_database_is_away(tmp_path: Path) -> None:
    """With the reason."""
    look = PictureReader(Broken(), tmp_path)

    first, second = look.again(), look.again()

    assert first.trouble == ""
    assert second.trouble == "PostgreSQL does not answer"
    assert second.now == first.now


def test_a_script_gets_rows_of_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """Nodes too, with null for what nobody measures."""
    print_picture(whole(), "json")

    document = json.loads(capsys.readouterr().out)
    assert document == json.loads(json.dumps(picture_document(whole())))
    assert document["at_s"] == AT_S
    assert [(n["cluster"], n["name"], n["cpu_used_millicores"]) for n in document["nodes"]] == [
        ("c1", "n1", None),
        ("c1", "n2", None),
    ]
    assert document["services"][0]["rate"] == document["lc_rate"] == 0.75
    assert document["decided"][0]["policy"] == "dcg-be"
    assert document["processes"] == PROCESSES[:1]


def test_pictures_without_a_terminal_are_one_each() -> None:
    """JSON again and again would be no JSON."""
    done = CliRunner().invoke(cli, ["top", "-o", "json"])

    assert isinstance(done.exception, UsageError)
    assert "--once" in str(done.exception)
