"""
Frames of `application/vnd.amazon.eventstream`, as Bedrock sends them.

It only encodes; clients decode, and check both CRCs.

    total length | headers length | prelude CRC | headers | payload | message CRC
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from struct import Struct
from typing import Final
from zlib import crc32

_PRELUDE: Final = Struct("!II")
_CRC: Final = Struct("!I")
_STRING_HEADER_LENGTH: Final = Struct("!BH")
_STRING: Final = 7
# Prelude, its CRC and the message CRC.
_OVERHEAD: Final = 16


def event_frame(event_type: str, payload: bytes) -> bytes:
    """
    An event with a JSON payload.
    """
    return _frame(_encoded_headers("event", event_type), payload)


def exception_frame(exception_type: str, payload: bytes) -> bytes:
    """
    A modelled exception: the client raises it when it reads this far.
    """
    return _frame(_encoded_headers("exception", exception_type), payload)


def corrupted(frame: bytes) -> bytes:
    """
    The frame with a message CRC that does not match it.
    """
    return frame[:-1] + bytes([frame[-1] ^ 0xFF])


def _frame(headers: bytes, payload: bytes) -> bytes:
    prelude = _PRELUDE.pack(_OVERHEAD + len(headers) + len(payload), len(headers))
    message = prelude + _CRC.pack(crc32(prelude)) + headers + payload
    return message + _CRC.pack(crc32(message))


@lru_cache(maxsize=64)
def _encoded_headers(message_type: str, name: str) -> bytes:
    headers: Mapping[str, str] = {
        f":{message_type}-type": name,
        ":content-type": "application/json",
        ":message-type": message_type,
    }
    return b"".join(
        bytes([len(key)]) + key.encode() + _STRING_HEADER_LENGTH.pack(_STRING, len(value)) + value.encode()
        for key, value in headers.items()
    )
