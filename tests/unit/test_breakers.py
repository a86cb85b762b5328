"""
What a breaker says, and what it makes of figures.
"""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest

from bedrock_guard import Budget
from bedrock_guard.budgets import breakers as figures_of
from bedrock_guard.budgets.loops import _MOST_KNOWN, Loops, fingerprint
from bedrock_guard.config.load import resolve
from bedrock_guard.domain.breaker import INPUT, READ, WRITTEN, Breaker, parse_breaker, parse_condition
from bedrock_guard.domain.budget import Period
from bedrock_guard.domain.globs import compile_match
from bedrock_guard.domain.ledger import Balance, LedgerKey
from bedrock_guard.errors import ConfigurationError

CACHE = "cache_hit >= 0.5 after 1M total_input_tokens"
THRASH = "cache_write / cache_read <= 5 after 1M total_input_tokens"
LOOP = "same_request <= 20/minute"
KEY = LedgerKey("cache", INPUT, (), 0)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (CACHE, CACHE),
        ("cache_hit>=.75 after 50,000 total_input_tokens/day", "cache_hit >= 0.75 after 50K total_input_tokens/day"),
        ("cache_write/cache_read <= 2.5 after 2M total_input_tokens/6 hours", "cache_write / cache_read <= 2.5 after 2M total_input_tokens/6 hours"),
        ("cache_hit >= 1 after 1234 total_input_tokens", "cache_hit >= 1 after 1234 total_input_tokens"),
        (LOOP, LOOP),
        ("same_request <= 3 / 10 seconds", "same_request <= 3/10 seconds"),
    ],
)  # fmt: skip
def test_a_condition_is_read_and_shown(text: str, shown: str) -> None:
    """
    What is shown can be written again.
    """
    assert str(parse_condition(text)) == shown
    assert parse_condition(shown) == parse_condition(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is not a condition"),
        (5, "5 is not a condition"),
        ("cache_hit", "A condition reads"),
        ("cache_miss <= 0.5 after 1M total_input_tokens", "'cache_miss' is no measure; known are cache_hit, cache_write / cache_read, same_request"),
        ("cache_hit <= 0.5 after 1M total_input_tokens", "it says what must hold, cache_hit >="),
        ("same_request >= 20/minute", "it says what must hold, same_request <="),
        ("cache_hit >= 50 after 1M total_input_tokens", "cache_hit is a share, above 0 and up to 1"),
        ("cache_hit >= 0 after 1M total_input_tokens", "cache_hit is a share"),
        ("cache_hit >= 0.5", "after how many tokens is it judged"),
        ("cache_hit >= 0.5/day", "after how many tokens is it judged"),
        ("cache_hit >= 0.5 after 5 USD", "it is judged after an amount of total_input_tokens"),
        ("cache_hit >= 0.5 after 1M total_input_tokens/second", "it is judged after an amount"),
        ("cache_hit >= 0.5 after 1M total_input_tokens/rolling hour", "it is judged after an amount"),
        ("cache_hit >= 0.5 after 0 total_input_tokens", "it is judged after an amount"),
        ("cache_hit >= 0.5 after 1M tocens", "'tocens' is no unit"),
        ("same_request <= 20", "how many alike, at least 1, in how much time"),
        ("same_request <= 2.5/minute", "how many alike"),
        ("same_request <= 0/minute", "how many alike"),
        ("same_request <= 20 after 1M total_input_tokens", "how many alike"),
        ("same_request <= 20/month", "seconds, minutes, hours or days"),
        ("same_request <= 20/fortnight", "'fortnight' is no period"),
    ],
)  # fmt: skip
def test_a_condition_that_cannot_be_meant_is_quoted(text: Any, says: str) -> None:
    """
    Whoever mistypes it must not believe that something is looked at.
    """
    with pytest.raises(ConfigurationError) as caught:
        parse_condition(text)

    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": ""}, "'' is not a breaker's name"),
        ({"on_trip": "stop"}, "Breaker 'cache': on_trip is 'stop'; it is one of refuse, warn."),
        ({"mode": "dry"}, "mode is 'dry'; it is one of enforce, shadow"),
        ({"per": 5}, "per is 5"),
        ({"per": ("a", "a")}, "per names a tag twice: a"),
        ({"match": "team"}, "match is 'team'; it maps tags to globs"),
        ({"match": {"team": []}}, "match['team'] is an empty list"),
        ({"resume_after_s": 0}, "resume_after_s is 0; it is seconds above 0"),
        ({"resume_after_s": True}, "resume_after_s is True"),
        ({"resume_after_s": 60, "on_trip": "warn"}, 'with on_trip = "warn" nothing is stopped'),
    ],
)
def test_a_breaker_that_cannot_be_meant_is_quoted(options: dict[str, Any], says: str) -> None:
    """
    At the door, not at the first trip.
    """
    with pytest.raises(ConfigurationError) as caught:
        Breaker(**{"name": "cache", "condition": CACHE, **options})

    assert says in str(caught.value)


