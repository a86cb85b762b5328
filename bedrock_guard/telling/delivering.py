"""
How an alert gets to its sinks: tried again where one fails, and confirmed once all have it.

A sink is somebody else's, and may hang or raise. So each is told in a thread of its own, and waited for
for a bounded time; while one hangs the others are told, and it is left alone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from bedrock_guard.domain.alert import Alert, AlertSink, ObservesEntries
from bedrock_guard.domain.alert_claim import AlertClaim
from bedrock_guard.domain.entry import Entry

log = logging.getLogger("bedrock_guard")

SEND_S: Final = 10.0
"""How long a sink may take, in seconds."""

_MOST_LACKING: Final = 10_000
# Between two tries of one alert; after the last it is left to another process, or to this one, much later.
_WAITS_S: Final = (1.0, 4.0)


@dataclass
class _Parcel:
    """
    An alert on its way.

    Attributes:
        claim: None where the ledger could not be asked: nobody is to be told that it is delivered.
        left: The sinks that do not have it.
    """

    alert: Alert
    claim: AlertClaim | None
    left: Sequence[AlertSink]
    waits_s: list[float] = field(default_factory=lambda: list(_WAITS_S))
    due_at: float = 0.0


class Deliveries:
    """
    The alerts of one guard that are on their way.
    """

    def __init__(
        self,
        sinks: Iterable[AlertSink],
        confirm: Callable[[AlertClaim], None],
        observers: Iterable[ObservesEntries] = (),
    ) -> None:
        self._sinks = tuple(sinks)
        self._observers = [*observers, *[sink for sink in self._sinks if isinstance(sink, ObservesEntries)]]
        self._confirm = confirm
        self._parcels: list[_Parcel] = []
        self._hanging: dict[int, threading.Thread] = {}
        # By the id of an alert that was given up: the sinks that do not have it.
        self._lacking: dict[str, Sequence[AlertSink]] = {}

    def __bool__(self) -> bool:
        return bool(self._parcels)

    @property
    def has_sinks(self) -> bool:
        """
        Whether there is anybody to tell.
        """
        return bool(self._sinks)

    @property
    def has_observers(self) -> bool:
        """
        Whether anybody is to be told of every call.
        """
        return bool(self._observers)

    def add(self, alert: Alert, claim: AlertClaim | None) -> None:
        """
        Deliver *alert*, at the next look; one that was given up, to those who lack it.
        """
        self._parcels.append(_Parcel(alert, claim, self._lacking.pop(alert.id, self._sinks)))

    def send_due(self) -> float:
        """
        Deliver what is due; the seconds until something will be.
        """
        for parcel in list(self._parcels):
            if time.monotonic() >= parcel.due_at and self._send(parcel):
                # They may have been forgotten meanwhile: a guard is closed by another thread.
                self._parcels = [each for each in self._parcels if each is not parcel]
        first = min((parcel.due_at for parcel in self._parcels), default=float("inf"))
        return max(0.0, first - time.monotonic())

    def observe(self, entries: Sequence[Entry]) -> None:
        """
        Tell those who want to know of *entries*; whoever fails has missed the rest of them.
        """
        for sink in self._observers:
            try:
                self._run(sink, partial(_observe_all, sink, entries))
            except Exception as error:  # noqa: BLE001 - a sink of somebody else's may raise anything
                log.warning("%s could not look at %d calls: %r", _name(sink), len(entries), error)

    def forget(self) -> None:
        """
        In a fork: what is on its way is the parent's to deliver.
        """
        self._parcels = []
        self._hanging = {}
        self._lacking = {}

    def _send(self, parcel: _Parcel) -> bool:
        """
        Whether *parcel* is done with: delivered, or given up.
        """
        failed: list[tuple[AlertSink | None, Exception]] = []
        for sink in parcel.left:
            try:
                self._run(sink, partial(sink.send, parcel.alert))
            except Exception as error:  # noqa: BLE001 - a sink of somebody else's may raise anything
                failed.append((sink, error))
        parcel.left = [sink for sink, _ in failed if sink is not None]
        if not failed and parcel.claim is not None:
            try:
                self._confirm(parcel.claim)
            except Exception as error:  # noqa: BLE001 - nor does a ledger always do what it promises
                failed.append((None, error))
        if not failed:
            return True
        names = ", ".join(f"{_name(sink)} ({error!r})" for sink, error in failed)
        if parcel.waits_s:
            parcel.due_at = time.monotonic() + parcel.waits_s.pop(0)
            log.info("An alert could not be delivered by %s; it is tried again.", names)
            return False
        log.error("An alert could not be delivered by %s: %s", names, parcel.alert.text)
        if len(self._lacking) >= _MOST_LACKING:
            self._lacking.clear()
        self._lacking[parcel.alert.id] = parcel.left
        return True

    def _run(self, sink: object, work: Callable[[], None]) -> None:
        """
        Run *work* of *sink*, for as long as it may take.

        Raises:
            TimeoutError: It takes longer; it is not asked again before that is over.
        """
        hanging = self._hanging.get(id(sink))
        if hanging is not None and hanging.is_alive():
            raise TimeoutError("it has not returned from the last one yet")
        raised: list[BaseException] = []
        thread = threading.Thread(
            target=_attempt, args=(work, raised), name="bedrock_guard alert", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the interpreter is on its way out, and starts no threads any more
            _attempt(work, raised)
        else:
            thread.join(SEND_S)
            if thread.is_alive():
                self._hanging[id(sink)] = thread
                raise TimeoutError(f"it took longer than {SEND_S:g} s")
        if raised:
            raise _Failed(repr(raised[0]))


class _Failed(Exception):
    """
    What a sink raised, whatever it was: its `sys.exit` is not ours, and its frames are not kept.
    """

    def __repr__(self) -> str:
        return str(self)


def _attempt(work: Callable[[], None], raised: list[BaseException]) -> None:
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - a cancelled task's, too: it is told where it is waited for
        raised.append(error)


def _observe_all(sink: ObservesEntries, entries: Iterable[Entry]) -> None:
    for entry in entries:
        sink.observe(entry)


def _name(sink: object) -> str:
    return "the ledger" if sink is None else type(sink).__name__
