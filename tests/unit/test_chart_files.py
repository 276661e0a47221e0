"""What can be said of the chart without Helm; `tests/integration/test_chart.py` renders it."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import yaml

from tango import __version__

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "chart"
TEMPLATES = {path: path.read_text(encoding="utf-8") for path in sorted((CHART / "templates").rglob("*.*"))}


def test_the_chart_is_of_this_release() -> None:
    """Its version and that of the images it takes."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_the_chart_grants_what_the_rbac_folder_grants() -> None:
    """A chart can read no file outside its folder, so it has copies."""
    for file, kind, name in (
        ("tango", "ClusterRole", "cluster-role"),
        ("tango", "Role", "role"),
        ("node-agent", "Role", "node-agent"),
    ):
        by_hand = [found for found in yaml.safe_load_all((ROOT / f"deploy/rbac/{file}.yaml").read_text()) if found]
        (rules,) = (found["rules"] for found in by_hand if found["kind"] == kind)
        assert yaml.safe_load((CHART / "rbac" / f"{name}.yaml").read_text()) == rules, (
            f"copy the rules of {file}.yaml to rbac/{name}.yaml"
        )


def test_every_value_has_a_place_in_the_schema() -> None:
    """Where objects are closed, a value that the schema does not know could not be set at all."""
    schema = json.loads((CHART / "values.schema.json").read_text())

    def walk(value: Any, rule: dict[str, Any], path: str) -> list[str]:
        if "$ref" in rule:
            rule = schema["definitions"][rule["$ref"].rpartition("/")[2]]
        for part in rule.get("allOf", []):
            if "$ref" in part:
                return walk(value, part, path)
        known = rule.get("properties")
        if not isinstance(value, dict) or known is None:
            return []
        missing = [f"{path}.{key}" for key in value if key not in known]
        return missing + [found for key in value if key in known for found in walk(value[key], known[key], f"{path}.{key}")]

    assert walk(yaml.safe_load((CHART / "values.yaml").read_text()), schema, "") == []


def test_templates_take_values_that_there_are() -> None:
    """`.Values.a.b` of a template stands in values.yaml: Helm renders nothing, without a word, for one that does not."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def has(path: str) -> bool:
        place: Any = values
        for part in path.split("."):
            if not isinstance(place, dict) or part not in place:
                return False
            place = place[part]
        return True

    named = {
        (path.name, found) for path, text in TEMPLATES.items() for found in re.findall(r"\.Values\.([A-Za-z.]+[A-Za-z])", text)
    }

    assert len(named) > 30
    assert [found for found in sorted(named) if not has(found[1])] == []


def test_templates_start_modules_that_there_are() -> None:
    """Each `python -m MODULE`, in whatever form."""
    modules = {found for text in TEMPLATES.values() for found in re.findall(r"(?:-m, |\"-m\" \")(workers\.[a-z_]+)", text)} - {
        "workers.node_agent"
    }

    assert len(modules) > 3
    assert [module for module in sorted(modules) if importlib.util.find_spec(module) is None] == []
