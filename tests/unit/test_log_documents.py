"""
JSON documents out of logs, however they were written and whatever became of them.
"""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard.errors import ConfigurationError
from bedrock_guard.replay import documents
from bedrock_guard.replay.documents import read_documents
from bedrock_guard.replay.files import Damage, LogFile, find_files, open_lines

A = {"schemaType": "ModelInvocationLog", "input": {"text": 'a "[{" \\ b', "events": [{"x": [1]}]}}
B = {"schemaType": "ModelInvocationLog", "n": [[], [{}]]}


def read(text: str | bytes) -> list[tuple[int, Any, str]]:
    given = text.encode() if isinstance(text, str) else text
    return [tuple(each) for each in read_documents(given.split(b"\n"))]


def values(text: str | bytes) -> list[Any]:
    found = read(text)
    assert [problem for _, _, problem in found if problem] == []
    return [value for _, value, _ in found]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    "wrap",
    [
        "{0}\n{1}",
        "[{0},\n{1}]",
        "[\n{0},\n{1}\n]",
        '{{"events": [\n{0},\n{1}\n], "searchedLogStreams": [{{"a": 1}}], "nextToken": null}}',
        '{{\n"searchedLogStreams": [],\n"events": [{0}, {1}]\n}}',
    ],
)
def test_records_are_found_in_whatever_they_are_wrapped(wrap: str, indent: int | None) -> None:
    """
    One a line, one after the other, in an array, or as `aws logs filter-log-events` prints them.
    """
    text = wrap.format(json.dumps(A, indent=indent), json.dumps(B, indent=indent))

    found = values(text)

    flat = [each for value in found for each in (value if isinstance(value, list) else [value])]
    flat = [each for value in flat for each in (value["events"] if "nextToken" in value else [value])]
    assert flat == [A, B]


def test_lines_that_begin_with_a_moment() -> None:
    """
    As exports to S3 and `aws logs tail` write them; a mark of byte order is none of it.
    """
    moment = "2026-11-20T08:00:00.000Z stream "

    assert values(f"{moment}{json.dumps(A)}\n\n{moment}{json.dumps(B)}") == [A, B]
    assert values(b"\xef\xbb\xbf" + json.dumps(A).encode()) == [A]


def test_a_line_that_is_damaged_costs_itself_alone() -> None:
    """
    The first too, and one that is cut where a document over several lines would go on.
    """
    whole = json.dumps(B)

    for broken in (json.dumps(A)[:-5], '{"schemaType": "x", "input": {', "words", b"\xff{".decode("latin1")):
        assert [(number, value) for number, value, _ in read(f"{broken}\n{whole}\n{whole}")][-2:] == [
            (2, B),
            (3, B),
        ]
        assert [problem != "" for _, _, problem in read(f"{broken}\n{whole}")] == [True, False]
        assert [problem != "" for _, _, problem in read(f"{whole}\n{broken}\n{whole}")] == [
            False,
            True,
            False,
        ]


def test_documents_with_nothing_between_them() -> None:
    """
    As Firehose writes what CloudWatch Logs hands it; the last of them may be cut.
    """
    a, b = json.dumps(A), json.dumps(B)

    assert read(f"{a}{b}") == [(1, A, ""), (1, B, "")]
    assert read(f"{a}\n{b} {a}\n{b}") == [(1, A, ""), (2, B, ""), (2, A, ""), (3, B, "")]
    assert read(f"{a}{b[:-1]}\n{b}") == [(1, A, ""), (1, None, "no JSON: it ends too early"), (2, B, "")]
    assert [problem != "" for _, _, problem in read(f"{a} x\n{b}")] == [True, False]


def test_what_is_told_of_damage_is_never_what_was_written() -> None:
    """
    It may be a prompt.
    """
    for text in (
        '{"secret',
        '{"a": secret}',
        b'{"a": "\xffsecret"}',
        '{"a": ' + "9" * 5000 + "}",
        "[" * 100_000,
    ):
        (told,) = [problem for _, _, problem in read(text)]
        assert told.startswith("no JSON: ")
        assert "secret" not in told


@pytest.mark.parametrize("cut", [3, 40, -3])
def test_a_document_over_lines_that_ends_too_early(cut: int) -> None:
    """
    It is told by the line that it begins on.
    """
    found = read(json.dumps(A, indent=1)[:cut])

    assert [(number, problem) for number, _, problem in found] == [(1, "no JSON: it ends too early")]
    assert read("[\n{},\n{},")[-1] == (3, None, "no JSON: it ends too early")


def test_closing_what_was_never_opened() -> None:
    """
    Files that were cut at the front begin so.
    """
    found = read("[\n]]}}\n" + json.dumps(B, indent=1))

    assert found[-1] == (3, B, "")


def test_a_document_is_no_longer_than_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    And what to do is told; what follows is read on.
    """
    monkeypatch.setattr(documents, "_MOST_BYTES", 50)

    found = read(json.dumps(A, indent=1) + "\n" + json.dumps(B))

    assert "jq -c" in found[0][2]
    assert found[-1][1] == B


def test_a_folder_as_s3_has_it(tmp_path: Path) -> None:
    """
    Bodies that lie beside the records are none; a file that is named twice is read once.
    """
    hour = tmp_path / "data" / "AWSLogs" / "08"
    (hour / "data").mkdir(parents=True)
    for name in ("b.json.gz", "a.json", "data/x_input.json.gz", "data/x_output.json.gz", "data/c.json"):
        (hour / name).write_text("{}")
    (tmp_path / "amazon-bedrock-logs-permission-check").write_text("")

    found = find_files([str(tmp_path), str(hour / "a.json"), "-"])

    assert [Path(file.name).name for file in found] == ["a.json", "b.json.gz", "c.json", "standard input"]
    assert [file.size for file in found] == [2, 2, 2, 0]


def test_places_that_are_not_there(tmp_path: Path) -> None:
    """
    A mistake in a command, not an empty log.
    """
    with pytest.raises(ConfigurationError, match=r"There is no file '.*none'\."):
        find_files([str(tmp_path / "none")])
    with pytest.raises(ConfigurationError, match=r"cannot be read: File name too long\."):
        find_files(["x" * 5000])


def test_gzip_is_known_by_what_it_is(tmp_path: Path) -> None:
    """
    Whatever it is named; several in one file are as one, and bytes are counted as they lie on the disk.
    """
    packed = gzip.compress(b"a\n", mtime=0) + gzip.compress(b"b\n", mtime=0)
    path, read = tmp_path / "log.json", []
    path.write_bytes(packed)

    assert list(open_lines(LogFile("log", path, 0), io.BytesIO(), read.append)) == [b"a", b"b"]
    assert sum(read) == len(packed)
    assert list(open_lines(LogFile("-", None, 0), io.BytesIO(packed))) == [b"a", b"b"]


def test_a_damaged_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """
    Cut short, overwritten, or gone meanwhile.
    """
    packed = gzip.compress(b"".join(b"line %d\n" % number for number in range(50_000)), mtime=0)
    for broken in (
        packed[:-20],
        packed[:40_000] + b"\x00" * 4000 + packed[44_000:],
        packed[:-6] + b"\x00" * 6,
    ):
        found: list[bytes] = []
        with pytest.raises(Damage, match="cannot be unpacked any further"):
            found.extend(open_lines(LogFile("log", None, 0), io.BytesIO(broken)))
        assert found[:2] == [b"line 0", b"line 1"]
        assert len(found) > 10_000
    with pytest.raises(Damage, match="it cannot be read: No such file"):
        list(open_lines(LogFile("log", tmp_path / "gone", 0), io.BytesIO()))
