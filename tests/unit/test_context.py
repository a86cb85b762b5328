"""
Tags of a block, and how they travel.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from bedrock_guard.context import bind, current_scope, scope
from bedrock_guard.errors import ConfigurationError


def test_inner_scopes_add_to_and_override_outer_ones() -> None:
    """
    A request handler tags the user; what it calls tags the feature.
    """
    with scope(team="search", user="ann"):
        with scope(user="bob", feature="rerank"):
            assert current_scope().tags == {"team": "search", "user": "bob", "feature": "rerank"}
        assert current_scope().tags == {"team": "search", "user": "ann"}
    assert current_scope().tags == {}


def test_a_pool_sees_the_tags_only_through_bind() -> None:
    """
    `ThreadPoolExecutor` drops context variables: money would go to the wrong budget.
    """
    with ThreadPoolExecutor(4) as pool, scope(team="search"):
        bare = pool.submit(lambda: dict(current_scope().tags)).result()
        read = bind(lambda: dict(current_scope().tags))
        bound = [future.result() for future in [pool.submit(read) for _ in range(16)]]

    assert bare == {}
    assert bound == [{"team": "search"}] * 16


@pytest.mark.parametrize("tags", [{"model": "x"}, {"region": "x"}, {"team": ""}, {"team": 7}])
def test_a_tag_that_cannot_be_kept_is_refused(tags: dict[str, str]) -> None:
    """
    Built-in tags are facts of the call; an empty value would be the shared balance.
    """
    with pytest.raises(ConfigurationError, match=repr(next(iter(tags)))), scope(**tags):
        pass


def test_what_runs_after_it_returned_cannot_be_bound() -> None:
    """
    `bind(async_function)` would carry the tags to nowhere, and say nothing.
    """

    async def work() -> None: ...

    def steps() -> object:
        yield 1

    for function in (work, steps):
        with pytest.raises(ConfigurationError, match="scope"):
            bind(function)


def test_a_tally_adds_up_however_many_calls_there_were() -> None:
    """
    It is appended to without a lock, and folded now and then.
    """
    from bedrock_guard.context import Tally
    from bedrock_guard.domain.entry import Entry

    entry = Entry(
        id="a", at_s=0, operation="Converse", model_id="m", model="m", family="f", region="r",
        service_tier="default", latency="standard", tags={}, usage={"input_tokens": 2}, cost_nanousd=3,
    )  # fmt: skip
    tally = Tally()

    for _ in range(1_000):
        tally.count(entry)

    assert (tally.calls, tally.usage, str(tally.cost)) == (1_000, {"input_tokens": 2_000}, "0.000003")
