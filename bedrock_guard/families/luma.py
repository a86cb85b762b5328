"""
Luma Ray: videos of 5 or 9 seconds, by StartAsyncInvoke only, billed by the second.

The resolution that is asked for changes its price, not its meter: price the dearer. The
list has no price for it; an account that uses it names one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bedrock_guard.families.beside_tokens import Beside, how_many
from bedrock_guard.families.dialect import Dialect
from bedrock_guard.meters import media

_SECONDS: Final = media.OUTPUT_VIDEO_SECONDS.name
# AWS documents no default.
_LONGEST_S: Final = 9
# A duration with more of them is none.
_MOST_DIGITS: Final = 7


def _read_duration(body: Mapping[str, Any]) -> Beside:
    duration = body.get("duration")
    digits = duration.removesuffix("s") if isinstance(duration, str) else ""
    if digits.isdecimal() and len(digits) <= _MOST_DIGITS:
        duration = int(digits)
    return Beside({_SECONDS: how_many(duration, default=_LONGEST_S, most=_LONGEST_S)})


LUMA: Final = Dialect(
    name="luma", beside=_read_duration, most_beside=Beside({_SECONDS: _LONGEST_S}), generates=False
)
