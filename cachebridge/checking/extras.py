"""Packages that some options need, and the extras of this package that install them.

Each is imported when an option asks for it, or when bytes are met that only it reads.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any, Final

MODULES: Final = {
    "msgpack": ("ormsgpack",),
    "zstd": ("compression.zstd", "backports.zstd"),
    "lz4": ("lz4.frame",),
    "lzma": ("lzma",),
    "crypto": ("cryptography.hazmat.primitives.ciphers.aead",),
}
"""By extra: the modules of which one is enough.

Python 3.14 has the first for zstd, and some builds of Python lack lzma.
"""


class MissingExtraError(ImportError):
    """A package is not installed; the text names the extra that has it."""


@cache
def module_of(extra: str) -> Any:
    """Return the module of an extra; raises MissingExtraError without its package."""
    for name in MODULES[extra]:
        try:
            return import_module(name)
        except ImportError:
            continue
    if extra == "lzma":
        raise MissingExtraError("this Python was built without the module lzma")
    raise MissingExtraError(
        f"the module {MODULES[extra][-1]} is not installed: "
        f"pip install 'cachebridge[{extra}]'"
    )
