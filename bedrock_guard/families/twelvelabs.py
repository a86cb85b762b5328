"""
TwelveLabs: Marengo embeds media, Pegasus writes about videos; both are billed by the second watched.

How long a medium lasts is not in the request, nor in any reply: it is held, and charged,
at the longest that the model takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from bedrock_guard.families.beside_tokens import Beside, BesideReader, always
from bedrock_guard.families.dialect import Dialect
from bedrock_guard.meters import media, requests

_HOUR: Final = 3_600
_QUERY: Final = {requests.QUERIES.name: 1}
# Several images beside a text; no request is larger than 25 MB.
_MOST_IMAGES: Final = 100


def _marengo(longest_s: int) -> tuple[BesideReader, Beside]:
    """
    How requests are read, and the most that one can be.
    """
    everything = {
        **_QUERY,
        media.INPUT_IMAGES.name: _MOST_IMAGES,
        media.INPUT_AUDIO_SECONDS.name: longest_s,
        media.INPUT_VIDEO_SECONDS.name: longest_s,
    }
    most = Beside(everything, is_exact=False)
    # By `inputType`.
    inputs = {
        "text": Beside(_QUERY),
        "image": Beside({media.INPUT_IMAGES.name: 1}),
        "text_image": Beside({**_QUERY, media.INPUT_IMAGES.name: 1}),
        "multi_input": Beside({**_QUERY, media.INPUT_IMAGES.name: _MOST_IMAGES}, is_exact=False),
        "audio": Beside({media.INPUT_AUDIO_SECONDS.name: longest_s}, is_exact=False),
        "video": Beside({media.INPUT_VIDEO_SECONDS.name: longest_s}, is_exact=False),
    }

    def read(body: Mapping[str, Any]) -> Beside:
        kind = body.get("inputType")
        return inputs.get(kind, most) if isinstance(kind, str) else most

    return read, most


_READ_3, _MOST_3 = _marengo(4 * _HOUR)
_READ_2, _MOST_2 = _marengo(2 * _HOUR)
MARENGO: Final = Dialect(name="twelvelabs", beside=_READ_3, most_beside=_MOST_3, generates=False)
MARENGO_2: Final = replace(MARENGO, beside=_READ_2, most_beside=_MOST_2)

_TWO_HOURS: Final = Beside({media.INPUT_VIDEO_SECONDS.name: 2 * _HOUR}, is_exact=False)
_ONE_HOUR: Final = Beside({media.INPUT_VIDEO_SECONDS.name: _HOUR}, is_exact=False)
PEGASUS: Final = Dialect(
    name="twelvelabs",
    beside=always(_TWO_HOURS),
    most_beside=_TWO_HOURS,
    heeded_limits=(("maxOutputTokens",),),
    fallback_output=98_304,
)
PEGASUS_1_2: Final = replace(PEGASUS, beside=always(_ONE_HOUR), most_beside=_ONE_HOUR, fallback_output=4_096)
