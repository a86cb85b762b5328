"""
Retrieve, RetrieveAndGenerate (and its stream) and Rerank: knowledge bases, and models behind them.

No reply states what was used, so that each is charged what it was held at:

    RetrieveAndGenerate   two calls of the model that it names (a question put anew, and the answer), each
                          with a full context window, for what is found is not in the request; one
                          call where the sources are the caller's
    Retrieve              the question, embedded by the model that `models` names for the knowledge base
    Rerank                a query for each hundred documents

A flat price replaces either of the first two. The vector store is billed by its own service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from bedrock_guard.domain.call import Call, ModelRef, RequestSize
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.domain.services import AGENT_RUNTIME
from bedrock_guard.domain.usage import UsageReport
from bedrock_guard.families import family_of
from bedrock_guard.families.limits import at, stated_limit
from bedrock_guard.families.measure import Measure
from bedrock_guard.meters.requests import QUERIES
from bedrock_guard.operations.parameters import choice
from bedrock_guard.operations.plain import Plain, parse_object

_DOCUMENTS_PER_QUERY: Final = 100
_MOST_DOCUMENTS: Final = 1_000
_SEARCHES: Final = ("vectorSearchConfiguration", "managedSearchConfiguration")
_RERANKED_BY: Final = (
    "rerankingConfiguration",
    "bedrockRerankingConfiguration",
    "modelConfiguration",
    "modelArn",
)
_LIMIT: Final = ("inferenceConfig", "textInferenceConfig", "maxTokens")


class RetrieveAndGenerate(Plain):
    """
    Both operations; their parameters are the same.
    """

    __slots__ = ()
    takes_flat_price: ClassVar = True

    def read_call(self, params: Mapping[str, Any], *, region: str, model: ModelRef | None = None) -> Call:
        """
        What a request asks for; never raises.
        """
        asked = params.get("retrieveAndGenerateConfiguration")
        of_base = at(asked, ("knowledgeBaseConfiguration",))
        config = of_base if isinstance(of_base, dict) else at(asked, ("externalSourcesConfiguration",))
        generation = at(config, ("generationConfiguration",))
        stages = [generation]
        if isinstance(of_base, dict):
            stages.append(at(config, ("orchestrationConfiguration",)))
        limits = [stated_limit(at(stage, _LIMIT)) for stage in stages]
        model = model or parse_model_id(str(at(config, ("modelArn",))))
        family = family_of(model)
        size = RequestSize(
            has_unseen=True,
            image_tokens=family.image_tokens,
            output_limit=None if None in limits else max(limit or 0 for limit in limits),
            has_guardrail=at(generation, ("guardrailConfiguration",)) is not None,
        )
        return Call(
            self.name,
            model,
            family.name,
            model.region or region,
            size,
            latency=choice(at(generation, ("performanceConfig",)), "latency", "standard"),
            flat_key=f"{AGENT_RUNTIME}:{self.name}",
            has_bound=not _has_unknown(at(config, ("retrievalConfiguration",))),
            is_silent=True,
            times=len(stages),
            spent=_reranked(at(config, ("retrievalConfiguration",))),
        )

    def read_wire(self, *, model_id: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:  # noqa: ARG002
        """
        The parameters of a request on the wire.
        """
        return parse_object(body)


class Retrieve(Plain):
    """
    The operation.
    """

    __slots__ = ()
    why: ClassVar = (
        "bills for the embedding of its question (which is known if the embedding model of its knowledge "
        "base is named under [models])"
    )
    takes_flat_price: ClassVar = True

    def read_call(self, params: Mapping[str, Any], *, region: str, model: ModelRef | None = None) -> Call:
        """
        What a request asks for; never raises. *model* is what a knowledge base embeds by.
        """
        base = ModelRef(f"knowledge-base/{params.get('knowledgeBaseId')}", "knowledge-base")
        query, retrieval = params.get("retrievalQuery"), params.get("retrievalConfiguration")
        seen = Measure()
        seen.json(query)
        is_known = isinstance(query, dict) and "image" not in query and not _has_unknown(retrieval)
        named = model or base
        return Call(
            self.name,
            named,
            family_of(named).name,
            named.region or region,
            RequestSize(seen.text_bytes, generates=False),
            flat_key=f"{AGENT_RUNTIME}:{self.name}",
            has_bound=model is not None and is_known and "guardrailConfiguration" not in params,
            is_silent=True,
            spent=_reranked(retrieval),
        )

    def read_wire(self, *, model_id: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:  # noqa: ARG002
        """
        The parameters of a request on the wire, whose URL names the knowledge base.
        """
        return {**parse_object(body), "knowledgeBaseId": model_id}


class Rerank(Plain):
    """
    The operation.
    """

    __slots__ = ()

    def read_call(self, params: Mapping[str, Any], *, region: str, model: ModelRef | None = None) -> Call:
        """
        What a request asks for; never raises.
        """
        configuration = at(params, ("rerankingConfiguration", *_RERANKED_BY[1:]))
        model = model or parse_model_id(str(configuration))
        sources, queries = params.get("sources"), params.get("queries")
        documents = len(sources) if isinstance(sources, list) else _MOST_DOCUMENTS
        billed = max(1, -(-documents // _DOCUMENTS_PER_QUERY))
        asked = max(1, len(queries)) if isinstance(queries, list) else 1
        return Call(
            self.name,
            model,
            family_of(model).name,
            model.region or region,
            RequestSize(generates=False, beside_tokens={QUERIES.name: billed * asked}, reads_tokens=False),
            is_silent=True,
        )

    def read_wire(self, *, model_id: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:  # noqa: ARG002
        """
        The parameters of a request on the wire.
        """
        return parse_object(body)


def _reranked(retrieval: object) -> UsageReport | None:
    """
    What is found is put in order by a model of its own: a hundred results at most, so one query.
    """
    for search in _SEARCHES:
        model_id = at(retrieval, (search, *_RERANKED_BY))
        if isinstance(model_id, str):
            usage = {QUERIES.name: 1}
            return UsageReport(usage, parts=(UsageReport(usage, model_id=model_id),))
    return None


def _has_unknown(retrieval: object) -> bool:
    """
    Whether models look on that the request does not name, or whose part in it is not told.
    """
    return any(
        at(retrieval, (search, "implicitFilterConfiguration")) is not None
        or at(retrieval, (search, "rerankingModelType")) == "MANAGED"
        for search in _SEARCHES
    )


RETRIEVE: Final = Retrieve("Retrieve")
RETRIEVE_AND_GENERATE: Final = RetrieveAndGenerate("RetrieveAndGenerate")
RETRIEVE_AND_GENERATE_STREAM: Final = RetrieveAndGenerate("RetrieveAndGenerateStream", stream_key="stream")
RERANK: Final = Rerank("Rerank")
