"""
Bedrock's prompt cache, in memory and on a clock the test can turn.

The longest live prefix is read, the rest up to the last cache point is written
with the lifetime of its points, what follows is plain input:

    |--- read ---|--- written 1h ---|--- written 5m ---|--- input ---|
                 ^ longest live      ^ points of this request

It has no look-back limit and no delay between a write and the first read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from threading import Lock
from typing import Final

from bedrock_guard.testing.loopback.prompt import Part, tokens

_LIFETIMES_S: Final = {"5m": 300.0, "1h": 3600.0}
# Dead prefixes are swept when the cache has grown past this.
_SWEEP_ABOVE: Final = 10_000


@dataclass(frozen=True, slots=True)
class CacheUse:
    """
    The tokens of one prompt, by what the cache did with them.
    """

    uncached: int
    read: int = 0
    written_5m: int = 0
    written_1h: int = 0


@dataclass(frozen=True, slots=True)
class _Prefix:
    expires_at: float
    lifetime_s: float


class PromptCache:
    """
    Prefixes by model; a read renews what it reads.

    Args:
        clock: Seconds, from any origin.
        minimum_tokens: Shorter prefixes are not cached, and nothing says so.
    """

    def __init__(self, clock: Callable[[], float], *, minimum_tokens: int = 1024) -> None:
        self._clock = clock
        self._minimum_tokens = minimum_tokens
        self._prefixes: dict[bytes, _Prefix] = {}
        self._lock = Lock()

    def use(self, model_id: str, parts: Sequence[Part]) -> CacheUse:
        """
        Read and write the cache for one prompt.
        """
        ends = list(_ends(parts))
        total = ends[-1] if ends else 0
        points = [
            index
            for index, part in enumerate(parts)
            if part.cache_ttl and ends[index] >= self._minimum_tokens
        ]
        if not points:
            return CacheUse(uncached=total)
        keys = list(_keys(model_id, parts[: points[-1] + 1]))
        now = self._clock()
        written = dict.fromkeys(_LIFETIMES_S, 0)
        with self._lock:
            found = self._read(keys, now)
            read = done = ends[found] if found >= 0 else 0
            for point in points:
                if point > found:
                    ttl = parts[point].cache_ttl or "5m"
                    written[ttl] += ends[point] - done
                    done = ends[point]
                    self._write(keys[point], now, _LIFETIMES_S[ttl])
        return CacheUse(total - done, read, written["5m"], written["1h"])

    def clear(self) -> None:
        """
        Forget every prefix.
        """
        with self._lock:
            self._prefixes.clear()

    def _read(self, keys: Sequence[bytes], now: float) -> int:
        live = [index for index, key in enumerate(keys) if self._lives(key, now)]
        for index in live:
            self._write(keys[index], now, self._prefixes[keys[index]].lifetime_s)
        return live[-1] if live else -1

    def _lives(self, key: bytes, now: float) -> bool:
        prefix = self._prefixes.get(key)
        return prefix is not None and now < prefix.expires_at

    def _write(self, key: bytes, now: float, lifetime_s: float) -> None:
        if len(self._prefixes) > _SWEEP_ABOVE:
            self._prefixes = {key: it for key, it in self._prefixes.items() if now < it.expires_at}
        self._prefixes[key] = _Prefix(now + lifetime_s, lifetime_s)


def _ends(parts: Sequence[Part]) -> Iterator[int]:
    text_bytes = images = 0
    for part in parts:
        text_bytes += part.text_bytes
        images += part.images
        yield tokens(text_bytes, images)


def _keys(model_id: str, parts: Sequence[Part]) -> Iterator[bytes]:
    digest = sha256(model_id.encode())
    for part in parts:
        digest.update(json.dumps(part.identity, sort_keys=True).encode() + b"\n")
        yield digest.digest()
