"""
A program that is run for somebody: started, watched, told of the signals that reach its starter.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Final

# What a terminal sends to all of its foreground group, and so to the program itself.
_FROM_TERMINAL: Final = frozenset(["SIGINT", "SIGQUIT"])
_PASSED_ON: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
# Those of them for which Python has no exception.
_ENDING: Final = ("SIGTERM", "SIGHUP")
_SIGNALLED: Final = 128


def run_program(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    tick: Callable[[], None] | None = None,
    every_s: float = 0.5,
) -> int:
    """
    Run *command* to its end, with this process's own input and output, and call *tick* now and then.

    Returns its exit code; of a program that a signal ended, 128 and the signal's number, as shells do.

    Raises:
        OSError: It cannot be started.
    """
    with _passing_on() as started:
        process = subprocess.Popen(command, env=dict(environment))  # noqa: S603 - what the user typed
        started(process)
        while process.returncode is None:
            try:
                process.wait(None if tick is None else every_s)
            except subprocess.TimeoutExpired:
                if tick is not None:
                    tick()
    return process.returncode if process.returncode >= 0 else _SIGNALLED - process.returncode


@contextmanager
def _passing_on() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """
    Signals that come while the block lasts go on to the program, those that came before its start, too.

    What this process ignores, as under `nohup`, the program ignores as well.
    """
    processes: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def pass_on(signal_: int, _: FrameType | None) -> None:
        if processes:
            _send(processes[0], signal_)
        else:
            early.append(signal_)

    def start(process: subprocess.Popen[bytes]) -> None:
        processes.append(process)
        for signal_ in early:
            _send(process, signal_)

    with _handling(_PASSED_ON, pass_on):
        yield start


@contextmanager
def ending_tidily() -> Iterator[None]:
    """
    Signals that end this process end the block first, so that what it made is cleared away.
    """

    def leave(signal_: int, _: FrameType | None) -> None:
        raise SystemExit(_SIGNALLED + signal_)

    with _handling(_ENDING, leave):
        yield


@contextmanager
def _handling(names: Sequence[str], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {}
    for name in names:
        number = getattr(signal, name, None)  # Windows has but two
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _send(process: subprocess.Popen[bytes], signal_: int) -> None:
    if signal.Signals(signal_).name in _FROM_TERMINAL and _is_in_foreground():
        return
    process.send_signal(signal_)


def _is_in_foreground() -> bool:
    """
    Whether a key pressed in the terminal reaches this process and its children alike.
    """
    if not hasattr(os, "tcgetpgrp"):
        return True  # a Windows console tells all that share it
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
