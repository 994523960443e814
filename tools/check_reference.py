"""Fails if the reference of the built site lacks a public name.

Run after Sphinx, whose list of documented objects it reads.  A name that a second
module has as well is found under either.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

PAGES = Path("docs/api")
MODULE = ".. automodule:: "


def main() -> int:
    """Name what is missing."""
    from sphinx.util.inventory import InventoryFile

    raw = Path(sys.argv[1], "objects.inv").read_bytes()
    kinds = InventoryFile.loads(raw, uri="").data
    missing = missing_of({name for kind in kinds.values() for name in kind})
    for name in missing:
        print(f"{name} is public and not in the reference ({PAGES})")
    print(f"{len(documented_modules())} modules, {len(missing)} public names missing")
    return 1 if missing else 0


def missing_of(documented: set[str]) -> list[str]:
    """Return the public names that are not among those with their documentation."""
    modules = documented_modules()
    names = {f"{module}.{name}" for module in modules for name in public(module)}
    there = {id(value(name)) for name in documented & names}
    return [name for name in sorted(names - documented) if id(value(name)) not in there]


def documented_modules() -> list[str]:
    """Return the modules that the pages of the reference are about."""
    lines = [
        line for page in PAGES.glob("*.md") for line in page.read_text().splitlines()
    ]
    return [line.removeprefix(MODULE).strip() for line in lines if MODULE in line]


def public(module: str) -> list[str]:
    """Return the names that a module lists as public."""
    return list(import_module(module).__all__)


def value(name: str) -> object:
    """Return what a name with its module stands for."""
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)


if __name__ == "__main__":
    sys.exit(main())
