"""
The files of a batch, on disk or in S3, read line by line: of no file more than a line is kept.

S3 is asked by a client that the caller makes, and only where a place is in S3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from bedrock_guard.errors import ConfigurationError

MakeClient: TypeAlias = Callable[[], Any]
"""Makes a client of S3."""

_SCHEME: Final = "s3://"
_PIECE_BYTES: Final = 1 << 16
_MISSING: Final = frozenset(["NoSuchKey", "404", "NotFound"])
# A manifest is a line of figures.
_MANIFEST_BYTES: Final = 1 << 20


class InputFile(NamedTuple):
    """
    One file that is being read.

    Attributes:
        name: Its path or URI, of an object with its ETag and version: it may be replaced afterwards.
        size: In bytes.
    """

    name: str
    size: int
    lines: Iterable[bytes]


class MissingFile(ConfigurationError):
    """
    There is no such file.
    """


def open_files(place: str, make_client: MakeClient) -> Iterator[InputFile]:
    """
    The file at *place*, or those in the folder that it is; each is to be read before the next.

    Raises:
        ConfigurationError: It cannot be read; the text says what the store says.
    """
    return _open_objects(place, make_client()) if place.startswith(_SCHEME) else _open_local(Path(place))


def size_of(place: str, make_client: MakeClient) -> int:
    """
    How many bytes are at *place*, of all files together.

    Raises:
        ConfigurationError: As `open_files`.
    """
    if not place.startswith(_SCHEME):
        return sum(path.stat().st_size for path in _local_paths(Path(place)))
    bucket, key = _split(place)
    client = make_client()
    with Told(place):
        return sum(int(found["Size"]) for found in _listed(client, bucket, key))


def read_whole(place: str, make_client: MakeClient) -> bytes:
    """
    The one file at *place*.

    Raises:
        MissingFile: There is none.
        ConfigurationError: It cannot be read.
    """
    with Told(place):
        if place.startswith(_SCHEME):
            bucket, key = _split(place)
            content: bytes = make_client().get_object(Bucket=bucket, Key=key)["Body"].read(_MANIFEST_BYTES)
            return content
        with Path(place).open("rb") as file:
            return file.read(_MANIFEST_BYTES)


def _open_objects(place: str, client: Any) -> Iterator[InputFile]:
    bucket, key = _split(place)
    with Told(place):
        names = [found["Key"] for found in _listed(client, bucket, key)]
    for name in names:
        with Told(f"{_SCHEME}{bucket}/{name}"):
            found = client.get_object(Bucket=bucket, Key=name)
            version = f" {found['VersionId']}" if found.get("VersionId") else ""
            title = f"{_SCHEME}{bucket}/{name} {found.get('ETag', '')}{version}"
            yield InputFile(title, int(found["ContentLength"]), found["Body"].iter_lines(_PIECE_BYTES))


def _listed(client: Any, bucket: str, key: str) -> list[dict[str, Any]]:
    """
    The object of that key, else those in the folder of that name. Those of no length are how consoles
    keep a folder.
    """
    is_folder = not key or key.endswith("/")
    if not is_folder:
        try:
            found = client.head_object(Bucket=bucket, Key=key)
            return [{"Key": key, "Size": found["ContentLength"]}]
        except Exception as error:
            if _code(error) not in _MISSING:
                raise
    prefix = key if is_folder else f"{key}/"
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    listed = [found for page in pages for found in page.get("Contents", ()) if found["Size"]]
    if not listed:
        raise MissingFile(f"There is no file at {_SCHEME}{bucket}/{key}.")
    return listed


def _split(place: str) -> tuple[str, str]:
    bucket, _, key = place.removeprefix(_SCHEME).partition("/")
    if not bucket:
        raise ConfigurationError(f"{place!r} is no place in S3: s3://bucket/folder/file.jsonl.")
    return bucket, key


def _open_local(path: Path) -> Iterator[InputFile]:
    with Told(str(path)):
        for each in _local_paths(path):
            with each.open("rb") as file:
                yield InputFile(str(each), each.stat().st_size, file)


def _local_paths(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(each for each in path.rglob("*") if each.is_file())
    if not path.is_file():
        raise MissingFile(f"There is no file {str(path)!r}.")
    return [path]


def _code(error: BaseException) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


class Told:
    """
    Whatever fails inside becomes an error that names the place; no SDK's errors are known here.
    """

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, ConfigurationError):
            return
        if isinstance(error, FileNotFoundError) or _code(error) in _MISSING:
            raise MissingFile(f"There is no file {self._place!r}.") from error
        raise ConfigurationError(f"{self._place!r} cannot be read: {error}") from error
