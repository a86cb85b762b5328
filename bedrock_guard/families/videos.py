"""
Makers of videos, by StartAsyncInvoke only: billed by the second that the request asks for.

Nova Reel makes 6 seconds, or shots of 6 up to 2 minutes; Luma Ray makes 5 or 9. Which
resolution Luma is asked for changes its price, not its meter: price the dearer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bedrock_guard.families.beside_tokens import Beside, how_many
from bedrock_guard.families.dialect import Dialect
from bedrock_guard.families.limits import at
from bedrock_guard.meters import media

_SECONDS: Final = media.OUTPUT_VIDEO_SECONDS.name
_SHOT_S: Final = 6
_REEL_MOST_S: Final = 120
_LUMA_MOST_S: Final = 9


def _read_reel(body: Mapping[str, Any]) -> Beside:
    task = body.get("taskType")
    default = _REEL_DEFAULTS.get(task, _REEL_MOST_S) if isinstance(task, str) else _REEL_MOST_S
    config = body.get("videoGenerationConfig")
    if config is not None and not isinstance(config, dict):
        return Beside({_SECONDS: _REEL_MOST_S})
    seconds = how_many(at(config, ("durationSeconds",)), default=default, most=_REEL_MOST_S)
    shots = at(body, ("multiShotManualParams", "shots"))
    if isinstance(shots, list):
        seconds = max(seconds, _SHOT_S * len(shots))
    elif task == "MULTI_SHOT_MANUAL":
        seconds = _REEL_MOST_S
    return Beside({_SECONDS: seconds})


# Where the request states no duration; of shots that are described one by one, they tell.
_REEL_DEFAULTS: Final[dict[str, int]] = {"TEXT_VIDEO": _SHOT_S, "MULTI_SHOT_MANUAL": _SHOT_S}


def _read_luma(body: Mapping[str, Any]) -> Beside:
    duration = body.get("duration")
    if isinstance(duration, str) and duration.removesuffix("s").isdecimal() and len(duration) <= _DIGITS:
        duration = int(duration.removesuffix("s"))
    return Beside({_SECONDS: how_many(duration, default=_LUMA_MOST_S, most=_LUMA_MOST_S)})


# A duration with more of them is none.
_DIGITS: Final = 8

NOVA_REEL: Final = Dialect(
    name="nova", beside=_read_reel, most_beside=Beside({_SECONDS: _REEL_MOST_S}), generates=False
)
LUMA: Final = Dialect(
    name="luma", beside=_read_luma, most_beside=Beside({_SECONDS: _LUMA_MOST_S}), generates=False
)
