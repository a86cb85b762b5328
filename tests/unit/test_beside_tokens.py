"""
What requests are billed for beside tokens: read from the request, and never less than AWS may bill.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from bounds import most_of
from hypothesis import given, settings
from hypothesis import strategies as st

from bedrock_guard.domain.call import ModelLimits
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.families import family_of
from bedrock_guard.meters import METERS
from bedrock_guard.operations.async_invoke import START_ASYNC_INVOKE
from bedrock_guard.operations.invoke_model import INVOKE_MODEL

CANVAS = "amazon.nova-canvas-v1:0"
TITAN_IMAGE = "amazon.titan-image-generator-v2:0"
REEL = "amazon.nova-reel-v1:0"
LUMA = "luma.ray-v2:0"
RERANK = "cohere.rerank-v3-5:0"
MARENGO = "us.twelvelabs.marengo-embed-3-0-v1:0"
MARENGO_2 = "us.twelvelabs.marengo-embed-2-7-v1:0"
NOVA_EMBED = "amazon.nova-2-multimodal-embeddings-v1:0"
MODELS = [
    CANVAS,
    TITAN_IMAGE,
    REEL,
    LUMA,
    RERANK,
    "amazon.rerank-v1:0",
    MARENGO,
    MARENGO_2,
    NOVA_EMBED,
    "amazon.titan-embed-image-v1",
    "stability.sd3-5-large-v1:0",
    "us.twelvelabs.pegasus-1-2-v1:0",
    "us.twelvelabs.pegasus-1-5-v1:0",
]
ODD = st.sampled_from(
    [None, True, -1, 0, 7, 10**40, -0.5, 2.5, float("nan"), float("inf"), "", "x", [], [None], [[1], {}], {}, {"a": [1]}]
)  # fmt: skip
KEYS = [
    "taskType", "imageGenerationConfig", "numberOfImages", "width", "height", "quality", "documents", "query",
    "duration", "videoGenerationConfig", "durationSeconds", "multiShotManualParams", "shots", "inputType",
    "inputText", "inputImage", "singleEmbeddingParams", "segmentedEmbeddingParams", "text", "image", "video",
    "audio", "detailLevel", "source", "mediaSource", "maxOutputTokens",
]  # fmt: skip
LEAVES = st.dictionaries(st.sampled_from(KEYS), ODD, max_size=4)
INNER = st.dictionaries(st.sampled_from(KEYS), LEAVES | ODD, max_size=4)
BODIES = st.dictionaries(st.sampled_from(KEYS), INNER | ODD, max_size=4)


def most(model_id: str, body: Any) -> dict[str, int]:
    """
    The one alternative that a body comes to.
    """
    raw = body if isinstance(body, bytes) else json.dumps(body)
    call = INVOKE_MODEL.read_call({"modelId": model_id, "body": raw}, region="us-east-1")
    (usage,) = most_of(call, ModelLimits())
    return dict(usage)


def images(count: Any = 1, **config: Any) -> dict[str, Any]:
    return {"taskType": "TEXT_IMAGE", "imageGenerationConfig": {"numberOfImages": count, **config}}


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        (images(), {"images_standard_1024": 1}),
        (images(3, quality="premium"), {"images_premium_1024": 3}),
        (images(width=1025), {"images_standard_2048": 1}),
        (images(height=4096, quality="premium"), {"images_premium_2048": 1}),
        (images(width="wide"), {"images_standard_2048": 1}),
        (images(quality="superb"), {"images_premium_1024": 1}),
        (images(quality=["premium"]), {"images_premium_1024": 1}),
        (images(2.0), {"images_standard_1024": 2}),
        (images(1.5), {"images_standard_1024": 2}),
        (images(None), {"images_standard_1024": 1}),
        (images(-1), {"images_standard_1024": 5}),
        (images(0), {"images_standard_1024": 5}),
        (images("3"), {"images_standard_1024": 5}),
        (images(True), {"images_standard_1024": 5}),  # noqa: FBT003
        (images(7), {"images_standard_1024": 7}),
        (images(10**30), {"images_standard_1024": 1_000_000}),
        ({"imageGenerationConfig": {}}, {"images_standard_2048": 1}),
        ({"taskType": "TEXT_IMAGE"}, {"images_standard_1024": 1}),
        ({"taskType": "TEXT_IMAGE", "imageGenerationConfig": "large"}, {"images_premium_2048": 5}),
        ({"taskType": "OUTPAINTING"}, {"images_standard_2048": 1}),
        (b"no JSON", {"images_premium_2048": 5}),
        (b"[]", {"images_premium_2048": 5}),
        (b"", {"images_premium_2048": 5}),
    ],
)
def test_images_by_count_size_and_quality(body: Any, usage: dict[str, int]) -> None:
    """
    What cannot be read is the most that the model draws; a size that the task takes from its input, the larger.
    """
    assert most(CANVAS, body) == usage


@pytest.mark.parametrize(
    ("model_id", "body", "seconds"),
    [
        (REEL, {"taskType": "TEXT_VIDEO"}, 6),
        (REEL, {"taskType": "TEXT_VIDEO", "videoGenerationConfig": {"durationSeconds": 12}}, 12),
        (REEL, {"taskType": "MULTI_SHOT_AUTOMATED", "videoGenerationConfig": {"durationSeconds": 30}}, 30),
        (REEL, {"taskType": "MULTI_SHOT_AUTOMATED"}, 120),
        (REEL, {"taskType": "MULTI_SHOT_MANUAL", "multiShotManualParams": {"shots": [{}] * 20}}, 120),
        (REEL, {"taskType": "MULTI_SHOT_MANUAL", "multiShotManualParams": {"shots": "many"}}, 120),
        (REEL, {"taskType": "SOMETHING_NEW"}, 120),
        (REEL, {}, 120),
        (REEL, {"taskType": "TEXT_VIDEO", "videoGenerationConfig": {"durationSeconds": -6}}, 120),
        (REEL, {"taskType": "TEXT_VIDEO", "videoGenerationConfig": []}, 120),
        (REEL, {"taskType": ["TEXT_VIDEO"]}, 120),
        (LUMA, {"duration": "5s"}, 5),
        (LUMA, {"duration": "9s"}, 9),
        (LUMA, {}, 9),
        (LUMA, {"duration": "long"}, 9),
        (LUMA, {"duration": 5}, 5),
        (LUMA, {"duration": "0s"}, 9),
        (LUMA, {"duration": "9" * 40 + "s"}, 9),
        (LUMA, {"duration": "²s"}, 9),
    ],
)
def test_videos_by_the_second(model_id: str, body: dict[str, Any], seconds: int) -> None:
    """
    A minute of video costs what a million tokens do; an unread duration is the longest.
    """
    params = {"modelId": model_id, "modelInput": body}

    assert most_of(START_ASYNC_INVOKE.read_call(params, region="us-east-1"), ModelLimits()) == (
        {"output_video_seconds": seconds},
    )


@pytest.mark.parametrize(
    ("body", "queries", "is_exact"),
    [
        ({"query": "q", "documents": ["a"] * 100}, 1, True),
        ({"query": "q", "documents": ["a"] * 101}, 2, True),
        ({"query": "q", "documents": []}, 1, True),
        ({"query": "q", "documents": ["a" * 495] * 100}, 1, True),
        ({"query": "q", "documents": ["a" * 496] * 100}, 2, False),
        ({"query": "q" * 9_999, "documents": ["a" * 240] * 100}, 1, True),
        ({"query": "q" * 9_999, "documents": ["a" * 241] * 100}, 2, False),
        ({"query": None, "documents": [{"text": "a"}] * 5}, 1, True),
        ({"documents": "all of them"}, 10, False),
        ({}, 10, False),
    ],
)
def test_queries_by_hundreds_of_documents(body: dict[str, Any], queries: int, is_exact: bool) -> None:
    """
    A long document counts as several; a byte is at most a token, so their bytes bound how many.
    """
    assert most(RERANK, body) == {"queries": queries}
    assert family_of(parse_model_id(RERANK)).read_request(body).beside_is_exact == is_exact


@pytest.mark.parametrize(
    ("model_id", "body", "usage"),
    [
        (MARENGO, {"inputType": "video"}, {"input_video_seconds": 14_400}),
        (MARENGO_2, {"inputType": "video"}, {"input_video_seconds": 7_200}),
        (MARENGO, {"inputType": "audio"}, {"input_audio_seconds": 14_400}),
        (MARENGO, {"inputType": "smell"}, {"queries": 1, "input_images": 100, "input_audio_seconds": 14_400, "input_video_seconds": 14_400}),
        ("us.twelvelabs.pegasus-1-5-v1:0", {"inputPrompt": "x"}, {"input_video_seconds": 7_200, "output_tokens": 98_304}),
        ("us.twelvelabs.pegasus-1-2-v1:0", {"inputPrompt": "x" * 9_999, "maxOutputTokens": 9}, {"input_video_seconds": 3_600, "output_tokens": 9}),
        (NOVA_EMBED, {"singleEmbeddingParams": {"image": {"detailLevel": "DOCUMENT_IMAGE"}}}, {"input_document_images": 1}),
        (NOVA_EMBED, {"singleEmbeddingParams": {"image": {"detailLevel": 5}}}, {"input_images": 1}),
        (NOVA_EMBED, {"segmentedEmbeddingParams": {"audio": {}}}, {"input_audio_seconds": 14_400}),
        (NOVA_EMBED, b"{", {"input_tokens": 8_192, "input_audio_seconds": 14_400, "input_video_seconds": 14_400}),
    ],
)  # fmt: skip
def test_media_are_as_long_as_they_can_be(model_id: str, body: Any, usage: dict[str, int]) -> None:
    """
    Nobody looks into a video here; and where a prompt is free, it has no tokens.
    """
    assert most(model_id, body) == usage


def test_a_text_that_is_embedded_is_no_longer_than_its_window() -> None:
    """
    Titan and Nova refuse what is longer, so a bound above that would only hold money.
    """
    for model_id, body in [
        ("amazon.titan-embed-text-v2:0", {"inputText": "x" * 50_000}),
        (NOVA_EMBED, {"singleEmbeddingParams": {"text": {"source": {"s3Location": {"uri": "s3://b/k"}}}}}),
    ]:
        assert most(model_id, body) == {"input_tokens": 8_192}


def test_a_text_in_segments_may_be_longer_than_one_window() -> None:
    """
    Each segment has a window of its own, and so has what lies in S3.
    """
    inline = {"segmentedEmbeddingParams": {"text": {"value": "x" * 100_000}}}
    in_s3 = {"segmentedEmbeddingParams": {"text": {"source": {"s3Location": {"uri": "s3://b/k"}}}}}

    assert most(NOVA_EMBED, inline)["input_tokens"] >= 100_000
    assert most(NOVA_EMBED, in_s3)["input_tokens"] >= 634 * 10**6


@pytest.mark.parametrize("model_id", MODELS)
@settings(max_examples=50)
@given(body=BODIES)
def test_no_body_raises_and_all_have_a_bound(model_id: str, body: dict[str, Any]) -> None:
    """
    Negative, absurd, of another type: the bound is positive, and of meters that there are.
    """
    family = family_of(parse_model_id(model_id))
    call = INVOKE_MODEL.read_call({"modelId": model_id, "body": b"{}"}, region="us-east-1")

    (usage,) = most_of(call._replace(size=family.read_request(body)), ModelLimits())

    assert usage
    assert usage.keys() <= METERS.keys()
    assert all(isinstance(quantity, int) and quantity > 0 for quantity in usage.values())


@pytest.mark.parametrize("image", [None, 5, "", "!", "aGVsbG8=", "iVBORw0KGgo=", "iVBORw0KGgo" + "A" * 40])
def test_an_image_that_does_not_say_its_size_is_charged_as_asked_for(image: object) -> None:
    """
    It was made, whatever it is.
    """
    family, asked = family_of(parse_model_id(CANVAS)), {"images_premium_2048": 2}

    assert family.read_made({"images": [image, image]}, asked) == asked


def test_a_document_nested_without_end_is_one_of_full_length() -> None:
    """
    The walk gives up before the stack does, and nothing raises.
    """
    document: Any = "x"
    for _ in range(100_000):
        document = [document]

    size = family_of(parse_model_id(RERANK)).read_request({"query": "q", "documents": [document] * 100})

    assert size.beside_tokens == {"queries": 2}
