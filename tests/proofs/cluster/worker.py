"""The worker of the process test; it also notes when its L1 was not in use."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.proofs.processes import worker
from tests.proofs.processes.history import Log
from tests.rig import engine_of

if TYPE_CHECKING:
    from tests.proofs.processes.worker import Settings

L1_OFF: Final = "l1-off"
"""The kind of the call that stands for a time without L1."""
SAMPLE_S: Final = 0.01


class ClusterWorker(worker.Worker):
    """The threads, and the answers to the driver."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        number = settings.threads + 1  # the load's threads, and that of the driver
        self._off_log = Log(Path(settings.directory, f"{settings.writer}.{number}.log"))
        self._watching = threading.Thread(target=self._watch, daemon=True)
        self._watching.start()

    def _watch(self) -> None:
        """Note each time in which L1 answers nothing."""
        engine = engine_of(self._cache)
        off_since: float | None = time.monotonic()
        while not self._is_over.wait(SAMPLE_S):
            now = time.monotonic()
            is_on = engine.rules.is_on(engine.clock())
            if is_on and off_since is not None:
                self._off_log.read(L1_OFF, off_since, now, ())
                self._off_log.flush()  # it may be killed
                off_since = None
            elif not is_on and off_since is None:
                off_since = now
        if off_since is not None:
            self._off_log.read(L1_OFF, off_since, time.monotonic(), ())
        self._off_log.close()

    def _stop(self) -> dict[str, Any]:
        answer = super()._stop()
        self._watching.join()
        return answer


if __name__ == "__main__":
    worker.main(ClusterWorker)
