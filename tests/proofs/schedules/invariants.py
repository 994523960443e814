"""What must hold in every state, by the numbers of the coherence protocol.

A ``Witness`` sees a run from outside, keeps what each process is entitled to, and asks
after every step what an L1 hit would answer at this very moment.

I1  (``_at_rest``) at rest every live entry of L1 is what L2 holds.
I2  (``_version``) a value was written to that key before it is seen.
I3  (``_compare_floor``) no process reads what is older than a write it has completed,
I4  ... or than what it has read,
I5  ... or than a message it has handled; such a message leaves no copy (``hears``).
I6  (``stored``) a fill stores only if nothing has disturbed the key since it began.
I7  (``_own_writes``, ``fails``) no entry during an own write, nor after a failed one.
I8  (``hears``) a process ignores a message only if its entry is from that very write.
I11 (``_trust``, ``_hit``) L1 answers only between acknowledgement and break, within the
    trust that counts from the sending of a heartbeat; never with what is older than
    that heartbeat, or was replaced longer ago than trust lasts.
I12 (``_hit``) an entry does not outlive what L2 holds, also after ``touch``.
I16 (``_activities``) no activity without a running operation, also after cancellation.
I23 (``returns``) no process reads what is older than L2 was when its ``add`` won.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachebridge.core.entry import EXPIRES, MISSING, WRITE_ID, is_expired
from cachebridge.core.write import Write
from tests.proofs.schedules.actors import REPLIED, SENT
from tests.proofs.schedules.orders import BrokenInvariantError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cachebridge.core.entry import Entry
    from tests.proofs.schedules.actors import Envelope, Process, Thread
    from tests.proofs.schedules.world import World

ALL = frozenset(f"I{number}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 16, 23))
AT_REST = frozenset({"I1"})
"""Only what is wrong for good, not what is wrong for a while."""
SEEN = frozenset({"I1", "I2", "I3", "I4", "I5", "I11", "I12", "I23"})
"""What a caller can see, without I6, I7, I8 and I16, which speak of the inside."""
PRECISION_S = 1e-6


class Witness:
    """Keeps what every process may expect, and checks it."""

    def __init__(self, world: World, watch: frozenset[str]) -> None:
        self._world = world
        self._watch = watch
        self._keys = world.scenario.watched
        self._trust_s = world.scenario.options.bus_trust
        processes = range(len(world.processes))
        self._floors = [dict.fromkeys(self._keys, 0) for _ in processes]
        self._why = [dict.fromkeys(self._keys, "I2") for _ in processes]
        self._vouched = [dict.fromkeys(self._keys, 0) for _ in processes]
        self._subscribed = [False for _ in processes]
        self._trusted_until = [0.0 for _ in processes]
        self.hits = False
        """Whether some process would answer from L1 in this state."""

    def key(self) -> tuple[Any, ...]:
        """Return what the judgements to come depend on, but for their wording."""
        now = self._world.now
        return (
            tuple(tuple(floors.values()) for floors in self._floors),
            tuple(tuple(vouched.values()) for vouched in self._vouched),
            tuple(self._subscribed),
            tuple(max(until - now, 0.0) for until in self._trusted_until),
        )

    def _demand(self, holds: object, number: str, text: str, *args: object) -> None:
        if not holds and number in self._watch:
            raise BrokenInvariantError(f"{number}: {text % args}")

    # -- what the world reports --------------------------------------------------------

    def begins(self, thread: Thread) -> None:
        thread.floors = dict(self._floors[thread.process.index])

    def disturbs(self, process: Process, keys: Iterable[str]) -> None:
        """From now on no fill that is open may store one of the keys."""
        for thread in self._world.threads:
            if thread.process is process and thread.has_begun():
                thread.disturbed.update(keys)

    def stored(self, thread: Thread, key: str, entry: Entry) -> None:
        """See an entry come into being in a step of the thread."""
        self._demand(
            entry[WRITE_ID] or key not in thread.disturbed,
            "I6",
            "%s stored what it read before something happened to %r",
            thread.title,
            key,
        )

    def returns(self, thread: Thread, seen: dict[str, Any]) -> None:
        """See an operation return, with these values."""
        process, operation = thread.process, thread.operation
        for key, value in seen.items():
            self._compare_floor(process, key, value, thread.floors[key], "returned")
            self._raise_floor(
                process, key, self._first_after(process, key, value), "I4"
            )
        if operation.is_write:
            self.disturbs(process, operation.keys)
            for key, version in thread.versions.items():
                self._raise_floor(process, key, version, "I3")
            for key in self._keys:
                self._raise_floor(process, key, thread.decided.get(key, 0), "I23")

    def fails(self, thread: Thread) -> None:
        """See an operation raise L2Error, or be cancelled."""
        process, operation = thread.process, thread.operation
        if not operation.is_write or not thread.has_begun():
            return
        if operation.letter == "P" and thread.request[0] != "delete":
            return  # it has yet to change the key, or has told of it
        self.disturbs(process, operation.keys)
        for key in operation.keys:
            left = process.engine.l1.look(key)
            self._demand(
                left is None, "I7", "%s failed and left %r", thread.title, left
            )

    def hears(self, process: Process, envelope: Envelope) -> None:
        """See that a process has handled the message of an operation."""
        operation = envelope.operation
        assert operation is not None
        own = operation.process == process.index
        if not own:
            self.disturbs(process, operation.keys)
        for key in operation.keys:
            entry = process.engine.l1.look(key)
            if entry is not None:
                value = process.copies.value_of(entry)
                self._demand(
                    own and value == operation.value,
                    "I8" if own else "I5",
                    "P%d handled the message of %s and kept %r",
                    process.index,
                    operation,
                    value,
                )
            if key in envelope.versions:
                self._raise_floor(process, key, envelope.versions[key], "I5")

    def hears_heartbeat(self, process: Process, envelope: Envelope) -> None:
        index = process.index
        self._vouched[index] = {key: envelope.versions[key] for key in self._keys}
        until = envelope.sent_at + self._trust_s
        self._trusted_until[index] = max(self._trusted_until[index], until)

    def subscribes(self, process: Process) -> None:
        self._subscribed[process.index] = True
        self.disturbs(process, self._keys)

    def loses_bus(self, process: Process) -> None:
        self._subscribed[process.index] = False
        self._trusted_until[process.index] = 0.0
        self.disturbs(process, self._keys)

    # -- versions ----------------------------------------------------------------------

    def _version(self, key: str, value: Any) -> int:
        """Return the newest version of the key with this value."""
        versions = self._world.history[key]
        for index in range(len(versions) - 1, -1, -1):
            if versions[index].value == value:
                return index
        if value is MISSING and versions[-1].deadline <= self._world.now:
            return len(versions) - 1
        self._demand(False, "I2", "%r was never written to %r", value, key)
        return len(versions) - 1

    def _first_after(self, process: Process, key: str, value: Any) -> int:
        """Return the oldest version with this value that the process may see."""
        floor = self._floors[process.index][key]
        versions = self._world.history[key]
        for index in range(floor, len(versions)):
            if versions[index].value == value:
                return index
        return floor

    def _raise_floor(self, process: Process, key: str, version: int, why: str) -> None:
        floors = self._floors[process.index]
        if version > floors[key]:
            floors[key] = version
            self._why[process.index][key] = why

    def _compare_floor(
        self, process: Process, key: str, value: Any, floor: int, verb: str
    ) -> None:
        self._demand(
            self._version(key, value) >= floor,
            self._why[process.index][key],
            "P%d %s %r, but knew %r already",
            process.index,
            verb,
            value,
            self._world.history[key][floor].value,
        )

    # -- after every step --------------------------------------------------------------

    def checks(self) -> None:
        """Raise BrokenInvariantError if the state as it is breaks an invariant."""
        self.hits = False
        at_rest = self._world.is_at_rest()
        for process in self._world.processes:
            if not process.dead:
                self._trust(process)
                self._own_writes(process)
                self._check_activities(process)
                for key in self._keys:
                    self._hit(process, key)
                    if at_rest:
                        self._at_rest(process, key)

    def _trust(self, process: Process) -> None:
        rules, now, index = process.engine.rules, self._world.now, process.index
        may = self._subscribed[index] and now < self._trusted_until[index]
        is_on = rules.is_on(now) or now < rules.gate.until
        self._demand(may or not is_on, "I11", "P%d trusts L1 without reason", index)

    def _own_writes(self, process: Process) -> None:
        for thread in self._world.threads:
            if (
                thread.process is process
                and thread.stage in (SENT, REPLIED)
                and isinstance(thread.context, Write)
            ):
                for key in thread.context.keys:
                    self._demand(
                        process.engine.l1.look(key) is None,
                        "I7",
                        "%s is writing and L1 of P%d has an entry",
                        thread.title,
                        process.index,
                    )

    def _check_activities(self, process: Process) -> None:
        running = {
            key
            for thread in self._world.threads
            if thread.process is process and thread.is_running()
            for key in thread.operation.keys
        }
        self._demand(
            running.issuperset(process.engine.rules._activities),
            "I16",
            "P%d has activities without operations",
            process.index,
        )

    def _hit(self, process: Process, key: str) -> None:
        """Judge what a read that begins now would get without asking L2."""
        value = process.value_in_l1(key)
        if value is MISSING:
            return
        self.hits = True
        index, world = process.index, self._world
        floor, vouched = self._floors[index][key], self._vouched[index][key]
        self._compare_floor(process, key, value, floor, "would hit")
        version = self._version(key, value)
        self._demand(
            version >= vouched,
            "I11",
            "P%d hits %r, older than its heartbeat",
            index,
            value,
        )
        versions = world.history[key]
        if version + 1 < len(versions):
            self._demand(
                versions[version + 1].since >= world.now - self._trust_s,
                "I11",
                "P%d hits %r, replaced longer ago than the trust lasts",
                index,
                value,
            )
        allowed = [v.deadline for v in versions[floor:] if v.value == value]
        entry = process.engine.l1.look(key)
        self._demand(
            entry is None
            or not allowed
            or entry[EXPIRES] <= max(allowed) + PRECISION_S,
            "I12",
            "P%d holds %r for longer than L2 does",
            index,
            value,
        )

    def _at_rest(self, process: Process, key: str) -> None:
        entry = process.engine.l1.look(key)
        if entry is None or is_expired(entry, self._world.now):
            return
        value = process.copies.value_of(entry)
        item = self._world.server.peek(key)
        newest = MISSING if item is None else self._world.history[key][-1].value
        self._demand(
            value == newest,
            "I1",
            "at rest L1 of P%d has %r and L2 has %r",
            process.index,
            value,
            newest,
        )

    def checks_nothing_runs(self) -> None:
        """Every operation was cancelled: nothing may be left of any."""
        for process in self._world.processes:
            engine = process.engine
            self._demand(
                process.dead
                or (engine.rules.is_idle() and engine.single_flight.is_idle()),
                "I16",
                "P%d has activities after its operations were cancelled",
                process.index,
            )
