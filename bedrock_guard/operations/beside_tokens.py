"""
What a reply tells of that which is billed beside tokens, and what only its request does.
"""

from __future__ import annotations

from bedrock_guard.domain.call import RequestSize
from bedrock_guard.domain.usage import INPUT_TOKENS, OUTPUT_TOKENS, Untold, Usage
from bedrock_guard.families import Family
from bedrock_guard.families.counts import Counts


def headers_tell(counts: Counts, size: RequestSize, family: Family) -> bool:
    """
    Whether the body of an answer to a request of that *size* could say no more than its headers.
    """
    if family.read_made({}, size.beside_tokens) is not None:
        return False
    return (INPUT_TOKENS in counts or not size.reads_tokens) and (
        bool(counts.get(OUTPUT_TOKENS)) or not size.generates
    )


def without_input(counts: Counts) -> Counts:
    """
    *counts* of a model whose input is not billed by the token, whatever is said of it.
    """
    return {INPUT_TOKENS: 0, **{name: count for name, count in counts.items() if "input" not in name}}


def with_beside(usage: Usage, made: Usage | None, size: RequestSize) -> tuple[Usage, Untold | None]:
    """
    What a call has used, by the token *usage* of its reply and what that shows was *made*, and which part
    of that the reply leaves untold.

    Where a reply states nothing at all, that is an estimate, however sure the request makes it.
    """
    if made is not None:
        return {**usage, **made}, None
    return {**usage, **size.beside_tokens}, Untold(
        size.beside_tokens, is_estimate=not (size.beside_is_exact and usage)
    )
