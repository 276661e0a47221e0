"""The picture of a training."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from tango.report.learning_curve import learning_curve

_SVG = "{http://www.w3.org/2000/svg}"


def _validation(iteration: int, gain: float, margin: float = 0.1) -> dict[str, Any]:
    return {
        "kind": "validation",
        "iteration": iteration,
        "validation_gain": gain,
        "validation_margin": margin,
        "validation_reference": "load-greedy",
    }


def test_the_picture_has_the_gain_its_interval_the_reference_and_the_best() -> None:
    """Iterations without validation are no points; text of the run is escaped."""
    rows = [{"kind": "iteration", "iteration": 1}, _validation(10, -0.2), _validation(20, 0.3), _validation(30, 0.1)]

    drawing = ElementTree.fromstring(learning_curve(rows, title="dcg-be <by> a2c"))

    lines = {line.get("class"): line.get("d") for line in drawing.iter(f"{_SVG}path")}
    assert lines["line gain"].count("L") == 2
    assert lines["interval"].count("L") == 5
    assert "line reference" in lines
    [best] = drawing.iter(f"{_SVG}circle")
    points = [part.split() for part in lines["line gain"].replace("M", "L").split("L")[1:]]
    assert [best.get("cx"), best.get("cy")] == [f"{float(v):g}" for v in points[1]]
    words = [text.text or "" for text in drawing.iter(f"{_SVG}text")]
    assert "dcg-be <by> a2c" in words
    assert any("load-greedy" in text for text in words)


def test_a_training_that_has_not_been_validated_has_a_picture_too() -> None:
    """It says so; one validation alone is drawn as well."""
    assert "No validation yet." in learning_curve([{"kind": "iteration", "iteration": 1}], title="x")
    ElementTree.fromstring(learning_curve([_validation(5, 0.0, 0.0)], title="x"))
