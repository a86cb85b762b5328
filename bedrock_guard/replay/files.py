"""
Where logs are: files, folders as S3 has them, standard input; packed by gzip or not.

Of a file no more than a line is kept, and of a line no more than a record can be. One that is damaged is read
as far as it goes.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from bedrock_guard.batches.files import read_lines
from bedrock_guard.errors import ConfigurationError

STDIN: Final = "-"

_GZIP: Final = b"\x1f\x8b"
# Bodies that were too large for their record, which names them, and what proves that Bedrock may write.
_NO_LOG: Final = re.compile(
    r"(^|/)data/[^/]*_(input|output)\.(json|bin)(\.gz)?$|amazon-bedrock-logs-permission-check"
)


class LogFile(NamedTuple):
    """
    One file of records, and its size in bytes; 0 where that is not known.
    """

    name: str
    path: Path | None
    size: int


class Damage(Exception):
    """
    A file cannot be read any further; the text says why.
    """


def find_files(places: Sequence[str]) -> list[LogFile]:
    """
    The files at *places*, each once, those of a folder by name, with those of the folders in it.

    Raises:
        ConfigurationError: There is nothing, or it may not be looked at.
    """
    found: dict[str, LogFile] = {}
    for place in places:
        if place == STDIN:
            found[STDIN] = LogFile("standard input", None, 0)
            continue
        try:
            for path in _paths(Path(place)):
                found.setdefault(str(path.resolve()), LogFile(str(path), path, path.stat().st_size))
        except OSError as error:
            raise ConfigurationError(f"{place!r} cannot be read: {error.strerror}.") from None
    return list(found.values())


def open_lines(
    file: LogFile, stdin: BinaryIO, tell: Callable[[int], None] = lambda _: None
) -> Iterator[bytes]:
    """
    The lines of *file*, unpacked; *tell* hears of bytes that were read of it.

    Raises:
        Damage: After the last line that could be read.
    """
    raw: BinaryIO | None = None
    try:
        raw = stdin if file.path is None else file.path.open("rb")
        counted = io.BufferedReader(_Counted(raw, tell))
        is_packed = counted.peek(len(_GZIP))[: len(_GZIP)] == _GZIP
        yield from read_lines(_Unpacked(gzip.GzipFile(fileobj=counted)) if is_packed else counted)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Damage(f"it cannot be unpacked any further: {error}") from None
    except OSError as error:
        raise Damage(f"it cannot be read: {error.strerror or error}") from None
    finally:
        if raw is not None and file.path is not None:
            raw.close()


class _Counted(io.RawIOBase):
    """
    Tells how much is read of another.
    """

    def __init__(self, file: BinaryIO, tell: Callable[[int], None]) -> None:
        super().__init__()
        self._file = file
        self._tell = tell

    def readable(self) -> bool:
        """
        As it is.
        """
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """
        Read what is there, at most what *buffer* takes.
        """
        piece = self._file.read(len(buffer))
        buffer[: len(piece)] = piece
        self._tell(len(piece))
        return len(piece)


class _Unpacked:
    """
    What was packed, piece by piece: who asks for whole ones gets nothing of the last before damage.
    """

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        """
        At most *size* bytes, as many as one step gives; none at the end.
        """
        return self._file.read1(size)


def _paths(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(each for each in path.rglob("*") if each.is_file() and not _is_no_log(each))
    elif path.exists():  # a named pipe is as good
        yield path
    else:
        raise ConfigurationError(f"There is no file {str(path)!r}.")


def _is_no_log(path: Path) -> bool:
    """
    Whether Bedrock writes *path* beside its records.
    """
    return _NO_LOG.search(path.as_posix()) is not None
