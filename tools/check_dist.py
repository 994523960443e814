"""Fails if the archives in dist/ hold too much or too little, or are no exact builds.

``tools/build_dist.sh`` has built them twice: the second time from the files of the
source archive, with other rights of files.
"""

from __future__ import annotations

import json
import re
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

DIST = Path("dist")
AGAIN = Path("build/again")
RELATIVE_LINK = re.compile(r"\]\((?!https?:|mailto:|#)[^)]+\)")
PACKAGE = "cachebridge"
PACKAGES = (PACKAGE, "cachebridge_pytest")
NEEDED_BESIDES = (
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    "pyproject.toml",
    "Makefile",
    "tests/conftest.py",
)


def main() -> int:
    """Name what is wrong with the wheel and the source archive."""
    (wheel,) = DIST.glob("*.whl")
    (archive,) = DIST.glob("*.tar.gz")
    wrong = [
        *faults_of_wheel(wheel),
        *faults_of_metadata(wheel),
        *faults_of_archive(archive),
        *(
            f"{each.name} is not the same when it is built again"
            for each in (wheel, archive)
            if each.read_bytes() != (AGAIN / each.name).read_bytes()
        ),
    ]
    for fault in wrong:
        print(fault)
    if not wrong:
        print(f"{wheel.name} and {archive.name} hold what they should, twice")
    return 1 if wrong else 0


def package_files() -> set[str]:
    """Return what belongs to the package, as it lies in the working tree."""
    files = (
        path for each in PACKAGES for path in Path(each).rglob("*") if path.is_file()
    )
    return {path.as_posix() for path in files if "__pycache__" not in path.parts}


def faults_of_wheel(wheel: Path) -> list[str]:
    """Compare the wheel with the package: all of it, typed, and nothing else."""
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    inside = {name for name in names if ".dist-info/" not in name}
    expected = package_files() | {f"{PACKAGE}/py.typed"}
    return [
        *(f"{wheel.name} lacks {name}" for name in sorted(expected - inside)),
        *(f"{wheel.name} should not hold {name}" for name in sorted(inside - expected)),
    ]


def faults_of_metadata(wheel: Path) -> list[str]:
    """Compare what the wheel says of itself with pyproject.toml."""
    project: dict[str, Any] = tomllib.loads(Path("pyproject.toml").read_text())
    project = project["project"]
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (each for each in opened.namelist() if each.endswith("/METADATA"))
        metadata = Parser().parsestr(opened.read(name).decode())
        boms = [each for each in opened.namelist() if "/sboms/" in each]
        bom = json.loads(opened.read(boms[0])) if boms else {}
    described = metadata.get_payload()
    listed = {
        each["description"].rpartition(": ")[2] for each in bom.get("components", ())
    }
    of_bom = bom.get("metadata", {}).get("component", {}).get("version")
    wrong = {
        "its version": metadata["Version"] != project["version"],
        "the bill of materials: make dist adds one": not boms,
        "the version in its bill of materials": of_bom != project["version"],
        "what its bill of materials lists": listed != set(project["dependencies"]),
        "a relative link in its description": RELATIVE_LINK.search(described),
        "its addresses": len(metadata.get_all("Project-URL", ()))
        < len(project["urls"]),
    }
    return [f"{wheel.name}: {what} is wrong" for what, is_so in wrong.items() if is_so]


def faults_of_archive(archive: Path) -> list[str]:
    """Look for what is needed to build and test from the source archive."""
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    expected = package_files() | set(NEEDED_BESIDES)
    return [f"{archive.name} lacks {name}" for name in sorted(expected - names)]


if __name__ == "__main__":
    sys.exit(main())
