"""Fails on modules too long to be read in one go, and on folders with too many."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

FOLDERS = ("cachebridge", "cachebridge_pytest", "example_project")
MOST_MODULES = 15
MOST_LINES = 400


def main() -> int:
    """Name the modules that are too long, and the folders that are too full."""
    modules = [path for folder in FOLDERS for path in Path(folder).rglob("*.py")]
    too_long = {path: size for path in modules if (size := lines(path)) > MOST_LINES}
    for path, size in sorted(too_long.items()):
        print(f"{path}: {size} lines, {MOST_LINES} are allowed")
    counts = Counter(path.parent for path in modules if path.parts[0] == "cachebridge")
    too_many = {path: count for path, count in counts.items() if count > MOST_MODULES}
    for path, count in sorted(too_many.items()):
        print(f"{path}: {count} modules, {MOST_MODULES} are allowed: make rooms")
    if not too_long and not too_many:
        print(
            f"{len(modules)} modules, none over {MOST_LINES} lines, "
            f"no folder with over {MOST_MODULES}"
        )
    return 1 if too_long or too_many else 0


def lines(path: Path) -> int:
    """Count the lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


if __name__ == "__main__":
    sys.exit(main())
