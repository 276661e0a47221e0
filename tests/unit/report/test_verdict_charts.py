"""Forest plots of verdicts: drawn where the numbers say, arrows beyond the axis, a section of the page only where one is judged."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tango.analysis.comparison import CellResult, compare
from tango.analysis.verdicts import judge
from tango.report.comparison_charts import PanelGroup, colours_of
from tango.report.comparison_page import comparison_page
from tango.report.verdict_charts import verdict_figures
from tests.fakes.compared_cells import cells


def some_groups(*more: list[CellResult]) -> list[PanelGroup]:
    """Against one system far below, one equal but for chance and one a point better."""
    every = [
        *cells("k8s-native", [0.5, 0.51, 0.5]),
        *cells("load-greedy", [0.899, 0.901, 0.9]),
        *cells("dsaco", [0.91, 0.9101, 0.9099]),
        *cells("tango", [0.9, 0.9, 0.9]),
        *(cell for group in more for cell in group),
    ]
    comparison = compare(every, "tango")
    return verdict_figures(judge(comparison, "tango"), colours_of(comparison.systems))


def test_intervals_stand_beside_the_margin_and_far_ones_are_arrows():
    """The one far above is an arrow at the right edge, the others are dots; a dashed margin stands in both panels that have one."""
    (group,) = some_groups()

    root = ElementTree.fromstring(group.panels[0].drawing)
    classes = [mark.attrib["class"] for mark in root.iter() if "class" in mark.attrib]
    dots = {m.attrib["class"]: float(m.attrib["cx"]) for m in root.iter("circle") if float(m.attrib["cx"]) < 400}
    margins = sorted(float(m.attrib["x1"]) for m in root.iter("line") if m.attrib["class"] == "line target")
    zero = min(float(m.attrib["x1"]) for m in root.iter("line") if m.attrib["class"] == "zero")
    arrows = [m for m in root.iter("path") if m.attrib["class"] == "dot sys sys-0"]
    assert group.title == "p3@0.9"
    assert set(dots) == {"dot sys sys-2 hollow", "dot sys sys-5"}
    assert dots["dot sys sys-5"] < margins[0] < dots["dot sys sys-2 hollow"] == pytest.approx(zero, abs=0.2)
    assert len(margins) == 2
    assert len(arrows) == 1
    assert "name bad" in classes


def test_words_say_what_is_not_held_and_what_is_claimed():
    """`not held, worse` behind the number that fails; `better` behind one that may be claimed; the best has its mark."""
    (group,) = some_groups()

    words = [text.text for text in ElementTree.fromstring(group.panels[0].drawing).iter("text")]
    assert "−1.00 ± 0.02* not held, worse" in words
    assert any(word and word.endswith("better") for word in words)


def test_several_scenarios_begin_with_the_best_of_the_others():
    """A row for each scenario, with the name of who was best."""
    others = [cells(s, [0.9, 0.91], scenario="p1") for s in ("k8s-native", "tango")]

    groups = some_groups(*others)

    assert [group.title for group in groups] == ["tango against the best of the others", "p3@0.9", "p1"]
    words = [text.text or "" for text in ElementTree.fromstring(groups[0].panels[0].drawing).iter("text")]
    assert "p1" in words
    assert "0 k8s-native" in words


def test_page_has_the_section_only_where_a_system_is_judged():
    """With its sentences; with one seed it says that nothing is judged and draws nothing."""
    comparison = compare([*cells("dsaco", [0.9, 0.9]), *cells("tango", [0.9, 0.9])], "dsaco")
    single = compare([*cells("dsaco", [0.9]), *cells("tango", [0.9])], "dsaco")
    facts = {"title": "p3", "command": "tango compare p3", "fleet_hash": "f" * 64}

    without = comparison_page(comparison, **facts)
    judged = comparison_page(comparison, **facts, verdicts=judge(comparison, "tango"))
    alone = comparison_page(single, **facts, verdicts=judge(single, "tango"))

    assert "Verdict on" not in without
    assert "tango holds against 1 of 1" in judged
    assert "Holm 1979" in judged
    assert "tango is not judged" in alone
    assert "right of the dashed margin" not in alone
