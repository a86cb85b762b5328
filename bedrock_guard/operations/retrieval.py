"""
Retrieve, RetrieveAndGenerate (and its stream) and Rerank: knowledge bases, and models behind them.

No reply states what was used, so that each is charged what it was held at:

    RetrieveAndGenerate   two calls of the model that it names (a question put anew, and the answer), each
                          with a full context window, for what is found is not in the request; one
                          call where the sources are the caller's
    Retrieve              the question, embedded by the model that `models` names for the knowledge base
    Rerank                a query for each hundred documents, of which a long one is several

A flat price replaces either of the first two. The vector store is billed by its own service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from bedrock_guard.domain.call import Call, ModelRef, RequestSize
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.domain.services import AGENT_RUNTIME
from bedrock_guard.domain.usage import UsageReport
from bedrock_guard.families import Family, family_of, rerank
from bedrock_guard.families.beside_tokens import how_many
from bedrock_guard.families.limits import Path, at, candidates, output_limit, stated_limit
from bedrock_guard.families.measure import Measure
from bedrock_guard.meters.requests import QUERIES
from bedrock_guard.operations.parameters import choice
from bedrock_guard.operations.plain import Plain, parse_object

_DOCUMENTS_PER_QUERY: Final = 100
# Where a source, and a question, of Rerank hold what is compared.
_DOCUMENTS: Final = (
    ("inlineDocumentSource", "textDocument", "text"),
    ("inlineDocumentSource", "jsonDocument"),
)
_QUESTIONS: Final = (("textQuery", "text"),)
# A knowledge base gives five passages where nobody says how many. None is longer than the window of what
# embeds it, 8,192 tokens: 35 documents of 500, of which a question may take half.
_FOUND: Final = 5
_MOST_FOUND: Final = 100
_PASSAGE_DOCUMENTS: Final = 35
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
        model = model or parse_model_id(str(at(config, ("modelArn",))))
        family = family_of(model)
        limits, answers = zip(*[_read_output(stage, family) for stage in stages], strict=True)
        size = RequestSize(
            has_unseen=True,
            image_tokens=family.image_tokens,
            output_limit=None if None in limits else max(limit or 0 for limit in limits),
            candidates=max(answers),
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
        return Call(
            self.name,
            model,
            family_of(model).name,
            model.region or region,
            RequestSize(
                generates=False, beside_tokens={QUERIES.name: _count_queries(params)}, reads_tokens=False
            ),
            is_silent=True,
        )

    def read_wire(self, *, model_id: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:  # noqa: ARG002
        """
        The parameters of a request on the wire.
        """
        return parse_object(body)


def _read_output(stage: object, family: Family) -> tuple[int | None, int]:
    """
    The limit on output tokens of one prompt, and how many answers it asks for, by a maker's own fields too.
    """
    stated, fields = at(stage, _LIMIT), at(stage, ("additionalModelRequestFields",))
    if not isinstance(fields, dict):
        return stated_limit(stated), 1
    return output_limit(fields, stated=stated, heeded=family.heeded_limits), candidates(fields)


def _count_queries(params: Mapping[str, Any]) -> int:
    sources, queries = params.get("sources"), params.get("queries")
    if not isinstance(sources, list):
        return rerank.MOST.usage[QUERIES.name]
    documents = [_inner(source, _DOCUMENTS) for source in sources]
    asked = queries if isinstance(queries, list) and queries else [None]
    return sum(rerank.count_queries(_inner(query, _QUESTIONS), documents) for query in asked)


def _inner(value: object, places: tuple[Path, ...]) -> object:
    """
    What stands at the first of *places* that there is; all of *value* where none is.
    """
    return next((inner for place in places if (inner := at(value, place)) is not None), value)


def _reranked(retrieval: object) -> UsageReport | None:
    """
    What is found is put in order by a model of its own: each passage counts as several, if it is long.
    """
    for search in _SEARCHES:
        model_id = at(retrieval, (search, *_RERANKED_BY))
        if isinstance(model_id, str):
            found = how_many(at(retrieval, (search, "numberOfResults")), default=_FOUND, most=_MOST_FOUND)
            usage = {QUERIES.name: -(-found * _PASSAGE_DOCUMENTS // _DOCUMENTS_PER_QUERY)}
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