def test_breakers_are_given_as_budgets_are() -> None:
    """
    As strings, objects, or tables of a file; arguments are stronger.
    """
    table = {"condition": CACHE, "per": "team", "match": {"team": "a*"}, "on_trip": "warn", "mode": "shadow"}
    in_file = {"breakers": {"cache": table}, "budget": "5 USD"}
    same = Breaker("cache", CACHE, per="team", match={"team": "a*"}, on_trip="warn", mode="shadow")

    assert resolve(settings=in_file).breakers == (same,)
    assert resolve(settings=in_file, breakers=[]).breakers == ()
    assert resolve(settings=in_file, breakers=f"loop: {LOOP}").breakers == (Breaker("loop", LOOP),)
    assert resolve(settings={"budget": "5 USD"}, breakers=[same]).breakers == (same,)
    assert str(parse_breaker(f"a:b: {CACHE}")) == f"a:b ({CACHE})"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"breakers": {"cache": CACHE}}, "it is a list of strings or Breakers"),
        ({"breakers": CACHE}, 'is not a breaker: write "name: condition"'),
        ({"breakers": [5]}, "5 is not a breaker"),
        ({"breakers": [f"a: {CACHE}", f"a: {LOOP}"]}, "Two breakers are named 'a'"),
        ({"breakers": [f"a: {CACHE}"], "budgets": [Budget("breaker:a", "5 USD")]}, "A budget is named 'breaker:a'"),
        ({"settings": {"breakers": {"a": {"condition": "x"}}}}, "settings=: breakers.a.condition: 'x' is not a condition"),
        ({"settings": {"breakers": {"a": {"condition": CACHE, "onn_trip": "warn"}}}}, "breakers.a.onn_trip is no setting; did you mean 'on_trip'?"),
        ({"settings": {"breakers": {"a": {}}}}, "breakers.a.condition: Field required"),
        ({"settings": {"breakers": {"a": {"condition": CACHE, "resume_after_s": 5, "on_trip": "warn"}}}}, "breakers.a: Breaker 'a': resume_after_s is 5"),
    ],
)  # fmt: skip
def test_a_mistake_in_breakers_is_told_with_its_place(arguments: dict[str, Any], says: str) -> None:
    """
    As one in budgets is.
    """
    with pytest.raises(ConfigurationError) as caught:
        resolve(**{"budgets": [], "settings": {}, **arguments})

    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("condition", "figures", "is_broken"),
    [
        (CACHE, (1000, 500, 0), False),
        (CACHE, (1000, 499, 0), True),
        (CACHE, (1000, 0, 0), True),
        (THRASH, (1000, 100, 500), False),
        (THRASH, (1000, 100, 501), True),
        (THRASH, (1000, 0, 1), True),
        (THRASH, (1000, 0, 0), False),
    ],
)
def test_figures_are_judged_to_the_token(
    condition: str, figures: tuple[int, int, int], is_broken: bool
) -> None:
    """
    The bound itself still holds.
    """
    named = dict(zip((INPUT, READ, WRITTEN), figures, strict=True))

    assert figures_of.is_broken(parse_condition(condition), named) is is_broken


def test_a_trip_names_the_figures_and_the_likely_cause() -> None:
    """
    Who is refused must not have to look for it.
    """
    cache, thrash = Breaker("cache", CACHE, per="team"), Breaker("thrash", THRASH)
    loop = Breaker("loop", LOOP, per="team")
    figures = {INPUT: 1_204_000, READ: 3_612, WRITTEN: 90_000_000}

    assert figures_of.tell(cache, (("team", "ads"),), figures) == (
        "prompt caching does nothing: 0.3 % of 1.2M input tokens were read from a cache; is a cachePoint in the "
        f"request, does its prefix change at each call? [cache ({CACHE})] [team=ads]"
    )
    assert "caching does little: 30.0 % of 150K input" in figures_of.tell(
        cache, (), {INPUT: 150_312, READ: 45_100}
    )
    assert "90M tokens written, 3.61K read, and at most 5 to 1 make sense" in figures_of.tell(
        thrash, (), figures
    )
    assert figures_of.tell_loop(loop, (("team", ""),), 21) == (
        "a loop: one request was made 21 times in one minute by one process; does an agent not see the answer, or "
        f"does a wrapper retry what did not fail? [loop ({LOOP})] [team=untagged]"
    )


