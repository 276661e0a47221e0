"""The report page: complete, self-contained, safe with any name, and drawn where the numbers say."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from tango.analysis.metrics import run_metrics
from tango.domain.outcomes import HostSamples
from tango.report import render_report
from tango.report.series import population, share_grid, time_bins
from tango.report.svg import Chart, element, nice_ticks, shorten, time_label, time_ticks
from tests.fakes.run_records import (
    NO_DECISIONS,
    NO_LOSSES,
    NO_SAMPLES,
    NO_SCALING,
    RunRecords,
    f8,
    outcomes_of,
    phases_of,
    seeded_run,
)

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        """All words, white space made even."""
        return " ".join(" ".join(self.words).split())


def page_of(records: RunRecords) -> str:
    """The report of a run."""
    return render_report(*records, run_metrics(*records), phases=phases_of(records[0]))


@pytest.fixture(scope="module")
def demo_page() -> str:
    """The report of a run of 3,000 requests."""
    return page_of(seeded_run())


def test_page_shows_everything_a_run_is_asked_for(demo_page: str):
    """Requests over time, latency with targets, utilisation, decisions, resizes, services, parameters and commands."""
    page = Page(demo_page)

    for words in (
        "LC requests over time",
        "BE requests over time",
        "LC latency by service",
        "300 ms",
        "CPU in use by cluster",
        "CPU in use by node",
        "Memory in use by node",
        "Decisions",
        "Time to decide",
        "Resizes and evictions",
        "QoS rate",
        "edge-2-node-3",
        "3f5a" * 16,
        "tango run submit TRACE --system tango --fleet demo --speed 1 --seed 9 --follow",
        "attempts-exhausted",
    ):
        assert words in page.text, words
    assert page.unbalanced == []


def test_the_page_of_a_live_run_speaks_of_callers_and_not_of_a_trace():
    """Its figures are of all of it, and it cannot be submitted again, but simulated."""
    outcomes, *others = seeded_run()
    page = Page(page_of((dataclasses.replace(outcomes, is_live=True), *others)))

    assert "Figures are of the whole run, from its opening to its closing" in page.text
    assert f"tango simulate --run {outcomes.run_id} --system k8s-native" in page.text
    assert "tango run submit" not in page.text
    assert "10 % of the trace" not in page.text
    assert page.unbalanced == []


def test_the_page_begins_with_an_answer_and_says_where_to_look(demo_page: str):
    """Which services are below, then the worst service, node and time, and what late requests waited for, each with its query."""
    text = Page(demo_page).text

    assert "90.6 % of LC requests were in time. Below 95.0 %: web (86.2 %), search (91.9 %)." in text
    for what, query in (
        ("service web 86.2 % in time", "qos"),
        ("node edge-2/edge-2-node-4 83.0 % in time", "misses"),
        ("10 seconds from 30 s 73.6 % in time", "qos-per-minute"),
        ("time of late requests network and queue 62.2 % of it", "phases"),
    ):
        assert f"{what} tango sql @{query} --run 12" in text


def test_what_is_out_of_target_is_marked(demo_page: str):
    """Two services of four: their rates and their tails; what is in target is not."""
    marked = re.findall(r'<td class="num bad">([^<]*)</td>', demo_page[demo_page.index('id="services"') :])

    assert marked == ["86.2 %", "654 ms", "91.9 %", "691 ms"]


def test_the_contents_lead_to_every_section(demo_page: str):
    """Each link has its heading, and each heading its link."""
    page = Page(demo_page)

    links = [str(attrs["href"]).removeprefix("#") for tag, attrs in page.tags if tag == "a"]
    headings = [attrs.get("id") for tag, attrs in page.tags if tag == "h2"]

    assert links == headings


def test_a_good_run_is_said_to_be_good():
    """No red then; the worst are named all the same."""
    outcomes, *others = seeded_run()
    fast = dataclasses.replace(outcomes, finished_s=np.minimum(outcomes.finished_s, outcomes.due_s + 0.5 * outcomes.target_s))
    html = page_of(RunRecords(fast, *others))

    assert "and each service is at 95.0 % or above" in Page(html).text
    assert '<p class="verdict good">' in html
    assert 'class="num bad"' not in html


def test_the_time_of_requests_is_drawn_by_part_and_service(demo_page: str):
    """Those in time apart from those that were late, whose bars are longer; BE waits for room and for its pod."""
    text = Page(demo_page).text

    for words in ("Where the time went", "web, late", "message and decision", "waiting for room", "pod's start"):
        assert words in text


def test_names_of_nodes_and_services_are_drawn_whole(demo_page: str):
    """Up to twenty-two characters, which were cut to "edge…ode-4" before; longer ones are cut in the middle."""
    assert ">edge-2/edge-2-node-4<" in demo_page


def test_a_saturated_host_is_said_above_all(demo_page: str):
    """With how full it was and how late Tango was by it; where it was not so full, no word of it."""
    records = seeded_run()
    outcomes = records.outcomes
    at_s = np.arange(0.0, 60.0)
    hosts = HostSamples(
        at_s=at_s,
        host=np.zeros(60, np.int32),
        hosts=("edge-1",),
        used=np.where(at_s % 4 == 0, 1.0, 0.5),
        stolen=np.zeros(60),
    )
    phases = phases_of(outcomes)
    metrics = run_metrics(*records, phases=phases, hosts=hosts)

    full, spare = (render_report(*records, metrics, phases=phases, saturated_share=share) for share in (0.1, 0.3))

    assert "Not the system's figures: the host edge-1 had no CPU left for 24.1 % of the time; LC was released" in Page(full).text
    assert "Not the system's" not in Page(spare).text
    assert "Tango's delay" in Page(spare).text


def test_page_needs_no_network_and_no_script(demo_page: str):
    """Nothing is loaded from anywhere, a policy in the page forbids it, and the page stays small."""
    page = Page(demo_page)

    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "img", "iframe", "object")]
    assert not [a for _, attrs in page.tags for a in attrs if a in ("src", "xlink:href") or a.startswith("on")]
    assert all((attrs.get("href") or "#").startswith("#") for _, attrs in page.tags)
    assert "@import" not in demo_page
    assert "url(" not in demo_page
    assert "default-src 'none'" in demo_page
    assert len(demo_page) < 300_000


def test_names_of_a_run_cannot_inject_markup():
    """Names of runs, services, clusters, nodes, traces and reasons are text, also inside drawings and attributes."""
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    records = seeded_run(requests=400, cluster_names=(evil + "1", evil + "2", evil + "3"))
    outcomes = dataclasses.replace(
        records.outcomes,
        name=evil,
        system=evil,
        fleet=evil,
        trace_source=evil,
        checkpoint=evil,
        settings={evil: evil},
        services=tuple(evil + str(k) for k in range(6)),
        nodes=tuple(evil + str(k) for k in range(12)),
        reasons=("", evil),
    )
    decisions = dataclasses.replace(records.decisions, policies=(evil, evil))
    losses = dataclasses.replace(records.losses, reasons=(evil,))

    html = page_of(records._replace(outcomes=outcomes, decisions=decisions, losses=losses))

    page = Page(html)
    assert not [tag for tag, _ in page.tags if tag in ("script", "img")]
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert evil in page.text
    assert page.unbalanced == []


def test_drawings_are_well_formed_and_hold_only_numbers(demo_page: str):
    """Every chart parses as XML; no coordinate is NaN or infinite."""
    drawings = re.findall(r"<svg.*?</svg>", demo_page, flags=re.DOTALL)

    assert len(drawings) > 12
    for drawing in drawings:
        ElementTree.fromstring(drawing)
        assert not re.search(r"\b(nan|inf)\b", drawing)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"state": "accepted", "due": 0.0}],
        [{"cls": 1, "due": 1.0, "start": 1.0, "end": 1.0}],
        [{"due": 1.0, "state": "failed"}],
        [{"due": 0.0, "start": 0.0, "end": 0.0}],
    ],
)
def test_page_of_a_run_with_hardly_anything_is_still_a_page(rows: list[dict[str, object]]):
    """A run that has just been submitted, or of one request, has a report without the charts it has nothing for."""
    outcomes = outcomes_of(rows, span_s=0.0, wall_s=0.0)

    html = page_of(RunRecords(outcomes, NO_LOSSES, NO_SAMPLES, NO_DECISIONS, NO_SCALING))

    assert "Parameters" in Page(html).text
    assert "CPU in use" not in html


def test_resizes_that_moved_the_request_alone_are_told_from_those_of_the_limit():
    """Under `burst` a limit stays as it is: such an event is neither growth nor shrinking, and stands in the legend where there is one."""
    records = seeded_run(9)
    same = dataclasses.replace(records.scaling, after_millicores=records.scaling.before_millicores.copy())

    page, plain = page_of(records._replace(scaling=same)), page_of(records)

    assert "CPU requests moved" in page
    assert "0 grown, 0 shrunk" in page
    assert "CPU request moved" not in plain


def test_large_fleet_is_drawn_by_cluster_and_stays_small():
    """60 clusters of 5 nodes: grids have a row per cluster, not per node, and no line chart with 60 colours."""
    html = page_of(seeded_run(requests=2000, clusters=60, nodes_per_cluster=5))

    text = Page(html).text
    assert "CPU in use by cluster" in text
    assert "CPU in use by node" not in text
    assert "edge-1-node-1" not in text
    assert len(html) < 600_000


def test_chart_places_values_on_its_scales():
    """The origin lies at the left end of the axis, the largest value at the top right."""
    chart = Chart((0.0, 10.0), (0.0, 4.0), height=200.0, left=50.0, right=10.0)

    chart.line(f8([0.0, 10.0]), f8([0.0, 4.0]), css="lc")

    assert 'd="M50.0 170.0L510.0 22.0"' in chart.render("x")


def test_line_breaks_where_nothing_was_measured():
    """A gap is a gap, and a value alone is a dot."""
    chart = Chart((0.0, 3.0), (0.0, 1.0))

    chart.line(f8([0.0, 1.0, 2.0, 3.0]), f8([0.5, np.nan, 0.5, 0.6]), css="lc")

    path = re.search(r' d="([^"]+)"', chart.render("x"))
    assert path is not None
    assert path[1].count("M") == 2
    assert path[1].count("h.01") == 1


def test_text_and_attributes_of_an_element_are_escaped():
    """Only Markup passes as it is."""
    assert element("text", "<b>", class_='a"b') == '<text class="a&#34;b">&lt;b&gt;</text>'


def test_ticks_are_round_and_inside_the_range():
    """0 … 37 in steps of 10; a minute in steps of 10 s; times read as people say them."""
    assert nice_ticks(0.0, 37.0, about=4) == [0.0, 10.0, 20.0, 30.0]
    assert time_ticks(60.0) == [0, 10, 20, 30, 40, 50, 60]
    assert [time_label(t) for t in (0.0, 45.0, 600.0, 630.0, 7200.0)] == ["0", "45 s", "10 min", "10:30 min", "2 h"]


def test_long_names_are_cut_in_the_middle():
    """Both ends stay, since nodes of one cluster differ at their end."""
    assert shorten("short", 8) == "short"
    assert shorten("cluster-in-town-node-12", 11) == "clust…de-12"


def test_bins_cover_the_run_and_count_each_arrival_once():
    """90 s fit 90 bins of a second; the last instant falls into the last bin; NaN is nowhere."""
    bins = time_bins(90.0)

    counts = bins.counts(f8([0.0, 0.5, 89.9, 90.0, np.nan]))

    assert (bins.step_s, bins.count) == (1.0, 90)
    assert counts[0] == 2
    assert counts[-1] == 2
    assert counts.sum() == 4


def test_population_counts_what_has_begun_and_not_ended():
    """Three intervals, one without an end, one that never began."""
    count = population(f8([0.0, 2.0, np.nan]), f8([3.0, np.nan, 5.0]), f8([1.0, 2.5, 4.0]))

    assert list(count) == [1.0, 2.0, 1.0]


def test_share_grid_weighs_by_capacity_and_leaves_gaps():
    """Two samples of one row and bin: (1 + 3) of (4 + 4); a row without samples stays empty."""
    bins = time_bins(2.0, at_most=2)

    grid = share_grid(bins, f8([0.1, 0.2]), np.array([0, 0], dtype=np.int32), 2, f8([1.0, 3.0]), f8([4.0, 4.0]))

    assert grid[0, 0] == 0.5
    assert np.isnan(grid[1]).all()
