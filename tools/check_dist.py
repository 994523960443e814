"""Fails if the archives in dist/ hold too much or too little."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

DIST = Path("dist")
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
    wrong = [*faults_of_wheel(wheel), *faults_of_archive(archive)]
    for fault in wrong:
        print(fault)
    if not wrong:
        print(f"{wheel.name} and {archive.name} hold what they should")
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


def faults_of_archive(archive: Path) -> list[str]:
    """Look for what is needed to build and test from the source archive."""
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    expected = package_files() | set(NEEDED_BESIDES)
    return [f"{archive.name} lacks {name}" for name in sorted(expected - names)]


if __name__ == "__main__":
    sys.exit(main())
