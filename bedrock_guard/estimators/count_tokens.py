"""
What Bedrock's free CountTokens is asked of a request, and what is remembered of its answers.

It is asked only at the edge of a budget. No request is kept, only a digest of it that means nothing outside
of this process. Whoever may not ask, or asks of a model that it does not know, is not asked again.
"""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from bedrock_guard.domain.call import Call, ModelRef

# The parts of a Converse request that it counts, and those that are no input; with another it is not asked.
_COUNTED: Final = ("messages", "system", "toolConfig", "additionalModelRequestFields")
_NO_INPUT: Final = frozenset(
    [
        *_COUNTED,
        "additionalModelResponseFieldPaths",
        "guardrailConfig",
        "inferenceConfig",
        "performanceConfig",
        "requestMetadata",
        "serviceTier",
    ]
)
# As it is written in a body. What such a tool finds is read by the model, and counted by nobody before.
_SYSTEM_TOOL: Final = b'"systemTool"'
_CONVERSE: Final = ("Converse", "ConverseStream")
_INVOKE: Final = ("InvokeModel", "InvokeModelWithResponseStream")
_KINDS: Final = ("foundation-model", "inference-profile")
_LONGEST_ID: Final = 256
_MOST_REMEMBERED: Final = 4_096
# Without it, who knows a digest could try what was asked.
_KEY: Final = os.urandom(32)


class Question(NamedTuple):
    """
    What is asked.

    Attributes:
        model_id: The model itself: profiles of it are not known there.
        body: Of the request to CountTokens.
    """

    model_id: str
    body: bytes

    @property
    def digest(self) -> bytes:
        """
        Of the question; the same for the same question, in this process.
        """
        return blake2b(self.body, key=_KEY, digest_size=16, person=b"count").digest() + self.model_id.encode()


def question_of(call: Call, body: object) -> Question | None:
    """
    What to ask of the request of *call*; None where an answer would not be of all its input.
    """
    model_id = _model_id(call.model)
    if model_id is None or not isinstance(body, bytes | bytearray) or _SYSTEM_TOOL in body:
        return None
    if call.operation in _INVOKE:
        return Question(model_id, _dump({"invokeModel": {"body": b64encode(body).decode()}}))
    if call.operation not in _CONVERSE:
        return None
    try:
        document = json.loads(body)
        if not isinstance(document, dict) or not document.keys() <= _NO_INPUT:
            return None
        counted = {key: document[key] for key in _COUNTED if key in document}
        return Question(model_id, _dump({"converse": counted}))
    except (ValueError, RecursionError):
        return None


def _dump(asked: Mapping[str, Any]) -> bytes:
    return json.dumps({"input": asked}).encode()


def _model_id(model: ModelRef) -> str | None:
    if model.kind not in _KINDS:
        return None
    bare = model.model_id.rpartition("/")[2]
    if model.geography != "in-region":
        bare = bare.removeprefix(f"{model.geography}.")
    return bare if len(bare) <= _LONGEST_ID else None


class Counts:
    """
    The answers of one endpoint.

    Attributes:
        is_denied: Whether it is not to be asked any more.
    """

    def __init__(self) -> None:
        self.is_denied = False
        self._known: dict[bytes, int | None] = {}
        self._unsupported: set[str] = set()

    def may_ask(self, question: Question) -> bool:
        """
        Whether asking may bring an answer.
        """
        if self.is_denied or question.model_id in self._unsupported:
            return False
        return self._known.get(question.digest, 0) is not None

    def get(self, question: Question) -> int | None:
        """
        The answer, if it was asked before.
        """
        return self._known.get(question.digest)

    def learn(self, question: Question, tokens: int | None) -> None:
        """
        Keep an answer; None: it is not to be had for this request.
        """
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[question.digest] = tokens

    def rule_out(self, model_id: str) -> None:
        """
        It does not know this model.
        """
        if len(self._unsupported) < _MOST_REMEMBERED:
            self._unsupported.add(model_id)
