"""Processes that tests start: a test that fails shows what each of them has said.

What a process writes to standard error goes to a file of its own; ``tests/conftest.py``
adds the last lines of all that were used to the report of a failing test.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.rig import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT: Final = Path(__file__).parents[1]
LINES: Final = 40
"""How much of what it said is shown of each process."""
KEPT: Final = 12
"""How many processes are remembered, dead ones included."""
_started: list[Child] = []


class Child(subprocess.Popen[Any]):
    """A process of a test that finds the package and the tests."""

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        self.command = " ".join(command)[-80:]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 as long as this object
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
        super().__init__(
            command, stderr=self._said, cwd=ROOT, env=environment, **options
        )
        _started.append(self)
        while len(_started) > KEPT:
            _started.pop(0)._said.close()

    def said(self) -> str:
        """Return the last lines that it wrote to standard error."""
        if self._said.closed:
            return ""
        with os.fdopen(os.dup(self._said.fileno()), "rb") as file:
            file.seek(0)
            text = file.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-LINES:])

    def line(self) -> str:
        """Return the next line of its standard output; fail if it has ended."""
        assert self.stdout is not None
        line: str = self.stdout.readline()
        assert line, f"{self.command} has ended with {self.poll()}:\n{self.said()}"
        return line

    def end(self) -> None:
        """Ask it to end, and see to it that it does."""
        if self.stdin is not None:
            self.stdin.close()
        self.terminate()
        try:
            self.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            self.wait()
        if self.stdout is not None:
            self.stdout.close()


def all_said() -> Iterator[tuple[str, str]]:
    """Return what each process has said that said something, with a title."""
    for child in _started:
        if text := child.said():
            yield (
                f"stderr of {child.pid} (ended: {child.poll()}), {child.command}",
                text,
            )
