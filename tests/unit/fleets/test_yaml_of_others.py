"""YAML as people write it: numbers that versions of YAML read differently, merge keys, and values that are built to exhaust a reader."""

from __future__ import annotations

import io
import sys

import pytest

from tango.errors import ConfigError
from tango.fleets import load_services
from tango.fleets.yaml_document import MOST_MERGES, YamlMapping, documents

SERVICE = """\
apiVersion: tango/v1
kind: Service
metadata: {name: NAME}
spec: {class: be, cpu_work_s: 1.0, memory_mib: 64, cpu_request_millicores: 100, cpu_limit_millicores: 200}
"""


def mapping(text: str) -> YamlMapping:
    """The keys of the only document."""
    return documents(text, "f.yaml")[0].mapping()


@pytest.mark.parametrize("number", ["010000", "0644", "4:16:00", "190:20:30.15", "1_000", "0b11", "-017", "1_0.5", "0x1_0"])
@pytest.mark.parametrize("read", ["integer", "number", "text"])
def test_a_number_that_versions_of_yaml_read_differently_is_refused(number: str, read: str) -> None:
    """4096 for whom, 10000 for another: no reader that is strict chooses."""
    value = mapping(f"a: 1\nb: {number}\n").values["b"]

    with pytest.raises(ConfigError) as caught:
        value.text() if read == "text" else getattr(value, read)(-(10**9), 10**9)

    assert f"f.yaml:2: b is {number}, which versions of YAML read as different values, expected a decimal number" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("text", "number"), [("10000", 10000.0), ("0.5", 0.5), ("1e3", 1000.0), ("1.5E-1", 0.15), ("0x10", 16.0), ("0", 0.0)]
)
def test_other_numbers_are_what_they_look_like(text: str, number: float) -> None:
    """Also those of JSON that YAML 1.1 takes for texts."""
    assert mapping(f"a: {text}").values["a"].number(0, 1e9) == number


@pytest.mark.parametrize("number", ["9" * 400, "-" + "9" * 400, "9" * 6000, "0x" + "f" * 6000, "1e400", ".inf", ".nan"])
def test_a_number_that_no_float_or_text_holds_is_refused(number: str) -> None:
    """Found by mutated files; Python neither makes a float of a whole number of 400 digits nor writes one of 5,000."""
    value = mapping(f"a: {number}").values["a"]

    for read in (value.number, value.integer):
        with pytest.raises(ConfigError, match=r"f\.yaml:1: a is .{1,90}, expected a (whole )?number from 0 to 100$"):
            read(0, 100)
    with pytest.raises(
        ConfigError, match=r"f\.yaml:1: limits.cpu is .*, expected a (finite number|whole number of at most 64 bits)"
    ):
        documents(f"limits: {{cpu: {number}}}", "f.yaml")[0].plain()


def test_a_template_is_read_as_kubernetes_reads_it() -> None:
    """Modes are octal there, ports with a colon are texts, and what is quoted stays as it is."""
    found = documents('{defaultMode: 0644, ports: [22:22, "010"], at: 2026-02-29, big: 1e3}', "f.yaml")[0].plain()

    assert found == {"defaultMode": 0o644, "ports": ["22:22", "010"], "at": "2026-02-29", "big": 1000.0}


def test_merge_keys_bring_what_is_not_said() -> None:
    """What a mapping says itself goes before, then earlier merges; in parts that are taken as they are too."""
    text = "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz: {<<: [*x, *y], a: 0}\nq: {<<: *y, '<<': 5}\n"

    whole = documents(text, "f.yaml")[0].plain()

    assert whole["z"] == {"a": 0, "b": 2, "c": 4}
    assert whole["q"] == {"b": 3, "c": 4, "<<": 5}
    assert mapping(text).values["z"].mapping().values["c"].key == "z.c"
    with pytest.raises(ConfigError, match=r"f\.yaml:1: <<\[?.* is 'text', expected a mapping"):
        mapping("<<: text")


BOMB = "a0: &a0 {k: 1}\n" + "".join(f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 9)}]}}\n" for k in range(1, 9))


@pytest.mark.parametrize(
    "text",
    ["&a {<<: *a}", "&a {b: *a}", "&a [*a]", BOMB, "a: " + "[" * 100_000, "a: &b [" + ", ".join(["*b"] * 9) + "]"],
    ids=["merges itself", "holds itself", "a list of itself", "merges of merges", "deep", "lists of itself"],
)
def test_what_never_ends_is_refused(text: str) -> None:
    """In a time that its size allows."""
    with pytest.raises(ConfigError, match=rf"at most {MOST_MERGES} merged|nested|at most 20000 values"):
        documents(text, "f.yaml")[0].plain()


def test_services_are_read_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `kustomize build . | tango service apply -f -`."""
    text = SERVICE.replace("NAME", "two") + "---\n" + SERVICE.replace("NAME", "one")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    assert [service.name for service in load_services("-")] == ["one", "two"]


@pytest.mark.parametrize("value", ["!!timestamp 2026-13-40x", "!!float ''", "!!int x", "!!bool x", "!!float '-'", "!!binary é"])
def test_a_tag_at_what_is_not_of_its_type_is_refused(value: str) -> None:
    """The library's own error for it is whatever its code runs into."""
    with pytest.raises(ConfigError, match=r"f\.yaml:1: a is .*, expected a whole number from 0 to 9"):
        mapping(f"a: {value}").values["a"].integer(0, 9)
