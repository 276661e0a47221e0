"""Prints the bill of materials (CycloneDX 1.6, JSON) of an image: its Python packages by the locked requirements, its Debian packages by
what dpkg says in the image's own tree. build.sh calls it, with the interpreter that has cyclonedx-bom (tools.txt).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from email.parser import HeaderParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


def python_packages(requirements: Path) -> dict[str, Any]:
    """The bill of the locked Python packages, as cyclonedx-py writes it."""
    command = [
        sys.executable,
        "-m",
        "cyclonedx_py",
        "requirements",
        "--output-reproducible",
        "--spec-version",
        "1.6",
        str(requirements),
    ]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def debian_packages(tree: Path, suite: str) -> list[dict[str, Any]]:
    """A component for each Debian package that is installed in a tree."""
    found = []
    for paragraph in (tree / "var/lib/dpkg/status").read_text().split("\n\n"):
        fields = HeaderParser().parsestr(paragraph)
        if fields["Status"] != "install ok installed":
            continue
        name, version, arch = fields["Package"], fields["Version"], fields["Architecture"]
        purl = f"pkg:deb/debian/{name}@{quote(version, safe='')}?arch={arch}&distro={suite}"
        found.append({"type": "library", "bom-ref": f"deb-{name}", "name": name, "version": version, "purl": purl})
    return sorted(found, key=lambda component: str(component["name"]))


def main() -> int:
    """Write the bill to standard output; 1 when it is no valid CycloneDX document."""
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--name", "--version", "--suite", "--created"):
        parser.add_argument(option, required=True)
    parser.add_argument("--tree", required=True, type=Path)
    parser.add_argument("--requirements", required=True, type=Path)
    options = parser.parse_args()
    bill = python_packages(options.requirements)
    bill["components"] = [*bill.get("components", []), *debian_packages(options.tree, options.suite)]
    subject = {"type": "container", "bom-ref": "image", "name": options.name, "version": options.version}
    bill["metadata"] = {**bill.get("metadata", {}), "timestamp": options.created, "component": subject}
    text = json.dumps(bill, indent=1, sort_keys=True)
    if (error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        print(f"sbom.py: what was written is no CycloneDX 1.6: {error}", file=sys.stderr)
        return 1
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
