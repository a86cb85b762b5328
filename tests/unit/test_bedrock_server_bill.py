"""
The loopback Bedrock's money: its bill, and the prompt cache that shapes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import pytest

from bedrock_guard.testing.loopback.bill import Bill
from bedrock_guard.testing.loopback.prompt import Part
from bedrock_guard.testing.loopback.prompt_cache import CacheUse, PromptCache

RATES = {"m": {"input_tokens": "0.0000003", "output_tokens": Decimal("0.0000000001")}}


@dataclass
class Now:
    s: float = 1000.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def cache(now: Now) -> PromptCache:
    return PromptCache(now)


def part(name: str, tokens: int, ttl: str | None = None) -> Part:
    return Part(name, tokens * 4, cache_ttl=ttl)


def test_lines_add_up_by_model_and_meter() -> None:
    """
    A ledger is compared line by line; a meter never used has no line.
    """
    bill = Bill()
    bill.add("m", {"input_tokens": 3, "output_tokens": 0})
    bill.add("m", {"input_tokens": 3, "output_tokens": 0})
    bill.add("other", {"images": 1})

    assert bill.requests == 3
    assert bill.lines == {("m", "input_tokens"): 6, ("other", "images"): 1}


def test_dollars_are_exact_and_nano_dollars_rounded_up_once_a_generation() -> None:
    """
    The guard rounds each call up to a nano-dollar, so the bill states both figures.
    """
    bill = Bill(RATES)
    # 1 x 300 nano + 1 x 0.1 nano = 300.1 nano, rounded up to 301; three times.
    for _ in range(3):
        bill.add("m", {"input_tokens": 1, "output_tokens": 1})
    # 10 x 0.1 nano = 1 nano, nothing to round.
    bill.add("m", {"output_tokens": 10})

    assert bill.usd == Decimal("0.0000009013")
    assert bill.nanousd == 3 * 301 + 1


def test_a_generation_of_nothing_is_a_request_and_costs_nothing() -> None:
    """
    A reply may truly have used nothing, and is then still one reply.
    """
    bill = Bill()
    bill.add("m", {})

    assert (bill.requests, bill.usd, bill.nanousd) == (1, 0, 0)


@pytest.mark.parametrize("figure", ["usd", "nanousd"])
def test_a_missing_rate_is_named(figure: str) -> None:
    """
    A meter billed at nothing would hide the very error the bill is there to find.
    """
    bill = Bill(RATES)
    bill.add("m", {"images": 2})

    with pytest.raises(
        LookupError, match=r"No rate for meter 'images' of 'm', used 2 times\. Known: m input"
    ):
        getattr(bill, figure)


def test_a_prompt_without_cache_points_is_all_input(cache: PromptCache) -> None:
    """
    Nobody pays for a cache they did not ask for.
    """
    assert cache.use("m", [part("a", 5000)]) == CacheUse(uncached=5000)
    assert cache.use("m", []) == CacheUse(uncached=0)


def test_the_first_call_writes_and_the_next_one_reads(cache: PromptCache) -> None:
    """
    Writes and reads have prices 12 times apart; what follows the point is plain input.
    """
    prompt = [part("system", 2000, "5m"), part("question", 10)]

    assert cache.use("m", prompt) == CacheUse(uncached=10, written_5m=2000)
    assert cache.use("m", prompt) == CacheUse(uncached=10, read=2000)


def test_a_conversation_reads_what_earlier_turns_wrote(cache: PromptCache) -> None:
    """
    The point moves on with the talk; only what is new behind the old one is written.
    """
    cache.use("m", [part("system", 2000), part("first", 100, "5m")])

    second = [part("system", 2000), part("first", 100), part("answer", 200, "5m"), part("more", 7)]
    assert cache.use("m", second) == CacheUse(uncached=7, read=2100, written_5m=200)


def test_each_segment_is_written_with_its_own_lifetime(cache: PromptCache) -> None:
    """
    An hour's write costs more than five minutes', and one request may hold both.
    """
    prompt = [part("tools", 1500, "1h"), part("system", 600, "5m"), part("question", 9)]

    assert cache.use("m", prompt) == CacheUse(uncached=9, written_1h=1500, written_5m=600)


@pytest.mark.parametrize(("ttl", "lifetime_s"), [("5m", 300), ("1h", 3600)])
def test_a_prefix_lives_as_long_as_it_says_after_its_last_use(
    cache: PromptCache, now: Now, ttl: str, lifetime_s: int
) -> None:
    """
    A read renews; silence forgets, and the next call pays for the write again.
    """
    prompt = [part("system", 2000, ttl)]
    cache.use("m", prompt)
    now.s += lifetime_s - 1
    assert cache.use("m", prompt).read == 2000
    now.s += lifetime_s - 1
    assert cache.use("m", prompt).read == 2000
    now.s += lifetime_s

    again = cache.use("m", prompt)
    assert (again.read, again.written_5m + again.written_1h) == (0, 2000)


def test_what_outlives_the_rest_is_still_read(cache: PromptCache, now: Now) -> None:
    """
    After ten minutes the hour's part is read and only the five minutes' part paid again.
    """
    prompt = [part("tools", 1500, "1h"), part("system", 600, "5m")]
    cache.use("m", prompt)
    now.s += 600

    assert cache.use("m", prompt) == CacheUse(uncached=0, read=1500, written_5m=600)


@pytest.mark.parametrize("tokens", [1023, 1024])
def test_a_prefix_below_the_minimum_is_plain_input(cache: PromptCache, tokens: int) -> None:
    """
    Bedrock ignores a cache point that comes too early, without a word.
    """
    used = cache.use("m", [part("system", tokens, "5m")])

    assert (used.written_5m, used.uncached) == ((tokens, 0) if tokens >= 1024 else (0, tokens))


@pytest.mark.parametrize(
    ("model_id", "prompt"),
    [
        ("other", [part("system", 2000, "5m")]),
        ("m", [part("System", 2000, "5m")]),
        ("m", [part("before", 1), part("system", 2000, "5m")]),
    ],
)
def test_only_the_same_prefix_of_the_same_model_is_read(
    cache: PromptCache, model_id: str, prompt: list[Part]
) -> None:
    """
    A cache hit that Bedrock would not give would make the books look cheaper.
    """
    cache.use("m", [part("system", 2000, "5m")])

    assert cache.use(model_id, prompt).read == 0


def test_dead_prefixes_do_not_pile_up(cache: PromptCache, now: Now, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A load test writes prefixes by the thousand; the cache sweeps them when it grows.
    """
    monkeypatch.setattr("bedrock_guard.testing.loopback.prompt_cache._SWEEP_ABOVE", 10)
    for number in range(11):
        cache.use("m", [part(f"system {number}", 2000, "5m")])
    now.s += 301

    cache.use("m", [part("last", 2000, "5m")])

    assert len(cache._prefixes) == 1
