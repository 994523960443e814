"""The processes under test, each connected through a proxy of its own."""

from __future__ import annotations

import contextlib
import itertools
import json
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cachebridge.testing import FaultProxy
from tests.children import ROOT as ROOT  # noqa: PLC0414 shared here
from tests.children import Child
from tests.proofs.processes import mutants
from tests.proofs.processes.history import Op, read_log
from tests.proofs.processes.rhythm import Rhythm
from tests.proofs.processes.worker import Settings
from tests.rig import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from cachebridge.testing import RedisServer
    from tests.proofs.processes.timeline import Timeline

ANSWER_S: Final = 4 * PATIENCE_S
THREADS: Final = "tests.proofs.processes.worker"
TASKS: Final = "tests.proofs.processes.task_worker"
GEVENT: Final = "tests.proofs.processes.gevent_worker"
NEVER: Final = float("inf")
LAST_LINES: Final = 5
"""How much of each thread's history is shown of a process that failed."""


class Process:
    """One worker: its process, its number among all that ever ran, its proxy."""

    def __init__(
        self,
        slot: int,
        settings: Settings,
        proxy: FaultProxy,
        *,
        mutant: str,
        module: str,
    ) -> None:
        self.slot = slot
        self.settings = settings
        self.proxy = proxy
        self.has_threads = module == THREADS
        """Whether it calls the cache from plain threads, which may be struck."""
        self._child = Child(
            [sys.executable, "-m", module, settings.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={mutants.VARIABLE: mutant},
        )

    def _name(self) -> str:
        """Name the process, with what it has said and what it did last."""
        lines = [
            line
            for log in self.logs
            for line in log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        ]
        did = "\n".join(lines)
        return (
            f"process {self.settings.writer}\nsaid: {self._child.said()}\ndid: {did}\n"
        )

    @property
    def logs(self) -> list[Path]:
        """The files of the worker's threads."""
        directory = Path(self.settings.directory)
        return sorted(directory.glob(f"{self.settings.writer}.*.log"))

    def count_failed_writes(self) -> int:
        """Count the writes that raised so far, as far as the log tells yet."""
        return sum(log.read_bytes().count(b'["x"') for log in self.logs)

    def pause(self) -> None:
        """Stop the process as Ctrl-Z does."""
        self._child.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._child.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once, in the middle of whatever it does."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def tell(self, word: str) -> None:
        """Send one word."""
        assert self._child.stdin is not None
        self._child.stdin.write(f"{word}\n".encode())
        self._child.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for the answer to the oldest word."""
        assert self._child.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            if not selector.select(ANSWER_S):
                raise TimeoutError(f"{self._name()} does not answer")
        line = self._child.stdout.readline()
        if not line:
            raise EOFError(f"{self._name()} ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Fleet:
    """All processes; dead ones are replaced and remembered."""

    def __init__(
        self,
        server: RedisServer,
        timeline: Timeline,
        directory: Path,
        *,
        processes: int,
        seed: int,
        mutant: str,
        gevent_slots: Collection[int],
        task_slots: Collection[int] = (),
        options: dict[str, Any],
        locate: Callable[[str], tuple[str, dict[str, Any]]],
        worker: str = THREADS,
        task_worker: str = TASKS,
        shares: bool = False,
    ) -> None:
        self._timeline = timeline
        self._directory = directory
        self._seed = seed
        self._mutant = mutant
        self._modules = dict.fromkeys(gevent_slots, GEVENT)
        self._modules |= dict.fromkeys(task_slots, task_worker)
        self._options = options
        self._shares = shares
        self._locate = locate
        self._worker = worker
        self._next_writer = itertools.count(1).__next__
        self.started = time.monotonic()
        self.rhythm = Rhythm(self.started)
        self._proxies = [FaultProxy(server.host, server.port) for _ in range(processes)]
        self.processes = [self._start(slot) for slot in range(processes)]

    def _start(self, slot: int) -> Process:
        options = dict(self._options)
        if slot == len(self._proxies) - 1:
            options["L1_MAX_ENTRIES"] = 6  # fewer than keys: it evicts all the time
        if self._shares and not slot % 2:
            options["L1_SHARED"] = f"1M {self._directory}"
        writer = self._next_writer()
        proxy = self._proxies[slot]
        location, more = self._locate(proxy.url)
        self._timeline.lives[writer] = (slot, NEVER)
        settings = Settings(
            url=location,
            options={**options, **more},
            seed=self._seed,
            writer=writer,
            threads=2 + slot % 3,
            started=self.started,
            directory=str(self._directory),
        )
        return Process(
            slot,
            settings,
            proxy,
            mutant=self._mutant,
            module=self._modules.get(slot, self._worker),
        )

    def replace(self, process: Process) -> None:
        """Kill a process and start another in its place."""
        process.kill()
        self._timeline.lives[process.settings.writer] = (process.slot, time.monotonic())
        self.processes[process.slot] = self._start(process.slot)

    def ask(self, word: str) -> dict[int, dict[str, Any]]:
        """Send a word to all and gather their answers by the number of the writer."""
        for process in self.processes:
            process.tell(word)
        return {process.settings.writer: process.answer() for process in self.processes}

    def ops(self) -> Iterator[Op]:
        """Read back what all processes did, the dead ones too."""
        for log in sorted(self._directory.glob("*.log")):
            writer, thread, _ = log.name.split(".")
            yield from read_log(log, int(writer), int(thread))

    def stop(self) -> None:
        """End everything."""
        for process in self.processes:
            process.kill()
        for proxy in self._proxies:
            proxy.stop()
