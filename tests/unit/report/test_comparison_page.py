"""The comparison page: complete for one cell and for hundreds, self-contained, safe with any name, and drawn where the numbers say."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tango.analysis.comparison import CellLabel, CellResult, Comparison, cell_result, compare
from tango.analysis.metrics import run_metrics
from tango.domain.outcomes import AttemptLosses, NodeSamples, RunOutcomes, ScalingEvents
from tango.report.comparison_charts import Total, across, cluster_figure, colours_of, difference_figure, tail_panels, totals_chart
from tango.report.comparison_page import comparison_page
from tango.report.svg import Chart, number_label
from tests.fakes.run_records import NAN, f8, seeded_run

SYSTEMS = ("k8s-native", "load-greedy", "scoring", "ceres", "dsaco", "gnn-sac", "tango")
COMMAND = "tango compare p3 --fleet demo --systems k8s-native,tango --seeds 3 --load 0.9"
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.unbalanced: list[str] = []
        self._open: list[str] = []
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
        if "style" not in self._open:
            self.words.append(data)

    @property
    def text(self) -> str:
        """All words that are shown, white space made even."""
        return " ".join(" ".join(self.words).split())


@dataclasses.dataclass(frozen=True)
class Simulated:
    """A finished run, as a simulation gives it."""

    outcomes: RunOutcomes
    losses: AttemptLosses
    samples: NodeSamples
    scaling: ScalingEvents
    digest: str = "d" * 64
    events: int = 1234
    took_s: float = 0.5
    notes: tuple[str, ...] = ()
    tenants: None = None


def drawn_cell(seed: int, *, clusters: int = 3) -> CellResult:
    """The cell of a seeded run of 600 requests."""
    records = seeded_run(seed, requests=600, clusters=clusters)
    run = Simulated(records.outcomes, records.losses, records.samples, records.scaling)
    label = CellLabel(scenario="p3@0.9", system="tango", lc="dss-lc", be="dcg-be", sharing="hrm", seed=seed)
    return cell_result(run, run_metrics(*records), label, bound={"lc_qos_rate": 1.0, "be_cpu_seconds_per_s": 40.0})


def some_cells(
    systems: tuple[str, ...], seeds: range, scenarios: tuple[str, ...] = ("p3@0.9",), **changes: Any
) -> list[CellResult]:
    """A cell of each; systems of a seed share their requests and differ a little in what they reach."""
    drawn = {seed: drawn_cell(seed) for seed in seeds}
    return [
        dataclasses.replace(
            drawn[seed],
            scenario=scenario,
            system=system,
            figures={**drawn[seed].figures, "lc_qos_rate": 0.9 + 0.01 * place + 0.001 * seed},
            **changes,
        )
        for scenario in scenarios
        for place, system in enumerate(systems)
        for seed in seeds
    ]


def page_of(comparison: Comparison, **words: Any) -> str:
    """The page of a comparison."""
    given = {"title": "p3 on demo", "command": COMMAND, "fleet_hash": "3f5a" * 16, "notes": comparison.notes, **words}
    return comparison_page(comparison, **given)


@pytest.fixture(scope="module")
def large_page() -> str:
    """Seven systems, two scenarios, three seeds."""
    return page_of(compare(some_cells(SYSTEMS, range(1, 4), ("p3@0.9", "p3@1.2 beta=1")), "k8s-native"))


def test_page_shows_everything_a_comparison_is_asked_for(large_page: str):
    """What was run and how to run it again, every system and scenario, all charts, the table, what the intervals mean."""
    page = Page(large_page)

    for words in (
        *SYSTEMS,
        "p3@0.9",
        "600 requests in each cell",
        "p3@1.2 beta=1",
        "3 seeds (1 to 3)",
        "42 cells",
        "25,200 simulated requests",
        "3f5a" * 16,
        COMMAND,
        "NumPy",
        "QoS rate over time",
        "LC latency by service",
        "target 300 ms",
        "CPU utilisation by cluster",
        "BE throughput over time",
        "BE requests waiting",
        "Work thrown away",
        "Evictions",
        "Fairness",
        "Time to decide p99",
        "QoS rate to bound",
        "Student's t",
        "dcg-be",
    ):
        assert words in page.text, words
    assert page.unbalanced == []


def test_page_needs_no_network_and_no_script(large_page: str):
    """Nothing is loaded from anywhere, a policy in the page forbids it; links stay within the page and lead somewhere."""
    page = Page(large_page)

    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "img", "iframe", "object")]
    assert not [a for _, attrs in page.tags for a in attrs if a in ("src", "xlink:href") or a.startswith("on")]
    assert not re.search(r"https?://|@import|url\(", large_page)
    assert "default-src 'none'" in large_page
    ids = [str(attrs["id"]) for _, attrs in page.tags if "id" in attrs]
    links = [str(attrs["href"]) for _, attrs in page.tags if "href" in attrs]
    assert len(ids) == len(set(ids))
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)


def test_names_of_cells_cannot_inject_markup():
    """Names of systems, policies, scenarios, fleets, services and clusters, the title, the command and remarks are text."""
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    cells = some_cells(
        (evil, "tango"), range(1, 3), (evil,), lc=evil, be=evil, sharing=evil, fleet=evil, fleet_hash=evil, notes=[evil]
    )
    hostile = []
    for cell in cells:
        services = [{**row, "service": evil} for row in cell.services[:1]]
        latency = [{**row, "service": evil + str(k)} for k, row in enumerate(cell.distributions["latency"])]
        clusters = {**cell.distributions["clusters"], "names": [evil] * 3}
        distributions = {**cell.distributions, "latency": latency, "clusters": clusters}
        figures = {**cell.figures, "checkpoint": evil}
        hostile.append(dataclasses.replace(cell, services=services, distributions=distributions, figures=figures))

    html = page_of(compare(hostile, evil), title=evil, command=evil, fleet_hash=evil)

    page = Page(html)
    assert not [tag for tag, _ in page.tags if tag in ("script", "img")]
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert evil in page.text
    assert page.unbalanced == []


def test_drawings_are_well_formed_and_hold_only_numbers(large_page: str):
    """Every chart parses as XML; no coordinate is NaN or infinite."""
    drawings = re.findall(r"<svg.*?</svg>", large_page, flags=re.DOTALL)

    assert len(drawings) > 50
    for drawing in drawings:
        ElementTree.fromstring(drawing)
        assert not re.search(r"\b(nan|inf)\b", drawing)


def test_one_system_with_one_seed_is_a_page_without_differences():
    """Figures and charts are there, and the page says that there is nothing to compare."""
    html = page_of(compare(some_cells(("tango",), range(1, 2)), "tango"))

    text = Page(html).text
    assert "1 system 1 scenario 1 seed (1)" in text
    assert "There is nothing to compare" in text
    assert "QoS rate over time" in text
    assert "lowest to highest seed" not in text


def test_cells_that_have_hardly_anything_are_still_a_page():
    """No series, no distributions, no services, figures null: as of a trace without a span."""
    figures = {"simulated_requests": 1, "lc_qos_rate": None}
    bare = [
        dataclasses.replace(c, series={}, distributions={}, services=[], figures=figures, distance={}, bound={}, details={})
        for c in some_cells(("k8s-native", "tango"), range(1, 2))
    ]

    html = page_of(compare(bare, "k8s-native"))

    page = Page(html)
    assert page.unbalanced == []
    assert "All figures" in page.text
    assert "over time" not in re.sub(r"Bands over time|charts over time", "", page.text)


def test_system_that_lacks_a_scenario_is_left_out_of_it_and_told():
    """Its columns are missing where it has no cell, and a remark says which seeds lack."""
    cells = [*some_cells(("k8s-native", "tango"), range(1, 3), ("one",)), *some_cells(("k8s-native",), range(1, 3), ("two",))]

    page = Page(page_of(compare(cells, "k8s-native")))

    assert "two: tango lacks seeds 1, 2 of k8s-native, left out of its differences" in page.text
    assert page.unbalanced == []


def test_hundreds_of_cells_make_a_page_of_about_a_megabyte():
    """7 systems x 5 scenarios x 20 seeds: what is drawn does not grow with the seeds, but for a mark each."""
    few = some_cells(SYSTEMS, range(1, 3), tuple(f"scenario {k}" for k in range(5)))
    cells = [dataclasses.replace(c, seed=c.seed + 2 * k) for c in few for k in range(10)]

    html = page_of(compare(cells, "k8s-native"))

    assert len(cells) == 700
    assert len(html) < 1_500_000


def test_verdicts_stand_only_where_the_interval_leaves_zero_out():
    """A difference that is the same in every seed is better; one of a single pair has no verdict."""
    sure = Page(page_of(compare(some_cells(("k8s-native", "tango"), range(1, 4)), "k8s-native"))).text
    single = Page(page_of(compare(some_cells(("k8s-native", "tango"), range(1, 2)), "k8s-native"))).text

    assert "✓ +1.00 ± 0.00 pp" in sure
    assert "✓ +" not in single
    assert "+1.00 pp 1 pair" in single


# ---- charts --------------------------------------------------------------------------------------------------------------------


def test_systems_keep_their_colours_over_pages_and_never_share_one():
    """Built-in names are fixed; others take what is free; with more than seven a colour comes again with other dashes."""
    assert colours_of(("tango", "k8s-native")) == {"tango": "sys sys-1", "k8s-native": "sys sys-0"}
    assert colours_of(SYSTEMS)["tango"] == "sys sys-1"
    mixed = colours_of(("tango", "mine", "yours"))
    assert mixed == {"tango": "sys sys-1", "mine": "sys sys-0", "yours": "sys sys-2"}
    many = colours_of((*SYSTEMS, "eighth", "ninth"))
    assert len(set(many.values())) == 9
    assert many["eighth"].endswith("again")


def test_mean_and_range_over_seeds_leave_out_what_is_missing():
    """Two seeds, then one, then none."""
    mean, low, high = across(f8([[1.0, 2.0, NAN], [3.0, NAN, NAN]]))

    np.testing.assert_array_equal(mean, [2.0, 2.0, NAN])
    np.testing.assert_array_equal(low, [1.0, 2.0, NAN])
    np.testing.assert_array_equal(high, [3.0, 2.0, NAN])


def test_bars_of_totals_stand_on_zero_and_are_as_long_as_their_means():
    """A mean of 20 is twice as long as one of 10; the bound is marked."""
    totals = [Total(system="a", values=(8.0, 12.0), mark=None, text="10"), Total(system="b", values=(20.0,), mark=25.0, text="20")]

    drawing = totals_chart(totals, {"a": "sys-0", "b": "sys-1"}, label=number_label, words="x")

    root = ElementTree.fromstring(drawing)
    first, second = (float(bar.attrib["width"]) for bar in root.iter("rect"))
    assert second == pytest.approx(2 * first, abs=0.2)
    assert [line.attrib["class"] for line in root.iter("line")].count("line target") == 1


def test_dots_of_totals_do_not_blow_small_differences_up():
    """Two shares 0.1 points apart on an axis of at least 2 points lie within a tenth of it."""
    totals = [Total(system=s, values=(v,), mark=None, text="") for s, v in (("a", 0.998), ("b", 0.999))]

    drawing = totals_chart(totals, {"a": "sys-0", "b": "sys-1"}, label=number_label, words="x", least=0.02)

    first, second = (float(dot.attrib["cx"]) for dot in ElementTree.fromstring(drawing).iter("circle"))
    assert 0 < second - first < 0.1 * 380


def test_summary_fills_a_dot_only_where_the_interval_leaves_zero_out():
    """A sure system is filled, an unsure one hollow, on the better side of the zero line."""
    cells = some_cells(("k8s-native", "tango", "scoring"), range(1, 4))
    unsure = {1: 0.3, 2: -0.3, 3: 0.1}
    cells = [
        dataclasses.replace(c, figures={**c.figures, "lc_qos_rate": 0.5 + (unsure[c.seed] if c.system == "scoring" else 0.0)})
        if c.system != "tango"
        else c
        for c in cells
    ]
    comparison = compare(cells, "k8s-native")

    group = difference_figure(comparison, "p3@0.9", ["lc_qos_rate"], colours_of(comparison.systems))

    assert group is not None
    root = ElementTree.fromstring(group.panels[0].drawing)
    dots = {dot.attrib["class"]: float(dot.attrib["cx"]) for dot in root.iter("circle")}
    zero = next(float(line.attrib["x1"]) for line in root.iter("line") if line.attrib["class"] == "zero")
    assert set(dots) == {"dot sys sys-1", "dot sys sys-3 hollow"}
    assert dots["dot sys sys-1"] > dots["dot sys sys-3 hollow"] > zero


def test_metric_without_any_difference_has_no_column_in_the_summary():
    """All evictions are equal: nothing would be seen."""
    comparison = compare(some_cells(("k8s-native", "tango"), range(1, 3)), "k8s-native")

    assert difference_figure(comparison, "p3@0.9", ["evictions"], colours_of(comparison.systems)) is None


def test_tails_have_a_panel_per_service_with_a_line_per_system():
    """Four services, two systems, the target once in each panel."""
    cells = {system: some_cells((system,), range(1, 3)) for system in ("k8s-native", "tango")}

    panels = tail_panels(cells, colours_of(tuple(cells)))

    assert [panel.title for panel in panels] == ["web", "search", "detect", "chat"]
    for panel in panels:
        drawing = str(panel.drawing)
        assert drawing.count('class="line sys') == 2
        assert drawing.count("line target") == 1


@pytest.mark.parametrize(("clusters", "boxes", "dots"), [(3, 0, 3), (20, 1, 0), (100, 1, 0)])
def test_clusters_are_dots_where_they_are_few_and_a_box_where_they_are_many(clusters: int, boxes: int, dots: int):
    """Also where only quantiles over the clusters were kept."""
    cells = {"tango": [drawn_cell(1, clusters=clusters)]}

    drawing = cluster_figure(cells, "utilization_cpu", {"tango": "sys sys-1"}, "x")

    root = ElementTree.fromstring(str(drawing))
    assert len(list(root.iter("rect"))) == boxes
    assert len(list(root.iter("circle"))) == dots


def test_band_breaks_where_nothing_is_known():
    """Two stretches are two closed shapes."""
    chart = Chart((0.0, 3.0), (0.0, 1.0))

    chart.area(f8([0.0, 1.0, 2.0, 3.0]), f8([0.1, NAN, 0.1, 0.2]), f8([0.3, NAN, 0.4, 0.5]), css="spread")

    path = re.search(r' d="([^"]+)"', chart.render("x"))
    assert path is not None
    assert (path[1].count("M"), path[1].count("z")) == (2, 2)


def test_logarithmic_vertical_axis_gives_each_decade_the_same_height():
    """1, 0.1 and 0.01 are evenly spaced."""
    chart = Chart((0.0, 1.0), (0.01, 1.0), log_y=True, width=300.0)

    top, middle, bottom = chart.y(f8([1.0, 0.1, 0.01]))

    assert middle - top == pytest.approx(bottom - middle)
    assert chart.x(1.0) == 300.0 - chart.right


def test_tenants_have_a_table_where_there_are_any():
    """What each got stands beside what would have been fair; without tenants the page does not speak of them."""
    got = {
        **dict.fromkeys(("weight", "requests", "cpu_seconds", "gave_way"), 3),
        **dict.fromkeys(("wait_mean_s", "below", "withheld", "over_quota", "fair_share"), 0.75),
    }
    cells = some_cells(("tango",), range(1, 3), tenants=[{**got, "tenant": "<blue>", "share": 0.6125}])

    page = page_of(compare(cells, "tango"))

    assert "61.25 %" in page
    assert "&lt;blue&gt;" in page
    assert 'id="tenants"' not in page_of(compare(some_cells(("tango",), range(1, 3)), "tango"))
