"""
What a request that an httpx client sends asks of Bedrock, as it goes out on the wire.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol
from urllib.parse import unquote

from bedrock_guard.domain.services import RUNTIME
from bedrock_guard.errors import ConfigurationError, UnmeteredOperation
from bedrock_guard.hooks.httpx_frames import Frames, read_event_stream, read_server_sent
from bedrock_guard.operations import METERED

if TYPE_CHECKING:
    from bedrock_guard.config.load import Resolved
    from bedrock_guard.domain.budget import Budget
    from bedrock_guard.domain.ledger import Ledger
    from bedrock_guard.holding import Hold

# By the end of a path, /model/ID/converse: what boto3 calls it. None is free.
_OPERATIONS: Final[dict[str, str | None]] = {
    "converse": "Converse",
    "converse-stream": "ConverseStream",
    "invoke": "InvokeModel",
    "invoke-with-response-stream": "InvokeModelWithResponseStream",
    "count-tokens": None,
}
# What OpenAI's clients ask, of which InvokeModel answers the same: by whether it is streamed.
_CHAT: Final = {False: "InvokeModel", True: "InvokeModelWithResponseStream"}
_CHAT_PATH: Final = "/openai/v1/chat/completions"
# The region and the service. Every service of Bedrock's signs with a name that begins so.
_SIGNED_FOR: Final = re.compile(r"Credential=[^/]+/\d+/([^/]+)/(bedrock[a-z-]*)?")
# That of a VPC's endpoint begins with its id.
_HOST: Final = re.compile(r"(?:^|\.)bedrock[a-z-]*\.(?:([a-z]+(?:-[a-z]+)+-\d)\.)?")
# The id of a model may be an ARN, whose slash not every client escapes.
_PATH: Final = re.compile(r"/model/(.+)/([^/]+)$")


class Holding(Protocol):
    """
    What a transport needs of a `Guard`.
    """

    @property
    def resolved(self) -> Resolved:
        """
        Its settings.
        """
        ...

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """
        What it enforces.
        """
        ...

    @property
    def ledger(self) -> Ledger:
        """
        Where it keeps balances.
        """
        ...

    def hold(self, operation: str, params: Any, *, region: str) -> Hold:
        """
        The budget round one request.
        """
        ...

    def _enforces_the_same(self, other: object) -> bool:
        """
        Whether *other* would charge a request for the same budgets.
        """
        ...


class Held(NamedTuple):
    """
    A request that is held for.

    Attributes:
        frames: What reads its reply, where that is streamed.
    """

    hold: Hold
    frames: Frames | None


class Asked(NamedTuple):
    """
    What a request asks of a model.

    Attributes:
        operation: What boto3 calls it.
    """

    operation: str
    model_id: str
    is_chat: bool


def is_metered(request: Any, hosts: Collection[str]) -> bool:
    """
    Whether *request* is one that bills and can be counted, once its body is read.
    """
    return request.method == "POST" and (
        _OPERATIONS.get(_end_of(request)[1]) is not None or _is_chat(request, hosts)
    )


def hold_for(guard: Holding, request: Any, region: str | None, hosts: Collection[str] = ()) -> Held | None:
    """
    The hold for *request*, whose body is read; None where it bills nothing, or is another's.

    Raises:
        UnmeteredOperation: It would bill, and cannot be counted.
        ConfigurationError: It does not tell its model, or where it goes.
    """
    if not is_metered(request, hosts):
        _refuse_unmetered(guard, request, hosts)
        return None
    asked = _read_chat(request) if _is_chat(request, hosts) else _read_path(request)
    operation = METERED[RUNTIME, asked.operation]
    params = operation.read_wire(model_id=asked.model_id, headers=dict(request.headers), body=request.content)
    where = _region_of(request) or region or _no_region(request)
    hold = guard.hold(asked.operation, params, region=where)
    if operation.stream_key is None:
        return Held(hold, None)
    return Held(hold, Frames(hold, read_server_sent if asked.is_chat else read_event_stream))


def error_code(response: Any) -> str | None:
    """
    What a reply names as its error, as botocore reads it: `ValidationException:http://internal.amazon.com/...`.
    """
    code: str | None = response.headers.get("x-amzn-errortype")
    return None if code is None else code.partition(":")[0].rpartition("#")[-1]


def _refuse_unmetered(guard: Holding, request: Any, hosts: Collection[str]) -> None:
    host, path = request.url.host, request.url.path
    may_bill = request.method == "POST" and _is_ours(request, hosts) and not path.endswith("/count-tokens")
    if may_bill and guard.resolved.settings.on_unmetered == "refuse":
        raise UnmeteredOperation(
            f"POST {path} of {host} may bill, and cannot be counted on its way through httpx; "
            "on_unmetered = 'allow' lets it pass."
        )


def _is_ours(request: Any, hosts: Collection[str]) -> bool:
    host = request.url.host
    return host in hosts or _HOST.search(host) is not None or _service_of(request) is not None


def _is_chat(request: Any, hosts: Collection[str]) -> bool:
    # Other makers' paths end like that, too. Prices of bedrock-mantle are not those of bedrock-runtime.
    url = request.url
    if not url.path.endswith(_CHAT_PATH):
        return False
    is_mantle = "bedrock-mantle" in (_service_of(request) or url.host)
    return url.host in hosts or (_is_ours(request, ()) and not is_mantle)


def _read_chat(request: Any) -> Asked:
    try:
        body = json.loads(request.content)
    except (ValueError, RecursionError):
        body = None
    fields = body if isinstance(body, dict) else {}
    model_id = fields.get("model")
    if not isinstance(model_id, str) or not model_id:
        raise ConfigurationError(f"The body of POST {request.url.path} names no model, so it has no price.")
    return Asked(_CHAT[bool(fields.get("stream"))], model_id, is_chat=True)


def _read_path(request: Any) -> Asked:
    model_id, end = _end_of(request)
    return Asked(_OPERATIONS[end] or "", unquote(model_id), is_chat=False)


def _end_of(request: Any) -> tuple[str, str]:
    """
    The model, as the path has it, and the path's end.
    """
    found = _PATH.search(request.url.raw_path.decode("ascii").partition("?")[0])
    return (found[1], found[2]) if found else ("", "")


def _region_of(request: Any) -> str | None:
    found = _signature_of(request) or _HOST.search(request.url.host)
    return found[1] if found else None


def _service_of(request: Any) -> str | None:
    """
    Which of Bedrock's *request* is signed for: what goes by a gateway, whose name tells nothing.
    """
    found = _signature_of(request)
    return found[2] if found else None


def _signature_of(request: Any) -> re.Match[str] | None:
    # In a header, or, of a URL that was signed beforehand, in its query.
    where = request.headers.get("authorization", ""), unquote(request.url.query.decode("ascii"))
    return next(filter(None, map(_SIGNED_FOR.search, where)), None)


def _no_region(request: Any) -> str:
    raise ConfigurationError(
        f"Which region's prices {request.url.host} has is told by neither its name nor a signature: "
        "GuardTransport(guard, region='us-east-1')."
    )
