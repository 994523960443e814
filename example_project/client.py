"""A small HTTP client that knows which worker it talks to, and a closed-loop load.

Connections are kept alive, and a gthread worker keeps those it has accepted: a
client with a connection to each worker can ask one and then watch the other.
"""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from http.client import HTTPMessage

    from example_project.stack import Service

__all__ = [
    "FAILURES",
    "Answer",
    "Connection",
    "Load",
    "UnexpectedAnswerError",
    "connect",
    "load",
    "shuffles",
]

_TIMEOUT_S: Final = 15.0
_WHO: Final = "/stats/?format=json"


class UnexpectedAnswerError(RuntimeError):
    """The shop answered with another status than 200."""


FAILURES: Final = (UnexpectedAnswerError, HTTPException, OSError)
"""What a request raises that is not answered with 200."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    headers: HTTPMessage
    body: bytes

    @property
    def pid(self) -> int:
        return int(self.headers["X-Worker-Pid"])

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One keep-alive connection, so one worker. Not for two threads at once."""

    def __init__(self, service: Service) -> None:
        self._http = HTTPConnection(service.host, service.port, timeout=_TIMEOUT_S)
        self._asked = ""

    def get(self, path: str) -> Answer:
        self.send("GET", path)
        return self.receive()

    def post(self, path: str, token: str, **form: str) -> Answer:
        headers = {
            "Accept": "application/json",
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        self.send("POST", path, urlencode(form), headers)
        return self.receive()

    def stats(self) -> dict[str, Any]:
        """Ask the worker about itself and its cache."""
        return self.get(_WHO).json()

    def send(self, method: str, path: str, *body_and_headers: Any) -> None:
        """Ask, and leave the answer to receive()."""
        self._asked = f"{method} {path}"
        self._http.request(method, path, *body_and_headers)

    def receive(self) -> Answer:
        """Take the answer. Raises UnexpectedAnswerError if it is not a good one."""
        response = self._http.getresponse()
        body = response.read()
        if response.status != HTTPStatus.OK:
            raise UnexpectedAnswerError(
                f"{self._asked}: status {response.status}, {body[:200]!r}"
            )
        return Answer(response.headers, body)

    def close(self) -> None:
        self._http.close()


def connect(service: Service, each: int = 1) -> dict[int, list[Connection]]:
    """Open connections until each worker holds so many; they are keyed by its pid."""
    held: dict[int, list[Connection]] = defaultdict(list)
    deadline = time.monotonic() + _TIMEOUT_S
    while sum(map(len, held.values())) < service.workers * each:
        connection = Connection(service)
        pid = connection.get(_WHO).pid
        if len(held[pid]) < each:
            held[pid].append(connection)
        else:
            connection.close()
        if time.monotonic() > deadline:
            raise UnexpectedAnswerError(
                f"{service.name}: only {len(held)} of {service.workers} workers answer"
            )
    return dict(held)


@dataclass(frozen=True, slots=True)
class Load:
    """What a load came to."""

    requests: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def load(
    connections: Sequence[Connection], paths: Sequence[str], seconds: float, seed: int
) -> Load:
    """Ask on every connection at once, each as fast as it is answered."""
    started = time.perf_counter()
    deadline = started + seconds
    with ThreadPoolExecutor(len(connections)) as threads:
        counts = threads.map(
            lambda walk: _walk(*walk, deadline),
            zip(connections, shuffles(paths, seed), strict=False),
        )
        requests = sum(counts)
    return Load(requests, time.perf_counter() - started)


def _walk(connection: Connection, paths: Sequence[str], deadline: float) -> int:
    count = 0
    while True:
        for path in paths:
            if time.perf_counter() >= deadline:
                return count
            connection.get(path)
            count += 1


def shuffles(paths: Sequence[str], seed: int) -> Iterator[list[str]]:
    """Yield the paths in ever new orders."""
    chance = random.Random(seed)
    while True:
        yield chance.sample(paths, len(paths))
