from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tango.cli.failures import exit_status
from tango.cli.main import cli
from tango.fleets import fleet_names, load_fleet


def _tango(*line: str) -> Result:
    done = CliRunner().invoke(cli, ["fleet", *line])
    assert done.exit_code == 0, done.output
    return done


def test_list_tells_the_size_and_hash_of_every_built_in_fleet() -> None:
    """A table for people with a short hash, JSON with all of it."""
    rows = {row["name"]: row for row in json.loads(_tango("list", "-o", "json").stdout)}
    table = _tango("list").stdout

    assert tuple(rows) == fleet_names()
    paper = load_fleet("paper")
    assert rows["paper"] == {
        "name": "paper",
        "clusters": 104,
        "nodes": 1100,
        "cores": 4620.0,
        "memory_gib": 8140.0,
        "extended": "",
        "lc": 4,
        "be": 3,
        "hash": paper.source_hash,
    }
    assert paper.source_hash[:12] in table
    assert paper.source_hash not in table


def test_show_cuts_the_clusters_of_a_large_fleet_short() -> None:
    """Ten clusters, then how many there are more; -o wide shows all."""
    short, whole = _tango("show", "paper"), _tango("show", "paper", "-o", "wide")

    assert "c010" in short.stdout
    assert "c011" not in short.stdout
    assert "and 94 more clusters; -o wide shows all" in short.stderr
    assert "short-answer" in short.stdout
    assert "2.2 to 26.3, mean 12.6" in short.stdout
    assert "c104" in whole.stdout
    assert "more clusters" not in whole.stderr


@pytest.mark.parametrize("name", ["demo", "paper"])
def test_the_yaml_of_a_fleet_is_a_fleet_file(tmp_path: Path, name: str) -> None:
    """What show prints is the effective declaration: the file is the same fleet, hash included."""
    path = tmp_path / "shown.yaml"
    path.write_text(_tango("show", name, "-o", "yaml").stdout)

    assert load_fleet(path) == load_fleet(name)


def test_the_json_of_a_fleet_has_the_keys_of_a_fleet_file() -> None:
    """Scripts read the same declaration as JSON."""
    shown = json.loads(_tango("show", "demo", "-o", "json").stdout)

    assert (shown["kind"], shown["metadata"]["name"]) == ("Fleet", "demo")
    assert shown["spec"]["clusters"][0]["nodes"][0] == {"name": "c1-n1", "cpu_millicores": 4000, "memory_mib": 15360}


def test_show_lists_the_links_of_a_fleet(tmp_path: Path) -> None:
    """A pair that differs from the network model stands in a table of its own; a figure it does not give is a dash."""
    path = tmp_path / "linked.yaml"
    text = _tango("show", "demo", "-o", "yaml").stdout
    path.write_text(text.replace("  services:\n", "  links:\n  - {from: c3, to: c1, rtt_ms: 33}\n  services:\n"))

    lines = _tango("show", str(path)).stdout.splitlines()

    assert ["c3", "c1", "33", "–"] in [line.split() for line in lines]


def test_generate_writes_a_short_file_that_is_the_fleet_it_tells_of(tmp_path: Path) -> None:
    """The recipe takes services and machine types, in their shares, from another fleet."""
    out = tmp_path / "mine.yaml"

    told = _tango(
        "generate", "--clusters", "40", "--nodes", "400", "--seed", "3", "--area-km", "200", "--out", str(out), "-o", "json"
    )

    fleet = load_fleet(out)
    row = json.loads(told.stdout)[0]
    assert (row["name"], row["clusters"], row["nodes"], row["cores"]) == ("mine", 40, 400, 1680.0)
    assert row["hash"] == fleet.source_hash
    assert fleet.services == load_fleet("paper").services
    assert len(out.read_text().splitlines()) < 150


def test_generate_gives_equal_fleets_for_equal_seeds_only(tmp_path: Path) -> None:
    """The seed stands in the file; the name is given apart."""
    files = {}
    for file, seed in (("a.yaml", "1"), ("b.yaml", "1"), ("c.yaml", "2")):
        line = [
            "--clusters",
            "5",
            "--nodes-min",
            "2",
            "--nodes-max",
            "4",
            "--services-of",
            "demo",
            "--name",
            "same",
            "--seed",
            seed,
        ]
        _tango("generate", *line, "--out", str(tmp_path / file))
        files[file] = (tmp_path / file).read_bytes()

    assert files["a.yaml"] == files["b.yaml"]
    assert load_fleet(tmp_path / "a.yaml").clusters != load_fleet(tmp_path / "c.yaml").clusters


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("show nope", "there is no fleet 'nope'; known fleets: bench, continent, demo"),
        ("show none.yaml", "found no such file"),
        ("generate --clusters 3 --out {0}/mine.txt", "mine.txt would not be found by --fleet"),
        ("generate --clusters 3 --nodes 99 --out {0}/mine.yaml", "nodes is 99, expected 9 to 60: 3 clusters of 3 to 20 nodes"),
        ("generate --clusters 0 --out {0}/mine.yaml", "Invalid value for '--clusters'"),
        ("generate --clusters 3 --out {0}/My_Fleet.yaml", "metadata.name is 'My_Fleet', expected a name of lower case letters"),
        ("generate --clusters 3 --services-of {0}/lent.yaml --out {0}/lent.yaml", "is the fleet that is read"),
        ("generate --clusters 3 --out {0}/no/mine.yaml", "cannot be written"),
    ],
)
def test_what_cannot_be_shown_or_written_ends_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    """A wrong name, figure or file is a matter of usage; nothing is written."""
    lent = tmp_path / "lent.yaml"
    lent.write_text(_tango("show", "single", "-o", "yaml").stdout)
    before = lent.read_bytes()

    status = exit_status(cli, ["fleet", *line.format(tmp_path).split(" ")])

    assert status == 2
    assert message in capsys.readouterr().err
    assert lent.read_bytes() == before
    assert list(tmp_path.iterdir()) == [lent]
