"""
How much output a request asks for, in every spelling that any model takes.

All spellings are read for every model, and the largest counts: one that a model
ignores only makes the estimate larger, and by itself limits nothing. A limit that cannot be read is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

Path: TypeAlias = tuple[str, ...]
Spellings: TypeAlias = tuple[tuple[Path, frozenset[str]], ...]

LIMITS: Final[Spellings] = (
    (
        (),
        frozenset(
            [
                "max_tokens",
                "max_completion_tokens",
                "max_output_tokens",
                "max_tokens_to_sample",
                "max_new_tokens",
                "max_gen_len",
                "maxTokens",
                "maxOutputTokens",
                "maxTokenCount",
            ]
        ),
    ),
    (("inferenceConfig",), frozenset(["maxTokens", "max_new_tokens"])),
    (("textGenerationConfig",), frozenset(["maxTokenCount"])),
)
# Room for reasoning: it raises a limit, and is none by itself.
BUDGETS: Final[Spellings] = (
    (("thinking",), frozenset(["budget_tokens"])),
    (("reasoning_config",), frozenset(["budget_tokens"])),
    (("reasoningConfig",), frozenset(["budget_tokens"])),
    (("reasoning",), frozenset(["max_tokens"])),
)
_CANDIDATES: Final[Spellings] = (((), frozenset(["n", "best_of", "num_generations", "numResults"])),)
# Nova 2 takes no limit with it, and thinks for as long as it likes.
EFFORTS: Final[tuple[Path, ...]] = (
    ("reasoningConfig", "maxReasoningEffort"),
    ("inferenceConfig", "reasoningConfig", "maxReasoningEffort"),
)
_WIDEST_OUTPUT: Final = 128_000
_WIDEST_INPUT: Final = 1_000_000
# No model gives more answers to one request than OpenAI's do.
_MOST_CANDIDATES: Final = 128

NO_LIMIT: Final = 1 << 62


def output_limit(
    fields: Mapping[str, Any],
    *,
    stated: object = None,
    default: int | None = None,
    heeded: tuple[Path, ...] = (),
) -> int | None:
    """
    The largest limit on output tokens in *fields* and *stated*; None when there is none to go by.

    *default* is what the model goes by when the request says nothing, or nothing that is *heeded*: the
    spellings that its family goes by, all if there are none.
    """
    limits = _positives(fields, LIMITS)
    if stated is not None:
        limits.append(_positive(stated))
    elif not is_heeded(fields, heeded):
        least = _WIDEST_OUTPUT if _asks_for_the_widest(fields) else default
        if least is None:
            return None
        limits.append(least)
    largest = max(limits + _positives(fields, BUDGETS))
    return None if largest >= NO_LIMIT else largest


def is_heeded(fields: Mapping[str, Any], heeded: tuple[Path, ...]) -> bool:
    """
    Whether *fields* state a limit that a model goes by which heeds those at the paths *heeded*, or any.
    """
    if heeded:
        return any(at(fields, path) is not None for path in heeded)
    return bool(_positives(fields, LIMITS))


def stated_limit(stated: object) -> int | None:
    """
    The limit where nothing else can state one.
    """
    if stated is None or (type(stated) is int and 0 < stated < NO_LIMIT):
        return stated
    limit = _positive(stated)
    return None if limit >= NO_LIMIT else limit


def candidates(fields: Mapping[str, Any]) -> int:
    """
    How many answers are asked for: the most there are, where that cannot be read.
    """
    return min(max(_positives(fields, _CANDIDATES), default=1), _MOST_CANDIDATES)


def rounds(fields: Mapping[str, Any]) -> int:
    """
    How often the model is run for one answer: once more where the prompt may be summed up first.
    """
    edits = at(fields, ("context_management", "edits"))
    kinds = [at(edit, ("type",)) for edit in edits] if isinstance(edits, list) else []
    return 1 + any(isinstance(kind, str) and kind.startswith("compact") for kind in kinds)


def widened_input(fields: Mapping[str, Any]) -> int | None:
    """
    The context window that a beta of Anthropic's opens, or None.
    """
    return _WIDEST_INPUT if "context-1m" in _betas(fields) else None


def at(document: object, path: Path) -> Any:
    """
    The value at a path of keys, or None.
    """
    for key in path:
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    return document


def _positives(fields: Mapping[str, Any], spellings: Spellings) -> list[int]:
    found = []
    for path, names in spellings:
        structure = at(fields, path)
        if isinstance(structure, dict):
            found += [structure[name] for name in names & structure.keys()]
    return [_positive(value) for value in found if value is not None]


def _positive(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return min(value, NO_LIMIT)
    if isinstance(value, float) and value.is_integer() and value > 0:
        return min(int(value), NO_LIMIT)
    return NO_LIMIT


def _asks_for_the_widest(fields: Mapping[str, Any]) -> bool:
    return "output-128k" in _betas(fields) or any(at(fields, path) == "high" for path in EFFORTS)


def _betas(fields: Mapping[str, Any]) -> str:
    betas = fields.get("anthropic_beta")
    return " ".join(map(str, betas)) if isinstance(betas, list | tuple) else str(betas)
