"""Fails on modules that have grown too long to be read in one go."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDERS = ("cachebridge", "example_project")
MOST_LINES = 400


def main() -> int:
    """Name the modules that are too long."""
    modules = [path for folder in FOLDERS for path in Path(folder).rglob("*.py")]
    too_long = {path: size for path in modules if (size := lines(path)) > MOST_LINES}
    for path, size in sorted(too_long.items()):
        print(f"{path}: {size} lines, {MOST_LINES} are allowed")
    if not too_long:
        print(f"{len(modules)} modules, none over {MOST_LINES} lines")
    return 1 if too_long else 0


def lines(path: Path) -> int:
    """Count the lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


if __name__ == "__main__":
    sys.exit(main())
