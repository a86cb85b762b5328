"""
The bound: never low, and no higher than it must be.
"""

from __future__ import annotations

import pytest
from bounds import most_of

from bedrock_guard.domain.call import Call, ModelLimits, RequestSize
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.families import family_of

LIMITS = ModelLimits(max_input_tokens=200_000, max_output_tokens=64_000)
SIZE = RequestSize(text_bytes=1_000, messages=2, image_tokens=1_600, output_limit=500)


def call(size: RequestSize, model_id: str = "anthropic.claude-sonnet-4-5-20250929-v1:0") -> Call:
    model = parse_model_id(model_id)
    return Call("Converse", model, family_of(model).name, "us-east-1", size)


def test_text_is_bounded_by_its_bytes() -> None:
    """
    1,000 bytes, 16 around each of 2 messages, 64 around the prompt.
    """
    assert most_of(call(SIZE), LIMITS) == ({"input_tokens": 1_096, "output_tokens": 500},)


@pytest.mark.parametrize(
    ("more", "tokens"),
    [({"has_tools": True}, 2_096), ({"images": 2}, 4_316), ({"has_unseen": True}, 200_000), ({"text_bytes": 10**9}, 200_000)],
)  # fmt: skip
def test_each_part_adds_its_most(more: dict[str, int], tokens: int) -> None:
    """
    Up to the context window: AWS refuses what is longer.
    """
    (usage,) = most_of(call(SIZE._replace(**more)), LIMITS)

    assert usage["input_tokens"] == tokens


def test_a_window_that_nobody_knows_is_the_largest() -> None:
    """
    An unknown model may read more than any that is listed.
    """
    (usage,) = most_of(call(SIZE._replace(has_unseen=True)), ModelLimits())

    assert usage["input_tokens"] == 2_000_000


@pytest.mark.parametrize(
    ("model_id", "listed", "window"),
    [
        ("qwen.qwen3-32b-v1:0", 128_000, 134_218),
        ("moonshotai.kimi-k2.5", 256_000, 268_436),
        ("us.meta.llama4-maverick-17b-instruct-v1:0", 1_000_000, 1_048_576),
        ("us.writer.palmyra-x5-v1:0", 128_000, 1_048_576),
        ("us.writer.palmyra-x4-v1:0", 128_000, 134_218),
        ("anthropic.claude-sonnet-4-5-20250929-v1:0", 200_000, 200_000),
    ],
)
def test_a_window_that_a_list_rounds_is_as_large_as_it_may_be(
    model_id: str, listed: int, window: int
) -> None:
    """
    Lists have 128,000 for 131,072, and for Palmyra X5 an eighth of what it reads.
    """
    (usage, *_) = most_of(
        call(SIZE._replace(has_unseen=True), model_id), ModelLimits(max_input_tokens=listed)
    )

    assert usage["input_tokens"] == window


def test_a_request_can_widen_the_window() -> None:
    """
    With Anthropic's beta for a million tokens, the listed window is no bound.
    """
    size = SIZE._replace(text_bytes=900_000, max_input_tokens=1_000_000)

    assert most_of(call(size), LIMITS)[0]["input_tokens"] == 900_096


@pytest.mark.parametrize(
    ("life", "meters"),
    [
        (None, ["input_tokens"]),
        ("5m", ["input_tokens", "cache_write_5m_input_tokens"]),
        ("1h", ["input_tokens", "cache_write_5m_input_tokens", "cache_write_1h_input_tokens"]),
    ],
)
def test_a_marked_prompt_may_be_written_to_a_cache_whole(life: str | None, meters: list[str]) -> None:
    """
    The dearest meter the prompt can land on is what it may cost.
    """
    alternatives = most_of(call(SIZE._replace(writes_cache=life)), LIMITS)  # type: ignore[arg-type]

    assert alternatives == tuple({meter: 1_096, "output_tokens": 500} for meter in meters)


def test_some_models_write_to_a_cache_unasked() -> None:
    """
    OpenAI's newer models list a price for it, and no request marks it.
    """
    alternatives = most_of(call(SIZE, "openai.gpt-6-sol"), LIMITS)

    assert [next(iter(usage)) for usage in alternatives] == ["input_tokens", "cache_write_5m_input_tokens"]


@pytest.mark.parametrize(
    ("size", "limits", "tokens"),
    [
        (SIZE, LIMITS, 500),
        (SIZE._replace(candidates=3), LIMITS, 1_500),
        (SIZE._replace(output_limit=None), LIMITS, 64_000),
        (SIZE._replace(output_limit=None), ModelLimits(), 128_000),
        (SIZE._replace(output_limit=100_000), LIMITS, 100_000),  # lists may be too low
        (SIZE._replace(output_limit=10**15), LIMITS, 1_000_000),
    ],
)
def test_output_is_bounded_by_the_limit_or_the_model(
    size: RequestSize, limits: ModelLimits, tokens: int
) -> None:
    """
    Unset means as much as the model can.
    """
    assert most_of(call(size), limits)[0]["output_tokens"] == tokens


def test_a_list_that_is_known_to_be_too_low_is_not_believed() -> None:
    """
    Lists say 8,192 of Claude 3.7, which writes 64,000.
    """
    size = SIZE._replace(output_limit=None)
    limits = ModelLimits(max_output_tokens=8_192)

    assert (
        most_of(call(size, "anthropic.claude-3-7-sonnet-20250219-v1:0"), limits)[0]["output_tokens"] == 64_000
    )


def test_embeddings_have_no_output() -> None:
    """
    Their price list has no price for it either.
    """
    size = RequestSize(text_bytes=100, generates=False)

    assert most_of(call(size, "amazon.titan-embed-text-v2:0"), LIMITS) == ({"input_tokens": 180},)


def test_the_window_of_an_embedding_is_that_of_each_text() -> None:
    """
    Ninety-six texts of 512 tokens each are one request.
    """
    size = RequestSize(text_bytes=96 * 2_000, messages=96, generates=False)

    (usage,) = most_of(call(size, "cohere.embed-english-v3"), ModelLimits(max_input_tokens=512))

    assert usage == {"input_tokens": 96 * 512}
