"""Dashboards and alerts ask for metrics that there are, and every alert has its page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tango.telemetry.catalogue import CATALOGUE

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "operations" / "alerts"
RULES: list[dict[str, Any]] = yaml.safe_load((ROOT / "deploy/alerts/tango.yaml").read_text())["groups"][0]["rules"]
DASHBOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
SERIES = {series: metric for metric in CATALOGUE.values() for series in metric.series}
WORD = re.compile(r"\b(?:tango|celery)_[a-z_]+\b")
WITH_LABELS = re.compile(r"\b((?:tango|celery)_[a-z_]+)\{([^}]*)\}")
GROUPED = re.compile(r"\bby \(([a-z_, ]*)\)")
PROMTOOL = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian package prometheus)")


def expressions() -> Iterator[tuple[str, str]]:
    """(where it stands, a query) of all panels, variables and rules."""
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        for variable in board["templating"]["list"]:
            if found := re.fullmatch(r"label_values\((\w+), (\w+)\)", variable.get("definition", "")):
                assert found[2] in SERIES[found[1]].labels, (path.name, variable["name"])
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.name}: {panel['title']}", target["expr"]


EXPRESSIONS = list(expressions())


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_a_query_asks_for_metrics_and_labels_that_there_are(where: str, expression: str) -> None:
    """Under the names that Prometheus gives them: of a histogram its buckets, sum and count. One that is not there is empty for ever."""
    metrics = {SERIES[word] for word in WORD.findall(expression) if word in SERIES}

    assert metrics
    assert [word for word in WORD.findall(expression) if word not in SERIES] == []
    for name, matchers in WITH_LABELS.findall(expression):
        asked = {matcher.partition("=")[0].rstrip("~!") for matcher in matchers.split(",") if matcher}
        assert asked <= {*SERIES[name].labels, "le"}
    grouped = {label.strip() for group in GROUPED.findall(expression) for label in group.split(",")}
    assert grouped <= {"le"} | {label for metric in metrics for label in metric.labels}


def test_every_metric_is_looked_at() -> None:
    """By a dashboard or an alert; what nobody looks at has its reason here."""
    seen = {SERIES[word] for _, expression in EXPRESSIONS for word in WORD.findall(expression) if word in SERIES}
    unseen = {metric.name for metric in CATALOGUE.values() if metric not in seen}

    assert unseen == {
        "tango_requests_in_time_total",  # for objectives of somebody's own, over any time
        "celery_task_received_total",  # for dashboards of celery-exporter, as the next
        "celery_task_started_total",
        "celery_task_retried_total",
        "celery_task_revoked_total",
        "celery_task_rejected_total",
        "tango_spans_total",  # of interest while somebody looks at traces, whose page asks for it
        "tango_series_folded_total",  # tells of a defect, which the page says
    }


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_one_that_grafana_loads(path: Path) -> None:
    """What its importer needs: ids once each, a source that is chosen when it is loaded, panels that lie beside each other."""
    board = json.loads(path.read_text())

    assert board["uid"] == path.stem
    assert board["schemaVersion"] >= 36
    assert board["templating"]["list"][0]["type"] == "datasource"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["targets"]
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    variables = {variable["name"] for variable in board["templating"]["list"]} | {"__rate_interval", "__all"}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(board["panels"]))) <= variables


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    """Named in the rule, listed with severity and time, and with what to look at and what to do."""
    listed = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| (\w+) \| ([\w ]+) \|$", (PAGES / "README.md").read_text(), re.MULTILINE)
    wanted = [(r["alert"], r["alert"], r["labels"]["severity"], r.get("for", "at once")) for r in RULES]

    assert listed == wanted
    assert {path.stem for path in PAGES.glob("*.md")} - {"README"} == {rule["alert"] for rule in RULES}
    for rule in RULES:
        page = PAGES / f"{rule['alert']}.md"
        assert rule["annotations"]["runbook_url"] == page.relative_to(ROOT).as_posix()
        assert page.read_text().startswith(f"# {rule['alert']}\n")
        assert "**Look at**\n\n    " in page.read_text()
        assert "**Do**\n\n" in page.read_text()


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_is_quiet() -> None:
    """`promtool` runs them; without these, one that can never fire would be found when it is needed."""
    tests = yaml.safe_load((ROOT / "deploy/alerts/tests.yaml").read_text())["tests"]
    told = {(case["alertname"], bool(case["exp_alerts"])) for one in tests for case in one["alert_rule_test"]}

    assert told == {(rule["alert"], fires) for rule in RULES for fires in (True, False)}


@PROMTOOL
@pytest.mark.parametrize("arguments", [("check", "rules", "tango.yaml"), ("test", "rules", "tests.yaml")], ids=lambda a: a[0])
def test_promtool_finds_the_rules_right(arguments: tuple[str, ...]) -> None:
    """Their syntax, and what they do on the series of the tests."""
    done = subprocess.run(
        ["promtool", *arguments], cwd=ROOT / "deploy" / "alerts", capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@PROMTOOL
def test_a_rule_that_is_wrong_is_found(tmp_path: Path) -> None:
    """What these tests are worth: with another bound, the test of that alert fails."""
    rules = (ROOT / "deploy/alerts/tango.yaml").read_text()
    (tmp_path / "tango.yaml").write_text(rules.replace("tango_qos_ratio < 0.9", "tango_qos_ratio < 0.3"))
    shutil.copy(ROOT / "deploy/alerts/tests.yaml", tmp_path)

    done = subprocess.run(
        ["promtool", "test", "rules", "tests.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode != 0
    assert "TangoQosLow" in done.stdout + done.stderr
