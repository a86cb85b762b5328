"""
What the generator of the price list refuses, warns of and writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_facts import fact, facts

from bedrock_guard.errors import ConfigurationError
from bedrock_guard.pricing.generate import generate, main, write
from bedrock_guard.pricing.rows import parse_price


@pytest.mark.parametrize(
    "value",
    [
        "0",
        "0.0",
        "NaN",
        "-1",
        "-0.1",
        "1e-6",
        "",
        " 1",
        "Infinity",
        "0.00000000000000001",
        0.000001,
        1,
        None,
        "1,0",
    ],
)
def test_what_is_no_price_is_refused_by_name(value: object) -> None:
    """
    A 0 in a source is a placeholder more often than a gift, and a float has already lost digits.
    """
    with pytest.raises(ConfigurationError, match=r"acme\.one, input"):
        generate(facts(input=value))


def test_trailing_zeros_are_no_digits() -> None:
    """
    AWS prints ten decimals a thousand tokens, most of them zeros.
    """
    assert parse_price("x", "0.00000010000000000000") == 10**9
    assert parse_price("x", "12") == 12 * 10**16


def test_a_kind_of_price_that_nobody_knows_ends_the_generation() -> None:
    """
    Skipped, it would be a meter that is never charged.
    """
    with pytest.raises(
        ConfigurationError, match=r"'per_hologram' is no kind of price that is known\. Known: input,"
    ):
        generate(facts(per_hologram="1"))


def test_facts_in_another_shape_are_refused_in_a_sentence() -> None:
    """
    Whoever runs it has a file in the wrong place, not a bug.
    """
    with pytest.raises(ConfigurationError, match="not in the shape"):
        generate({"models": []})


def test_what_looks_odd_is_a_warning() -> None:
    """
    Output cheaper than input is true of one model in a hundred and an error in the rest.
    """
    _, warnings = generate(
        facts(input="0.000002", output="0.000001", cache_read="0.000003", cache_write_5m="0.000001")
    )

    assert warnings == [
        "acme.one in-region default above 0: output is cheaper than input",
        "acme.one in-region default above 0: cached input is dearer than input",
        "acme.one in-region default above 0: writing to the cache is cheaper than input",
    ]


def test_the_command_writes_the_same_bytes_again_and_leaves_no_old_maker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The list is reviewed as a diff: what did not change must not show in it.
    """
    source, out = tmp_path / "facts.json", tmp_path / "data"
    source.write_text(json.dumps(facts(input="0.000002", output="0.000001")))
    main([str(source), "--out", str(out)])
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "notes.json").write_text("{}")
    write({"index": first["index.json"].decode().replace('"acme"', '"acme", "gone"'), "gone": "{}"}, out)
    main([str(source), "--out", str(out)])

    assert sorted(path.name for path in out.iterdir()) == ["acme.json", "index.json", "notes.json"]
    assert {name: (out / name).read_bytes() for name in first} == first
    assert "output is cheaper than input" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "says"), [(None, "cannot be read as JSON"), ("{", "cannot be read as JSON")]
)
def test_the_command_ends_with_a_sentence_and_nothing_written(
    tmp_path: Path, content: str | None, says: str
) -> None:
    """
    A half-written price list would be worse than an old one.
    """
    source, out = tmp_path / "facts.json", tmp_path / "data"
    if content is not None:
        source.write_text(content)

    with pytest.raises(SystemExit, match=says):
        main([str(source), "--out", str(out)])
    assert not out.exists()


@pytest.mark.parametrize(
    ("section", "value", "says"),
    [
        (
            "guardrails_per_text_unit",
            {"usd": {"moodUnits": "1"}, "source": "x"},
            "'moodUnits' is no unit that is known",
        ),
        (
            "guardrails_per_text_unit",
            {"usd": {"topicPolicyUnits": "0"}, "source": "x"},
            "topicPolicyUnits: a price of '0'",
        ),
        (
            "models",
            {"acme.one": {**fact("acme.one", {"input": "1"}), "sources": {}}},
            "'input' has no source",
        ),
        (
            "extra_units",
            {
                "acme.one": {"usd": {"per_mood": "1"}, "sources": ["x"]},
                "web-grounding": {"usd": {}, "sources": ["x"]},
            },
            "acme.one: 'per_mood' is no kind of price",
        ),
        ("_meta", {"generated": "yesterday", "sources": {}}, "not in the shape"),
        ("_meta", {"generated": "2026-11-21", "sources": {"gossip==1": "x"}}, "'gossip' has no grade"),
    ],
)
def test_a_fact_that_is_not_understood_ends_the_generation(section: str, value: Any, says: str) -> None:
    """
    Each would be money that is charged wrongly, or not at all, later.
    """
    with pytest.raises(ConfigurationError, match=says):
        generate({**facts(input="1"), section: value})


def test_a_global_price_above_the_regional_one_is_a_warning() -> None:
    """
    Global profiles exist because they are cheaper.
    """
    _, warnings = generate(
        facts(
            {
                "acme.one": fact("acme.one", {"input": "0.000002"}),
                "global.acme.one": fact("acme.one", {"input": "0.000003"}, scope="global"),
            }
        )
    )

    assert warnings == ["acme.one global default above 0: global is dearer than in-region"]


def test_ids_that_bedrock_does_not_know_are_left_out_and_said_so() -> None:
    """
    An id spelt as elsewhere carries another price; kept, it would be a second truth.
    """
    made = facts(input="0.000002")
    made["models"]["anthropic.claude-haiku-4-5@20251001"] = fact(
        "anthropic.claude-haiku-4-5@20251001", {"input": "1"}
    )
    made["in_region_overrides"] = {
        "us-gov-west-1": {"claude-sonnet-4-5-20250929-v1:0": {"usd": {"input": "1"}, "source": "litellm==1"}}
    }
    files, _ = generate(made)

    assert sorted(files) == ["acme", "index"]
    assert {"anthropic.claude-haiku-4-5@20251001", "claude-sonnet-4-5-20250929-v1:0"} <= set(
        json.loads(files["index"])["left_out"]
    )
