"""
Rerank, Cohere's and Amazon's: billed by the query, of up to 100 documents.

A document of more than 500 tokens, the query's among them, counts as several. No reply
states how many there were: where the bytes of the request leave that open, the most counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from bedrock_guard.families.beside_tokens import Beside
from bedrock_guard.families.dialect import Dialect
from bedrock_guard.families.text import json_bytes, json_text, text_bytes
from bedrock_guard.meters import requests

_DOCUMENTS: Final = 100
_MOST_DOCUMENTS: Final = 1_000
_DOCUMENT_TOKENS: Final = 500
# The models cut a query at half of a document, and put marks round both.
_QUERY_TOKENS: Final = 256
_MARKS: Final = 4


def read_queries(body: Mapping[str, Any]) -> Beside:
    """
    How many queries a request counts as, at most.
    """
    documents = body.get("documents")
    if not isinstance(documents, list):
        return MOST
    queries = count_queries(body.get("query"), documents)
    return Beside(
        {requests.QUERIES.name: queries}, is_exact=queries == max(1, -(-len(documents) // _DOCUMENTS))
    )


def count_queries(query: object, documents: Sequence[object]) -> int:
    """
    How many queries it counts as, at most, to compare *documents* with *query*.
    """
    room = _DOCUMENT_TOKENS - _MARKS - min(_bytes(query), _QUERY_TOKENS)
    parts = sum(max(1, -(-_bytes(document) // room)) for document in documents)
    return max(1, -(-parts // _DOCUMENTS))


def _bytes(value: object) -> int:
    if isinstance(value, str):
        return text_bytes(value)
    try:
        return json_bytes(value, json_text(value))
    except (TypeError, ValueError, RecursionError):
        return _DOCUMENT_TOKENS


MOST: Final = Beside({requests.QUERIES.name: _MOST_DOCUMENTS // _DOCUMENTS}, is_exact=False)
AMAZON_RERANK: Final = Dialect(name="rerank", beside=read_queries, most_beside=MOST, generates=False)
COHERE_RERANK: Final = replace(AMAZON_RERANK, name="cohere")