@pytest.mark.parametrize("value", ["ads", "", "!ads", "!", "a*b", "a?b", "[ab]", "[!a]", "a]b", "!*", "ä\n"])
def test_a_stop_means_the_one_value_whose_figures_broke(value: str) -> None:
    """
    A value may hold what means more in a glob.
    """
    breaker = Breaker("cache", CACHE, per="team", match={"team": "*", "stage": "prod"})

    match = json.loads(json.dumps(figures_of.match_of(breaker, (("team", value),))))
    is_meant = compile_match(match)

    assert is_meant({"team": value, "stage": "prod"})
    assert not is_meant({"team": value, "stage": "test"})
    for other in ("ads2", "a", "b", "ab", "axb", "x", f"{value}x", f"x{value}"):
        assert other == value or not is_meant({"team": other, "stage": "prod"})


def test_what_was_judged_counts_no_more_and_gives_the_next_judgement_its_name() -> None:
    """
    Whoever judges the same must come to the same name, and what comes after it to another.
    """
    breaker = Breaker("cache", CACHE)
    keys = figures_of.keys_of(breaker, KEY, "refuse", "UTC")
    assert [key.budget for key in (*keys.counted, *keys.judged)] == [
        *["breaker:cache (refuse)"] * 2,
        *["breaker:cache (refuse) judged"] * 2,
    ]

    def read(counted: tuple[int, int], judged: tuple[int, int]) -> tuple[Any, str]:
        spent = zip((*keys.counted, *keys.judged), (*counted, *judged), strict=True)
        return figures_of.read_figures(breaker.condition, keys, [Balance(*each) for each in spent])

    figures, name = read((1500, 300), (1000, 200))
    assert figures == {INPUT: 500, READ: 100}
    assert read((1600, 310), (1000, 200))[1] == name
    assert read((1600, 310), (1500, 300))[1] != name
    assert read((900, 100), (1000, 200))[0] == {INPUT: 0, READ: 0}
    assert figures_of.keys_of(breaker, KEY, "warn", "UTC").judged[0] != keys.judged[0]


def test_a_condition_in_windows_counts_in_windows() -> None:
    """
    By the time zone, as a budget's balances do.
    """
    breaker = Breaker("cache", f"{CACHE}/day")

    keys = figures_of.keys_of(breaker, KEY, "refuse", "Europe/Berlin")

    assert [key.rule for key in keys.counted] == [f"{INPUT}/day@Europe/Berlin", f"{READ}/day@Europe/Berlin"]
    assert figures_of.as_budget(breaker).limit.period == Period("day")


# Loops


def test_requests_are_told_apart_and_nothing_of_them_is_kept() -> None:
    """
    A memory dump must not say what was asked.
    """
    one, other = fingerprint(b"/model", b"a secret"), fingerprint(b"/mode", b"la secret")
    loops = Loops()
    loops.count(KEY, one, Period("minute"), 0.0)

    assert one == fingerprint(b"/model", b"a secret")
    assert one != other
    assert len(one) == 16
    assert b"secret" not in repr(vars(loops)).encode()


def test_no_other_process_knows_a_request_by_its_fingerprint() -> None:
    """
    Who guesses what was asked must not be able to tell.
    """
    code = "from bedrock_guard.budgets.loops import fingerprint; print(fingerprint(b'a secret').hex())"

    seen = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in "12"
    }

    assert len(seen) == 2


def test_a_request_is_counted_in_its_scope_and_minute() -> None:
    """
    What comes again tomorrow is no loop.
    """
    loops, minute = Loops(), Period("minute")
    ads = KEY._replace(per=(("team", "ads"),))

    assert [loops.count(KEY, b"a", minute, at) for at in (60.0, 60.1, 119.9)] == [1, 2, 3]
    assert loops.count(KEY, b"b", minute, 119.9) == 1
    assert loops.count(ads, b"a", minute, 119.9) == 1
    assert loops.count(KEY, b"a", minute, 120.0) == 1
    loops.forget(KEY, b"a")
    assert loops.count(KEY, b"a", minute, 121.0) == 1


def test_what_is_remembered_is_bounded_and_a_loop_stays_in_it() -> None:
    """
    A loop comes by again before ten thousand others have.
    """
    loops, minute = Loops(), Period("minute")
    for number in range(3 * _MOST_KNOWN):
        loops.count(KEY, str(number).encode(), minute, 0.0)
        if number % 1000 == 0:
            seen = loops.count(KEY, b"loop", minute, 0.0)

    assert seen == 30
    assert len(loops._known) == _MOST_KNOWN
    assert loops.count(KEY, b"0", minute, 0.0) == 1


def test_a_bound_is_exact() -> None:
    """
    A share is what somebody wrote, whatever binary makes of it.
    """
    condition = parse_condition("cache_hit >= 0.07 after 1 total_input_tokens")

    assert condition.bound == Decimal("0.07")
    assert not figures_of.is_broken(condition, {INPUT: 100, READ: 7})
