"""Installs the wheel of dist/ into fresh environments, and uses it there.

    python -m tools.try_wheel [--pythons 3.11 3.12] [--extras "" django all]

One environment for each Python and extra.  A Python that is not installed is left out,
and said so; so is an extra whose packages have no wheel for it.  Status 1 if anything
failed or warned.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tools.wheel_uses import USES

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
USE = Path(__file__).with_name("wheel_uses.py").resolve()
NO_WHEEL = re.compile(
    "no matching distribution|could not find a version", re.IGNORECASE
)


def main() -> int:
    """Print a line for each environment."""
    parser = argparse.ArgumentParser(prog="python -m tools.try_wheel")
    parser.add_argument("--pythons", nargs="+", default=PYTHONS)
    parser.add_argument("--extras", nargs="+", default=list(USES), choices=list(USES))
    arguments = parser.parse_args()
    (wheel,) = Path("dist").resolve().glob("*.whl")
    failed = 0
    for version in arguments.pythons:
        python = found(version)
        if python is None:
            print(f"absent  Python {version}")
            continue
        for extra in arguments.extras:
            began = time.monotonic()
            with tempfile.TemporaryDirectory() as directory:
                outcome, words = tried(python, wheel, extra, Path(directory))
            took = f"{time.monotonic() - began:.0f} s"
            name = f"Python {version}, {f'[{extra}]' if extra else 'no extra'}"
            print(f"{outcome:<7} {name}, {took}", flush=True)
            if outcome == "FAILED":
                failed += 1
                print(words)
    return 1 if failed else 0


def found(version: str) -> str | None:
    """Return the interpreter of that version, from PATH or pyenv."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    places = [shutil.which(f"python{version}")]
    places += sorted(map(str, root.glob(f"versions/{version}.*/bin/python")))
    for place in filter(None, places):
        if not subprocess.run(
            [place, "-c", "import venv"], check=False, capture_output=True
        ).returncode:
            return place
    return None


def tried(python: str, wheel: Path, extra: str, directory: Path) -> tuple[str, str]:
    """Return how it went, and what was said."""
    wanted = f"{wheel}[{extra}]" if extra else str(wheel)
    install = ["install", "--quiet", "--disable-pip-version-check"]
    # Only wheels: a source archive would be compiled, for ten minutes at worst.
    install += ["--root-user-action=ignore", "--only-binary=:all:", wanted]
    inside = directory / "bin" / "python"
    steps = [
        [python, "-m", "venv", str(directory)],
        [str(inside), "-m", "pip", *install],
        [str(inside), "-m", "pip", "check"],
        [str(inside), "-I", "-W", "error", str(USE), extra],
    ]
    for step in steps:
        done = subprocess.run(
            step,
            check=False,
            cwd=directory,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": ""},
        )
        words = done.stdout + done.stderr
        if done.returncode:
            if step is steps[1] and NO_WHEEL.search(words):
                return "absent", words
            return "FAILED", words
        if step is steps[-1] and done.stderr:
            return "FAILED", words
    return "works", ""


if __name__ == "__main__":
    sys.exit(main())
