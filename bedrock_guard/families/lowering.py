"""
Another limit on output tokens in a request, where the request has one, or where its family takes one.

Nothing is ever raised. What cannot be read is left to AWS to reject, and a request that could not
stay valid is not changed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from bedrock_guard.families.limits import BUDGETS, EFFORTS, LIMITS, Path, Spellings, at

Fields: TypeAlias = dict[str, Any]

# Anthropic refuses less, and a limit that is not above it.
LEAST_THINKING: Final = 1_024
# Where bodies of InvokeModel take the limit, by family. Messages of Claude must say one themselves, and of
# a family without a line it is not known.
_PLACES: Final[dict[str, Path]] = {
    "ai21": ("max_tokens",),
    "cohere": ("max_tokens",),
    "deepseek": ("max_tokens",),
    "llama": ("max_gen_len",),
    "mistral": ("max_tokens",),
    "nova": ("inferenceConfig", "maxTokens"),
    "openai_chat": ("max_tokens",),
    "titan": ("textGenerationConfig", "maxTokenCount"),
    "twelvelabs": ("maxOutputTokens",),
    "writer": ("max_tokens",),
}
# The most that the API takes, where lists say more: Llama 3 2,048 of 8,192, Titan Text Premier 3,000 of
# 32,000 (its documents say 3,072, and it rejects more than 3,000), DeepSeek 32,768 of all its window. For
# all of a family: it only shortens an answer.
_MOST: Final[dict[str, int]] = {"deepseek": 32_768, "llama": 2_048, "titan": 3_000}
# OpenAI's own models call it so; those that write as OpenAI does do not.
_OPENAI: Final = ("max_completion_tokens",)


def place_of(family: str, maker: str | None) -> Path | None:
    """
    Where a body of *family* takes its limit; None where that is not known.
    """
    return _OPENAI if maker == "openai" else _PLACES.get(family)


def most_taken(family: str) -> int:
    """
    The largest limit that every model of *family* takes, as far as that is less than lists say.
    """
    return _MOST.get(family, sys.maxsize)


def forbids_limit(fields: Fields) -> bool:
    """
    Whether *fields* ask for what takes no limit beside it: the high reasoning effort of Nova 2.
    """
    return any(at(fields, path) == "high" for path in EFFORTS)


def least_thinking(fields: Fields, *, is_kept: bool = False) -> int:
    """
    The fewest tokens that must be left for the thinking that *fields* ask for: all of it, if that *is_kept*.
    """
    budgets = [int(value) for _, _, value in _found(fields, BUDGETS) if _is_count(value)]
    return max((value if is_kept else min(value, LEAST_THINKING) for value in budgets), default=0)


def put_limit(fields: Fields, place: Path, most: int) -> bool:
    """
    Set a limit where there is none; False where what is in its way is no structure.
    """
    *parents, name = place
    for parent in parents:
        inner = fields.get(parent)
        if inner is None:
            inner = fields[parent] = {}
        if not isinstance(inner, dict):
            return False
        fields = inner
    fields[name] = most
    return True


def lower(fields: Fields, most: int, *, answer: int) -> bool:
    """
    Lower every limit in *fields* to *most*, and budgets for thinking so far that *answer* is left of it.

    Returns False where one cannot be read, or could not stay valid.
    """
    for structure, name, value in _found(fields, LIMITS):
        if value is not None:
            if not _is_count(value):
                return False
            structure[name] = int(min(value, most))
    for structure, name, value in _found(fields, BUDGETS):
        if value is not None:
            if not _is_count(value) or most - answer < min(value, LEAST_THINKING):
                return False
            structure[name] = int(min(value, most - answer))
    return True


def _found(fields: Fields, spellings: Spellings) -> Iterator[tuple[Fields, str, Any]]:
    for path, names in spellings:
        structure = at(fields, path)
        if isinstance(structure, dict):
            yield from [(structure, name, structure[name]) for name in names & structure.keys()]


def _is_count(value: object) -> bool:
    if isinstance(value, float):
        return value.is_integer() and value > 0
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
