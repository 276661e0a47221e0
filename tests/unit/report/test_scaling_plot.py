"""The picture of `tango bench simulator --scaling`."""

from __future__ import annotations

from xml.etree import ElementTree

from tango.report.scaling_plot import scaling_plot


def test_both_panels_stand_beside_each_other_with_all_points() -> None:
    """Well-formed, one drawing for requests and one for nodes, two lines in each; other figures are left out."""
    rows = [
        {"name": f"engine seconds, {n} {unit}, rest", "value": n / 1e3, "yardstick_value": n / 2e3}
        for unit in ("requests", "nodes")
        for n in (100, 1000, 10_000)
    ]
    drawn = ElementTree.fromstring(scaling_plot([*rows, {"name": "peak memory", "value": 1.0, "yardstick_value": None}]))

    space = "{http://www.w3.org/2000/svg}"
    panels = drawn.findall(f"{space}svg")
    assert [p.get("x") for p in panels] == ["0", "520"]
    for panel in panels:
        lines = {path.get("class"): path.get("d") for path in panel.iter(f"{space}path")}
        assert lines["line tango"].count("L") == lines["line bare"].count("L") == 2
