"""
From files to findings: read once, sorted by time, played.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from bedrock_guard.errors import UnpricedModel
from bedrock_guard.replay.documents import read_documents
from bedrock_guard.replay.files import Damage, LogFile, open_lines
from bedrock_guard.replay.findings import Findings
from bedrock_guard.replay.playing import Played, Player
from bedrock_guard.replay.records import LoggedCall, RecordReader, UnreadableRecord, unwrap
from bedrock_guard.replay.sorting import SortedCalls


def replay(
    player: Player,
    findings: Findings,
    files: Iterable[LogFile],
    *,
    stdin: BinaryIO,
    tell_read: Callable[[int], None] = lambda _: None,
    tell_played: Callable[[int, int], None] = lambda _, __: None,
    see: Callable[[LoggedCall, Played], None] = lambda _, __: None,
) -> None:
    """
    Play all calls in *files* through *player* into *findings*.

    *tell_read* hears of bytes that were read, *tell_played* of calls that were played, out of how many, and
    *see* of each call.

    Raises:
        SortingFailed: There is no room on the disk for what is sorted.
    """
    reader = RecordReader(player.planner, keeps_fingerprints=player.sees_requests)
    with SortedCalls() as calls:
        for file in files:
            findings.files += 1
            _read(file, reader, calls, findings, stdin=stdin, tell=tell_read)
        for number, logged in enumerate(calls, 1):
            tell_played(number, calls.count)
            try:
                played = player.play(logged)
            except UnpricedModel as error:
                findings.add_problem(logged.place, str(error).partition("\n")[0])
                continue
            findings.add(played, has_request=logged.has_request)
            see(logged, played)


def _read(
    file: LogFile,
    reader: RecordReader,
    calls: SortedCalls,
    findings: Findings,
    *,
    stdin: BinaryIO,
    tell: Callable[[int], None],
) -> None:
    line = 0
    try:
        for document in read_documents(open_lines(file, stdin, tell)):
            line = document.line
            place = f"{file.name}:{line}"
            if document.problem:
                findings.add_problem(place, document.problem)
            else:
                _take(document.value, place, reader, calls, findings)
    except Damage as error:
        findings.add_problem(f"{file.name}:{line + 1}", str(error))


def _take(value: Any, place: str, reader: RecordReader, calls: SortedCalls, findings: Findings) -> None:
    for record in unwrap(value):
        try:
            findings.twice += not calls.add(reader.read(record, place))
        except UnreadableRecord as error:
            findings.add_problem(place, str(error))
