"""
Amazon Nova Reel: videos of 6 seconds, or of shots of 6 up to 2 minutes, by StartAsyncInvoke only.

It is billed by the second that the request asks for.
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
_LONGEST_S: Final = 120
_CONFIG: Final = "videoGenerationConfig"


def _read_seconds(body: Mapping[str, Any]) -> Beside:
    return Beside({_SECONDS: max(_stated(body), _of_shots(body))})


def _stated(body: Mapping[str, Any]) -> int:
    config = body.get(_CONFIG)
    if config is not None and not isinstance(config, dict):
        return _LONGEST_S
    # Of shots that are described one by one, those tell.
    default = _SHOT_S if body.get("taskType") in ("TEXT_VIDEO", "MULTI_SHOT_MANUAL") else _LONGEST_S
    return how_many(at(config, ("durationSeconds",)), default=default, most=_LONGEST_S)


def _of_shots(body: Mapping[str, Any]) -> int:
    shots = at(body, ("multiShotManualParams", "shots"))
    if isinstance(shots, list):
        return _SHOT_S * len(shots)
    return _LONGEST_S if body.get("taskType") == "MULTI_SHOT_MANUAL" else 0


NOVA_REEL: Final = Dialect(
    name="nova", beside=_read_seconds, most_beside=Beside({_SECONDS: _LONGEST_S}), generates=False
)
