"""
What a request that an httpx client sends asks of Bedrock, as it goes out on the wire.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote

from bedrock_guard.domain.services import RUNTIME
from bedrock_guard.errors import ConfigurationError, UnmeteredOperation
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
_SIGNED_FOR: Final = re.compile(r"Credential=[^/]+/\d+/([^/]+)/")
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


def hold_for(guard: Holding, request: Any, region: str | None) -> Hold | None:
    """
    The hold for *request*; None where it bills nothing, or is another's.
    """
    name = name_of(request)
    if name is None:
        host, path = request.url.host, request.url.path
        is_ours = request.method == "POST" and _HOST.search(host) is not None
        if (
            is_ours
            and not path.endswith("/count-tokens")
            and guard.resolved.settings.on_unmetered == "refuse"
        ):
            raise UnmeteredOperation(
                f"POST {path} of {host} may bill, and cannot be counted on its way through httpx; "
                "on_unmetered = 'allow' lets it pass."
            )
        return None
    model_id, _ = _asked(request)
    params = METERED[RUNTIME, name].read_wire(
        model_id=unquote(model_id), headers=dict(request.headers), body=request.content
    )
    return guard.hold(name, params, region=_region_of(request) or region or _no_region(request))


def name_of(request: Any) -> str | None:
    """
    What boto3 calls the operation of *request*; None where it is none that bills.
    """
    return _OPERATIONS.get(_asked(request)[1]) if request.method == "POST" else None


def _asked(request: Any) -> tuple[str, str]:
    """
    The model, as the path has it, and the path's end.
    """
    found = _PATH.search(request.url.raw_path.decode("ascii").partition("?")[0])
    return (found[1], found[2]) if found else ("", "")


def _region_of(request: Any) -> str | None:
    # By a header, or, of a URL that was signed beforehand, by its query.
    where = request.headers.get("authorization", ""), unquote(request.url.query.decode("ascii"))
    found = next(filter(None, map(_SIGNED_FOR.search, where)), None) or _HOST.search(request.url.host)
    return found[1] if found else None


def _no_region(request: Any) -> str:
    raise ConfigurationError(
        f"Which region's prices {request.url.host} has is told by neither its name nor a signature: "
        "GuardTransport(guard, region='us-east-1')."
    )


def is_stream(request: Any) -> bool:
    """
    Whether the reply to *request*, which is held for, is one of frames.
    """
    return METERED[RUNTIME, name_of(request) or ""].stream_key is not None
