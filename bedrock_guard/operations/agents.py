"""
InvokeAgent, InvokeInlineAgent and InvokeFlow: a stream behind which models are called, some five to
fifteen times for one answer.

    enableTrace    every model call is told as it ends, with its model: held for step by step, and
                   settled at their sum
    without        nothing is told: a flat price is held and charged

Of a flow only the agents in it are traced, and of what a request's own guardrail bills nothing is, so that
these take a flat price in either case; what is traced beyond that is charged on top. What else agents use
beside models (knowledge bases, guardrails of their own, code) is in no trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bedrock_guard.domain.call import Call, ModelKind, ModelRef, RequestSize
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.domain.services import AGENT_RUNTIME
from bedrock_guard.families import family_of
from bedrock_guard.families.limits import at
from bedrock_guard.operations.agent_traces import TraceReader
from bedrock_guard.operations.contract import Reply, StreamReader
from bedrock_guard.operations.parameters import choice
from bedrock_guard.operations.plain import Plain, SilentReader, parse_object

_BEHIND: Final = "bills for every model call behind it"
# What an agent puts before its model (instructions, history, results) is not in the request.
_ONE_MODEL_CALL: Final = RequestSize(has_unseen=True)
_GUARDRAIL: Final = "guardrailConfiguration"
_PERFORMANCE: Final = (("bedrockModelConfigurations",), ("modelPerformanceConfiguration",))


@dataclass(frozen=True, slots=True)
class Agent(Plain):
    """
    One of the three.

    Attributes:
        kind: What is called.
        named_by: The parameter with its id, or with the model itself.
        is_whole: Whether its traces tell all that its models used.
        takes_flat_price: That a flat price may be set for it.
        why: What it bills for, and what makes it told.
    """

    kind: ModelKind = "agent"
    named_by: str = "agentId"
    is_whole: bool = True
    takes_flat_price: bool = True
    why: str = (
        f"{_BEHIND}, which enableTrace=True tells where [models] names the model of this agent "
        "and the request has no guardrail"
    )

    def read_call(self, params: Mapping[str, Any], *, region: str, model: ModelRef | None = None) -> Call:
        """
        What a request asks for; never raises. *model* is what is behind an agent.
        """
        name, is_traced = str(params.get(self.named_by)), params.get("enableTrace") is True
        is_told = self.is_whole and is_traced and _GUARDRAIL not in params
        if model is None:
            is_model = self.named_by == "foundationModel"
            model = parse_model_id(name) if is_model else ModelRef(f"{self.kind}/{name}", self.kind)
        family = family_of(model)
        return Call(
            self.name,
            model,
            family.name,
            model.region or region,
            _ONE_MODEL_CALL._replace(image_tokens=family.image_tokens),
            latency=_latency(params),
            flat_key=f"{AGENT_RUNTIME}:{self.name}",
            has_bound=is_told and model.model is not None,
            is_silent=not is_told,
            is_traced=is_traced,
        )

    def read_wire(self, *, model_id: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:  # noqa: ARG002
        """
        The parameters of a request on the wire, whose URL names who is called.
        """
        document = parse_object(body)
        return document if self.named_by == "foundationModel" else {**document, self.named_by: model_id}

    def open_stream_reader(self, call: Call, reply: Reply | None = None) -> StreamReader:  # noqa: ARG002
        """
        A reader for the traces of one stream.
        """
        return TraceReader(call, is_whole=not call.is_silent) if call.is_traced else SilentReader()


def _latency(params: Mapping[str, Any]) -> str:
    for path in _PERFORMANCE:
        latency = choice(at(params, (*path, "performanceConfig")), "latency", None)
        if latency is not None:
            return latency
    return "standard"


INVOKE_AGENT: Final = Agent("InvokeAgent", stream_key="completion")
INVOKE_INLINE_AGENT: Final = Agent("InvokeInlineAgent", stream_key="completion", named_by="foundationModel")
INVOKE_FLOW: Final = Agent(
    "InvokeFlow",
    stream_key="responseStream",
    kind="flow",
    named_by="flowIdentifier",
    is_whole=False,
    why=f"{_BEHIND}, which no trace tells in full",
)
