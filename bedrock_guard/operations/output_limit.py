"""
How a request on the wire limits its output, and the same request with a lower limit.

An operation whose requests can be given one has a line in `_SHAPES`; the others are sent as they are.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from bedrock_guard.domain.call import Call
from bedrock_guard.families import family_of, lowering
from bedrock_guard.families.limits import Path, at, is_heeded

_CONVERSE_PLACE: Final = ("inferenceConfig", "maxTokens")


# Their bodies are in a dialect of their own, whatever model `models` says is behind them.
OWN_DIALECT: Final = ("imported-model", "endpoint")


class _Shape(NamedTuple):
    """
    Where an operation's document holds limits, and where it takes one; None is for the family to say.
    """

    parts: tuple[Path, ...]
    place: Path | None


_CONVERSE: Final = _Shape(((), ("additionalModelRequestFields",)), _CONVERSE_PLACE)
_INVOKE: Final = _Shape(((),), None)
_SHAPES: Final[dict[str, _Shape]] = {
    "Converse": _CONVERSE,
    "ConverseStream": _CONVERSE,
    "InvokeModel": _INVOKE,
    "InvokeModelWithResponseStream": _INVOKE,
}


class OutputLimit:
    """
    The limit of one request.

    Attributes:
        is_stated: Whether the caller set one that the model goes by.
        least: The fewest tokens that it can be lowered to: *answer*, and the least that its thinking takes,
            or all that its caller has given to thinking, if that *keeps_thinking*.
    """

    __slots__ = ("_answer", "_body", "_place", "_shape", "is_stated", "least")

    def __init__(
        self,
        body: bytes,
        document: dict[str, Any],
        shape: _Shape,
        place: Path | None,
        answer: int,
        *,
        is_stated: bool,
        keeps_thinking: bool,
    ) -> None:
        parts = _parts(document, shape)
        self.is_stated = is_stated
        self.least = answer + max(lowering.least_thinking(part, is_kept=keeps_thinking) for part in parts)
        self._answer = answer
        self._body = body
        self._place = place
        self._shape = shape

    def lowered(self, tokens: int) -> bytes | None:
        """
        The body with *tokens* as its limit; None where it cannot be given one.
        """
        document = json.loads(self._body)
        if not self.is_stated and (
            self._place is None or not lowering.put_limit(document, self._place, tokens)
        ):
            return None
        if not all(
            lowering.lower(part, tokens, answer=self._answer) for part in _parts(document, self._shape)
        ):
            return None
        try:
            return json.dumps(document, allow_nan=False).encode()
        except (ValueError, RecursionError):  # a number that no JSON has
            return None


def read_output_limit(
    call: Call, body: object, *, answer: int, keeps_thinking: bool = False
) -> OutputLimit | None:
    """
    How the request of *call* limits its output; *answer* is how many tokens its answer is to have at least.

    None where it takes no other limit: another operation, a prompt resource (which brings its own), a
    request with high reasoning effort, a body that cannot be read.
    """
    if not takes_limit(call) or not isinstance(body, bytes | bytearray):
        return None
    shape = _SHAPES[call.operation]
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or any(map(lowering.forbids_limit, _parts(document, shape))):
        return None
    place = shape.place
    if place is None and call.model.kind not in OWN_DIALECT:
        place = lowering.place_of(call.family, call.model.maker)
    return OutputLimit(
        bytes(body),
        document,
        shape,
        place,
        answer,
        is_stated=_is_stated(
            document, shape, () if call.model.kind in OWN_DIALECT else family_of(call.model).heeded_limits
        ),
        keeps_thinking=keeps_thinking,
    )


def takes_limit(call: Call) -> bool:
    """
    Whether requests of *call* can be given a limit at all.
    """
    return call.operation in _SHAPES and call.model.kind != "prompt"


def _is_stated(document: dict[str, Any], shape: _Shape, heeded: tuple[Path, ...]) -> bool:
    if shape.place is not None and at(document, shape.place) is not None:
        return True
    return any(is_heeded(part, heeded) for part in _parts(document, shape))


def _parts(document: dict[str, Any], shape: _Shape) -> list[dict[str, Any]]:
    found = [at(document, path) for path in shape.parts]
    return [part for part in found if isinstance(part, dict)]
