"""Goes through a page of docs/ as a reader does: writes its files, types its commands.

Comments that readers do not see say what a block is:

- ``<!-- file: shop/views.py -->`` stands before the content of a file, and
  ``<!-- append: shop/settings.py -->`` before lines to add to one; the paragraph
  before it tells the reader the same;
- a block ``console`` holds commands after ``$``, and what they print after them, where
  ``...`` stands for anything; no output says that any will do;
- ``<!-- in the background -->`` stands before a server, which runs to the end;
- ``<!-- redis: kill -->`` and ``<!-- redis: restart -->`` do that;
- ``<!-- not run: why -->`` stands before a block that is left out.

Ports of the page become free ones.
"""

from __future__ import annotations

import doctest
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.rig import PATIENCE_S, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cachebridge.testing import RedisServer

_STEP = re.compile(
    r"^<!-- (?P<what>file|append|in the background|redis|not run)"
    r"(?:: (?P<it>[^>]+))? -->$"
    r"|^```(?P<kind>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_CURL = """#!{python}
import sys, urllib.error, urllib.request
urls = [each for each in sys.argv[1:] if each.startswith("http")]
for url in urls:
    try:
        print(urllib.request.urlopen(url).read().decode())
    except urllib.error.HTTPError as error:
        print(error.read().decode())
"""
_MATCH = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Step(NamedTuple):
    """A block of a page, and what the comment before it says of it."""

    line: int
    what: str
    name: str
    kind: str
    text: str


def steps(page: Path) -> Iterator[Step]:
    """Yield the steps of a page, in their order."""
    text = page.read_text()
    what, name = "", ""
    for match in _STEP.finditer(text):
        if match["what"] == "redis":
            yield Step(0, "redis", match["it"], "", "")
        elif match["what"]:
            what, name = match["what"], match["it"] or ""
        else:
            line = text.count("\n", 0, match.start()) + 1
            yield Step(line, what, name, match["kind"], match["text"])
            what, name = "", ""


class Reader:
    """A reader with an empty folder, a Redis, and a terminal.  Used by one thread."""

    def __init__(self, folder: Path, redis: RedisServer, ports: dict[str, str]) -> None:
        self._folder = folder / "work"
        self._folder.mkdir()
        self._redis = redis
        self._ports = ports
        self._servers: list[subprocess.Popen[Any]] = []
        programs = folder / "bin"
        programs.mkdir()
        curl = programs / "curl"
        curl.write_text(_CURL.format(python=sys.executable))
        curl.chmod(0o755)
        path = [str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]
        self._environment = {**os.environ, "PATH": os.pathsep.join(path)}
        for name in ("DJANGO_SETTINGS_MODULE", "PYTEST_ADDOPTS", "COV_CORE_SOURCE"):
            self._environment.pop(name, None)

    def follow(self, page: Path) -> int:
        """Do what the page says, and return how many commands were run."""
        commands = 0
        for step in steps(page):
            where = f"{page.name}:{step.line}"
            if step.what == "redis":
                getattr(self._redis, step.name)()
            elif step.what in {"file", "append"}:
                told = f"`{step.name}`\n\n<!-- {step.what}: {step.name} -->"
                assert told in page.read_text(), f"{where}: the reader sees no name"
                self._write(step)
            elif step.kind == "console" and step.what != "not run":
                for command, expected in _commands(self._own(step.text)):
                    commands += 1
                    if step.what:
                        self._serve(command, where)
                    else:
                        self._type(command, expected, where)
        return commands

    def stop(self) -> None:
        """End the servers that were started."""
        for server in self._servers:
            server.terminate()
        for server in self._servers:
            server.wait(PATIENCE_S)

    def _own(self, text: str) -> str:
        for port, own in self._ports.items():
            text = re.sub(rf"\b{port}\b", own, text)
        return text

    def _write(self, step: Step) -> None:
        file = self._folder / step.name
        file.parent.mkdir(parents=True, exist_ok=True)
        before = file.read_text() if step.what == "append" else ""
        file.write_text(before + self._own(step.text))

    def _serve(self, command: str, where: str) -> None:
        said = (self._folder.parent / f"server-{len(self._servers)}").open("wb")
        with said:
            server = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self._folder,
                env=self._environment,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        self._servers.append(server)
        port = next(each for each in self._ports.values() if each in command)
        eventually(
            lambda: server.poll() is not None or _answers(int(port)),
            f"{where}: {command} listens",
        )
        assert server.poll() is None, Path(said.name).read_text()

    def _type(self, command: str, expected: str, where: str) -> None:
        said = ""

        def is_as_told() -> bool:
            nonlocal said
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=self._folder,
                env=self._environment,
                check=False,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
            said = done.stdout + done.stderr
            if done.returncode:
                return False
            told = doctest.OutputChecker().check_output(expected, done.stdout, _MATCH)
            return told or not expected.strip()

        if command.startswith("curl "):  # a reader looks again
            try:
                eventually(is_as_told, f"{where}: {command}")
            except AssertionError as error:
                raise AssertionError(f"{error}\nit says:\n{said}") from None
        else:
            assert is_as_told(), f"{where}: {command}\nit says:\n{said}"


def _commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a block with what it is to print."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        while command.endswith("\\"):
            more, _, expected = expected.partition("\n")
            command = command[:-1] + more.strip()
        yield command.split("  #")[0].strip(), expected


def _answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
