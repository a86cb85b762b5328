"""
What is behind an opaque ARN, asked of Bedrock's control plane: once for each, and only where
`resolve_profiles` is `"lookup"`.

The client that asks is made for that alone, with the credentials of the client that is guarded;
no guard is on it, and it gives up after seconds. What could not be learned is asked again
after some minutes; until then such calls have no price.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import botocore.session
from botocore.config import Config

from bedrock_guard.domain.call import ModelKind, ModelRef
from bedrock_guard.domain.model_id import parse_model_id

log = logging.getLogger("bedrock_guard")

_TIMEOUT_S: Final = 2
_AGAIN_S: Final = 300.0
_MOST_REMEMBERED: Final = 4096


class _Question(NamedTuple):
    """
    A control-plane call: its method, the parameter that takes the ARN, and where models are in its answer.
    """

    method: str
    parameter: str
    read: Callable[[Mapping[str, Any]], Iterable[Any]]


def _models(answer: Mapping[str, Any]) -> Iterable[Any]:
    found = [*answer.get("models", ()), answer.get("fallbackModel")]
    return [model.get("modelArn") for model in found if isinstance(model, dict)]


# To resolve another kind: its question.
_QUESTIONS: Final[dict[ModelKind, _Question]] = {
    "application-inference-profile": _Question(
        "get_inference_profile", "inferenceProfileIdentifier", _models
    ),
    "inference-profile": _Question("get_inference_profile", "inferenceProfileIdentifier", _models),
    "prompt-router": _Question("get_prompt_router", "promptRouterArn", _models),
    "provisioned-model": _Question(
        "get_provisioned_model_throughput",
        "provisionedModelId",
        lambda answer: [answer.get("foundationModelArn")],
    ),
}
# A profile that AWS routes anywhere names its model without a region.
_MODEL_ARN: Final = re.compile(r"arn:aws[a-z-]*:bedrock:(?P<region>[a-z0-9-]*)::foundation-model/(?P<id>.+)")
_PROFILE_ARN: Final = re.compile(r"arn:aws[a-z-]*:bedrock:[a-z0-9-]+:[0-9]*:inference-profile/(?P<id>.+)")
# Longest first.
_GEOGRAPHIES: Final[dict[str, str]] = {
    "us-gov-": "us-gov",
    "us-": "us",
    "eu-": "eu",
    "ca-": "ca",
    "ap-": "apac",
}


class ProfileLookup:
    """
    The answers for one guarded client.
    """

    def __init__(self, client: Any, *, now: Callable[[], float] = time.monotonic) -> None:
        self._region = client.meta.region_name
        # Those of an async client can only be awaited: then the default chain has to do.
        signer = getattr(client, "_request_signer", None)
        credentials = getattr(signer, "_credentials", None)
        is_async = type(credentials).__module__.partition(".")[0] == "aiobotocore"
        self._credentials = None if is_async else credentials
        self._now = now
        self._lock = threading.Lock()
        self._control_plane: Any = None
        self._known: dict[str, tuple[ModelRef, ...]] = {}
        self._failed_at: dict[str, float] = {}

    def find(self, model: ModelRef) -> Sequence[ModelRef]:
        """
        What may be behind *model*: several for a prompt router, none where it cannot be learned.
        """
        question = _QUESTIONS.get(model.kind)
        if question is None:
            return ()
        found = self._known.get(model.model_id)
        if found is not None:
            return found
        with self._lock:
            if model.model_id in self._known or self._has_failed(model.model_id):
                return self._known.get(model.model_id, ())
            return self._ask(model, question)

    def _has_failed(self, model_id: str) -> bool:
        return self._now() - self._failed_at.get(model_id, -_AGAIN_S) < _AGAIN_S

    def _ask(self, model: ModelRef, question: _Question) -> tuple[ModelRef, ...]:
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        try:
            asker = self._client()
            answer = getattr(asker, question.method)(**{question.parameter: model.model_id})
            found = read_models(model, question.read(answer))
        except Exception as error:  # noqa: BLE001 - whatever it is, the call is not priced by it
            log.warning(
                "What is behind %s could not be looked up (%s); name it under [models].",
                model.model_id,
                error,
            )
            found = ()
        if found:
            self._known[model.model_id] = found
        else:
            self._failed_at[model.model_id] = self._now()
        return found

    def _client(self) -> Any:
        if self._control_plane is None:
            session = botocore.session.Session()
            if self._credentials is not None:
                session._credentials = self._credentials  # type: ignore[attr-defined]
            self._control_plane = session.create_client(
                "bedrock",
                region_name=self._region,
                config=Config(
                    connect_timeout=_TIMEOUT_S, read_timeout=_TIMEOUT_S, retries={"total_max_attempts": 2}
                ),
            )
        return self._control_plane


def read_models(model: ModelRef, arns: Iterable[object]) -> tuple[ModelRef, ...]:
    """
    *model* with each of the models that *arns* name; the same one in several regions is one of a geography.

    Nothing, if one of them names no model: it could be dearer than all others.
    """
    regions: dict[str, set[str]] = {}
    found: list[ModelRef] = []
    for arn in arns:
        text = arn if isinstance(arn, str) else ""
        named, profile = _MODEL_ARN.fullmatch(text), _PROFILE_ARN.fullmatch(text)
        if named is not None:
            regions.setdefault(named["id"], set()).add(named["region"])
        elif profile is not None:
            found.append(_behind(model, profile["id"], None))
        elif arn is not None:
            return ()
    found += [_behind(model, id_, _geography(places)) for id_, places in regions.items()]
    return () if any(ref.model is None for ref in found) else tuple(dict.fromkeys(found))


def _behind(model: ModelRef, model_id: str, geography: str | None) -> ModelRef:
    named = parse_model_id(model_id)
    return model._replace(model=named.model, maker=named.maker, geography=geography or named.geography)


def _geography(regions: set[str]) -> str:
    if "" in regions:
        return "global"
    if len(regions) == 1:
        return "in-region"
    found = {
        next((name for prefix, name in _GEOGRAPHIES.items() if region.startswith(prefix)), region)
        for region in regions
    }
    return found.pop() if len(found) == 1 else "in-region"
