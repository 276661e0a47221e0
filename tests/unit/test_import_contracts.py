"""The layers of docs/ARCHITECTURE.md, held."""

from __future__ import annotations

from pathlib import Path

from importlinter.cli import lint_imports

CONTRACTS = Path(__file__).parent.parent.parent / "setup.cfg"


def test_imports_point_down_and_libraries_stay_in_their_rooms() -> None:
    """Every contract of `setup.cfg` is kept; `lint-imports` tells which import breaks one."""
    assert lint_imports(config_filename=str(CONTRACTS), no_cache=True) == 0
