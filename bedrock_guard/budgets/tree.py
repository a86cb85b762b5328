"""
Budgets as the tree that they are for a reader: which one lies within which.

For the calls they are plain budgets that must all have room; nothing is passed up or down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bedrock_guard.domain.budget import Budget
from bedrock_guard.domain.globs import Globs, compile_globs, is_literal


@dataclass(frozen=True, slots=True)
class Branch:
    """
    A budget, and those within it.
    """

    budget: Budget
    inner: tuple[Branch, ...] = ()


def grow(budgets: Sequence[Budget]) -> tuple[Branch, ...]:
    """
    The outermost of *budgets*, each with those within it, in the order given.

    A budget is within another when all its calls count there too, and each of its balances within one of
    that budget's. Of several round it, the innermost holds it.
    """
    outer = {
        inner.name: [each for each in budgets if _is_round(each, inner) and not _is_round(inner, each)]
        for inner in budgets
    }

    def branch(budget: Budget) -> Branch:
        own = [each for each in budgets if outer[each.name] and _innermost(outer[each.name]) is budget]
        return Branch(budget, tuple(branch(each) for each in own))

    def _innermost(found: Sequence[Budget]) -> Budget:
        return max(found, key=lambda each: len(outer[each.name]))

    return tuple(branch(each) for each in budgets if not outer[each.name])


def _is_round(outer: Budget, inner: Budget) -> bool:
    one_value = {
        tag for tag, globs in inner.match.items() if len(_list(globs)) == 1 and is_literal(_list(globs)[0])
    }
    return set(outer.per) <= {*inner.per, *one_value} and all(
        tag in inner.match and _admits(globs, inner.match[tag]) for tag, globs in outer.match.items()
    )


def _admits(outer: Globs, inner: Globs) -> bool:
    """
    Whether every value that *inner* matches is one that *outer* does, as far as that can be seen.
    """
    each = _list(inner)
    admits = compile_globs(outer)
    return _list(outer) == each or all(is_literal(glob) and bool(admits(glob)) for glob in each)


def _list(globs: Globs) -> tuple[str, ...]:
    return (globs,) if isinstance(globs, str) else tuple(globs)
