"""
The status line of a run, on a terminal made for the test.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import pytest

from bedrock_guard.cli.bottom_line import BottomLine, has_bottom_line


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, TextIO]]:
    monkeypatch.setenv("TERM", "xterm")
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as stream:
        yield master, stream
    os.close(master)


def resize(stream: TextIO, rows: int, columns: int) -> None:
    fcntl.ioctl(stream.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def read(master: int, stream: TextIO) -> str:
    """
    All that was written; a terminal hands it on when it likes.
    """
    stream.write("END")
    stream.flush()
    written = ""
    while not written.endswith("END"):
        written += os.read(master, 4096).decode()
    return written.removesuffix("END")


def test_the_line_is_below_what_scrolls_and_leaves_no_trace(terminal: tuple[int, TextIO]) -> None:
    """
    A region that is left behind would spoil the terminal of whoever runs us.
    """
    master, stream = terminal
    resize(stream, 20, 10)

    with BottomLine(stream) as line:
        line.show("run: 1 USD of 5")
        line.show("x")
    written = read(master, stream)

    assert written == (
        "\r\n\x1b7\x1b[1;19r\x1b8\x1b[1A"
        "\x1b7\x1b[20;1H\x1b[7m run: 1 US\x1b[0m\x1b8"
        "\x1b7\x1b[20;1H\x1b[7m x        \x1b[0m\x1b8"
        "\x1b7\x1b[r\x1b[20;1H\x1b[2K\x1b8"
    )


def test_a_terminal_of_another_height_gets_another_region(terminal: tuple[int, TextIO]) -> None:
    """
    Windows are resized while a program runs; in one too small for it there is no line.
    """
    master, stream = terminal
    with BottomLine(stream) as line:
        resize(stream, 4, 10)
        line.show("x")
        stream.write("none")
        resize(stream, 9, 10)
        line.show("x")
        resize(stream, 12, 10)
        line.show("x")
    written = read(master, stream)

    assert written.startswith("none\r\n\x1b7\x1b[1;8r")
    assert "\x1b[1;11r" in written
    assert written.endswith("\x1b[12;1H\x1b[2K\x1b8")


def test_a_terminal_that_is_gone_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A window is closed, and the program in it goes on, as under nohup.
    """
    monkeypatch.setenv("TERM", "xterm")
    master, slave = os.openpty()
    stream = os.fdopen(slave, "w")
    resize(stream, 20, 10)
    with BottomLine(stream) as line:
        line.show("x")
        os.close(master)
        line.show("y")
    with suppress(OSError):
        stream.close()


def test_there_is_none_where_nobody_looks(
    terminal: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    In a log, escapes are litter.
    """
    _, stream = terminal
    with Path(os.devnull).open("w") as piped:
        assert not has_bottom_line(piped)
    assert has_bottom_line(stream)
    monkeypatch.setenv("TERM", "dumb")
    assert not has_bottom_line(stream)
