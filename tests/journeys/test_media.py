"""
Embeddings, rerank, images and videos: what is billed beside tokens, beside the server's own bill.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Any

import dynamodb_engine
import pytest
from botocore.exceptions import ClientError
from botocore_versions import needs_newer_model

from bedrock_guard import BudgetExceeded
from bedrock_guard.errors import UnpricedModel
from bedrock_guard.testing.bedrock_server import BedrockServer, error, lost_answer, raw
from bedrock_guard.testing.loopback.media import png
from bedrock_guard.testing.loopback.operations import JOB

from .conftest import Guarded
from .fault_cells import URLS

CANVAS = "amazon.nova-canvas-v1:0"
TITAN_IMAGE = "amazon.titan-image-generator-v2:0"
STABILITY = "stability.stable-image-core-v1:1"
TITAN_EMBED = "amazon.titan-embed-text-v2:0"
TITAN_BOTH = "amazon.titan-embed-image-v1"
NOVA_EMBED = "amazon.nova-2-multimodal-embeddings-v1:0"
COHERE_EMBED = "us.cohere.embed-v4:0"
COHERE_RERANK = "cohere.rerank-v3-5:0"
AMAZON_RERANK = "amazon.rerank-v1:0"
MARENGO = "us.twelvelabs.marengo-embed-3-0-v1:0"
PEGASUS = "us.twelvelabs.pegasus-1-2-v1:0"
REEL = "amazon.nova-reel-v1:0"

# USD a unit, as the packaged list's sources print them.
RATES = {
    CANVAS: {
        "images_standard_1024": "0.04",
        "images_standard_2048": "0.06",
        "images_premium_1024": "0.06",
        "images_premium_2048": "0.08",
    },
    TITAN_IMAGE: {"images": "0.008"},
    STABILITY: {"images": "0.04"},
    TITAN_EMBED: {"input_tokens": "0.00000002"},
    TITAN_BOTH: {"input_tokens": "0.0000008", "input_images": "0.00006"},
    NOVA_EMBED: {
        "input_tokens": "0.000000135",
        "input_images": "0.00006",
        "input_audio_seconds": "0.00014",
        "input_video_seconds": "0.0007",
    },
    COHERE_EMBED: {"input_tokens": "0.00000012"},
    COHERE_RERANK: {"queries": "0.002"},
    AMAZON_RERANK: {"queries": "0.001"},
    MARENGO: {
        "queries": "0.00007",
        "input_images": "0.0001",
        "input_audio_seconds": "0.00014",
        "input_video_seconds": "0.0007",
    },
    PEGASUS: {"input_video_seconds": "0.00049", "output_tokens": "0.0000075"},
    REEL: {"output_video_seconds": "0.08"},
}


@pytest.fixture
def server() -> Iterator[BedrockServer]:
    with BedrockServer(rates=RATES) as running:
        yield running


@pytest.fixture
def media(make_guarded: Callable[..., Guarded]) -> Guarded:
    return make_guarded("100 USD/day")


def invoke(guarded: Guarded, model_id: str, body: dict[str, Any] | bytes) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body)
    return json.loads(guarded.client.invoke_model(modelId=model_id, body=raw)["body"].read())


def start(guarded: Guarded, model_id: str, model_input: dict[str, Any]) -> str:
    output = {"s3OutputDataConfig": {"s3Uri": "s3://bucket"}}
    reply = guarded.client.start_async_invoke(
        modelId=model_id, modelInput=model_input, outputDataConfig=output
    )
    return str(reply["invocationArn"])


def images(task: str = "TEXT_IMAGE", **config: Any) -> dict[str, Any]:
    return {"taskType": task, "imageGenerationConfig": config}


@pytest.mark.parametrize(
    ("model_id", "body", "usage", "basis"),
    [
        (CANVAS, images(), {"images_standard_1024": 1}, "reported"),
        (CANVAS, images(numberOfImages=5, quality="premium"), {"images_premium_1024": 5}, "reported"),
        (CANVAS, images(width=2048, height=512), {"images_standard_2048": 1}, "reported"),
        (CANVAS, images(width=1024, height=1280, quality="premium", numberOfImages=2), {"images_premium_2048": 2}, "reported"),
        (CANVAS, {"taskType": "INPAINTING", "inPaintingParams": {"image": png(640, 480)}}, {"images_standard_1024": 1}, "reported"),
        (CANVAS, {"taskType": "BACKGROUND_REMOVAL", "backgroundRemovalParams": {"image": png(1600, 900)}}, {"images_standard_2048": 1}, "reported"),
        (TITAN_IMAGE, images(numberOfImages=3, width=512, height=512), {"images": 3}, "reported"),
        (STABILITY, {"prompt": "a cat"}, {"images": 1}, "reported"),
        (TITAN_EMBED, {"inputText": "12345678"}, {"input_tokens": 2}, "reported"),
        (TITAN_BOTH, {"inputText": "12345678"}, {"input_tokens": 2}, "reported"),
        (TITAN_BOTH, {"inputText": "12345678", "inputImage": png(9, 9)}, {"input_tokens": 2, "input_images": 1}, "reported"),
        (COHERE_EMBED, {"texts": ["1234", "5678"]}, {"input_tokens": 2}, "reported"),
        (NOVA_EMBED, {"singleEmbeddingParams": {"text": {"value": "12345678"}}}, {"input_tokens": 2}, "reported"),
        (NOVA_EMBED, {"singleEmbeddingParams": {"image": {"format": "png", "source": {"bytes": png(9, 9)}}}}, {"input_images": 1}, "estimated"),
        (COHERE_RERANK, {"query": "cat", "documents": ["a cat"] * 100}, {"queries": 1}, "estimated"),
        (COHERE_RERANK, {"query": "cat", "documents": ["a cat"] * 101}, {"queries": 2}, "estimated"),
        (AMAZON_RERANK, {"query": "cat", "documents": [{"title": "a cat"}] * 9}, {"queries": 1}, "estimated"),
        (MARENGO, {"inputType": "text", "text": {"inputText": "cats"}}, {"queries": 1}, "estimated"),
        (MARENGO, {"inputType": "text_image", "text_image": {"inputText": "cats"}}, {"queries": 1, "input_images": 1}, "estimated"),
    ],
)  # fmt: skip
def test_what_is_no_token_costs_what_the_server_bills(
    media: Guarded, model_id: str, body: dict[str, Any], usage: dict[str, int], basis: str
) -> None:
    """
    Calls that are not counted at all are as loud a complaint as overspending.
    """
    invoke(media, model_id, body)

    assert dict(media.entry.usage) == usage
    assert (media.entry.outcome, media.entry.basis) == ("answered", basis)
    assert media.spent_nanousd == media.server.bill.nanousd > 0
    assert media.pending == [0]
    # What only the request tells is not what AWS reported.
    stated = {meter: quantity for meter, quantity in usage.items() if meter != "input_images"}
    assert media.entry.reported_usage == (stated if basis == "reported" else None)


@pytest.mark.parametrize(
    ("model_id", "body", "usage", "stated"),
    [
        (NOVA_EMBED, {"singleEmbeddingParams": {"audio": {"format": "mp3", "source": {"s3Location": {"uri": "s3://b/9s.mp3"}}}}}, {"input_audio_seconds": 30}, None),
        (NOVA_EMBED, {"singleEmbeddingParams": {"video": {"format": "mp4", "source": {"s3Location": {"uri": "s3://b/30s.mp4"}}}}}, {"input_audio_seconds": 30, "input_video_seconds": 30}, None),
        (PEGASUS, {"inputPrompt": "what?", "mediaSource": {"s3Location": {"uri": "s3://b/60s.mp4"}}, "maxOutputTokens": 50}, {"input_video_seconds": 3600, "output_tokens": 50}, {"output_tokens": 50}),
        (COHERE_RERANK, {"query": "cat", "documents": ["long " * 500] * 100}, {"queries": 6}, None),
    ],
)  # fmt: skip
def test_what_nothing_tells_is_charged_at_the_most_it_can_be(
    media: Guarded, model_id: str, body: dict[str, Any], usage: dict[str, int], stated: dict[str, int] | None
) -> None:
    """
    How long a video lasts is in no request and no reply: the charge is marked, and not below the bill.
    """
    invoke(media, model_id, body)

    assert dict(media.entry.usage) == usage
    assert (media.entry.outcome, media.entry.basis) == ("answered", "estimated")
    assert media.entry.reported_usage == stated
    assert media.spent_nanousd >= media.server.bill.nanousd > 0


@needs_newer_model
@pytest.mark.parametrize(
    ("model_id", "model_input", "usage"),
    [
        (REEL, {"taskType": "TEXT_VIDEO", "videoGenerationConfig": {"durationSeconds": 6}}, {"output_video_seconds": 6}),
        (REEL, {"taskType": "TEXT_VIDEO"}, {"output_video_seconds": 6}),
        (REEL, {"taskType": "MULTI_SHOT_AUTOMATED", "videoGenerationConfig": {"durationSeconds": 24}}, {"output_video_seconds": 24}),
        (REEL, {"taskType": "MULTI_SHOT_MANUAL", "multiShotManualParams": {"shots": [{"text": "a"}] * 3}}, {"output_video_seconds": 18}),
        (MARENGO, {"inputType": "image"}, {"input_images": 1}),
    ],
)  # fmt: skip
def test_a_job_is_settled_when_it_is_accepted(
    media: Guarded, model_id: str, model_input: dict[str, Any], usage: dict[str, int]
) -> None:
    """
    Nothing tells later what it used; the entry says which job the money was for.
    """
    job = start(media, model_id, model_input)

    assert media.entry.job == job == JOB
    assert dict(media.entry.usage) == usage
    assert (media.entry.outcome, media.entry.basis) == ("answered", "estimated")
    assert media.entry.reported_usage is None
    assert media.spent_nanousd == media.server.bill.nanousd > 0
    assert media.pending == [0]


@needs_newer_model
def test_a_text_that_a_job_embeds_is_charged_at_its_bound(media: Guarded) -> None:
    """
    Tokens are counted by nobody then, so not even the request tells.
    """
    params = {"text": {"value": "12345678"}, "segmentationConfig": {"maxLengthChars": 800}}

    start(media, NOVA_EMBED, {"taskType": "SEGMENTED_EMBEDDING", "segmentedEmbeddingParams": params})

    assert media.entry.basis == "estimated"
    assert media.entry.job == JOB
    assert media.spent_nanousd >= media.server.bill.nanousd > 0


@needs_newer_model
def test_a_video_that_does_not_fit_is_not_begun(make_guarded: Callable[..., Guarded]) -> None:
    """
    Two minutes are 9.60 USD, asked for in one line.
    """
    guarded = make_guarded("9 USD/day")

    with pytest.raises(BudgetExceeded):
        start(
            guarded,
            REEL,
            {"taskType": "MULTI_SHOT_AUTOMATED", "videoGenerationConfig": {"durationSeconds": 120}},
        )

    assert guarded.server.requests == ()


def test_images_beyond_a_budget_are_not_drawn(make_guarded: Callable[..., Guarded]) -> None:
    """
    A budget of three images refuses the fourth, whatever is in flight.
    """
    guarded = make_guarded("0.12 USD/day")
    for _ in range(3):
        invoke(guarded, CANVAS, images())

    with pytest.raises(BudgetExceeded):
        invoke(guarded, CANVAS, images())

    assert guarded.spent_nanousd == guarded.server.bill.nanousd == 120_000_000


@pytest.mark.parametrize(
    "body", [b'{"images": [], "error": "filtered"}', b'{"images": null}', b"{}", b"[", b""]
)
@pytest.mark.parametrize("model_id", [CANVAS, TITAN_IMAGE, STABILITY])
def test_an_answer_that_shows_no_image_is_charged_as_asked_for(
    media: Guarded, model_id: str, body: bytes
) -> None:
    """
    Whether AWS bills what a filter held back is not documented; it is not silently free.
    """
    media.server.will_answer(raw(200, {"content-type": "application/json"}, body))

    media.client.invoke_model(modelId=model_id, body=json.dumps(images()))["body"].read()

    assert media.entry.basis == "estimated"
    assert media.entry.reported_usage is None
    assert media.entry.cost == media.entry.estimated_cost == Decimal(next(iter(RATES[model_id].values())))


def test_fewer_images_than_asked_for_are_charged_as_they_came(media: Guarded) -> None:
    """
    A filter may hold some of them back; the reply shows which were made.
    """
    body = json.dumps({"images": [png(1024, 1024)] * 2}).encode()
    media.server.will_answer(raw(200, {}, body, billed={"images_standard_1024": 2}))

    invoke(media, CANVAS, images(numberOfImages=4))

    assert media.entry.usage == {"images_standard_1024": 2}
    assert media.spent_nanousd == media.server.bill.nanousd


def test_a_lost_answer_is_charged_beside_the_one_that_came(media: Guarded) -> None:
    """
    Both may have been drawn, and both are billed here.
    """
    media.server.will_answer(lost_answer())

    invoke(media, CANVAS, images(numberOfImages=2))

    assert media.entry.basis == "estimated"
    assert media.entry.usage == {"images_standard_1024": 4}
    assert media.spent_nanousd == media.server.bill.nanousd


def test_a_rejected_image_is_free(media: Guarded) -> None:
    """
    A prompt that AWS turns away costs nothing, and holds nothing.
    """
    media.server.will_answer(error(400))

    with pytest.raises(ClientError):
        invoke(media, CANVAS, images())

    assert media.spent_nanousd == 0
    assert media.pending == [0]


def test_a_meter_without_a_price_is_refused_with_what_to_do(media: Guarded) -> None:
    """
    No source states what an image of a document costs; it is not priced as a photograph.
    """
    params = {"image": {"detailLevel": "DOCUMENT_IMAGE", "source": {"bytes": png(9, 9)}}}

    with pytest.raises(UnpricedModel, match=r"input_document_images.*\[prices\]"):
        invoke(media, NOVA_EMBED, {"singleEmbeddingParams": params})

    assert media.server.requests == ()


def test_luma_is_priced_by_whoever_uses_it(make_guarded: Callable[..., Guarded]) -> None:
    """
    The list has no price for it; the account's own makes it a call like any other.
    """
    guarded = make_guarded(prices={"luma.ray-v2:0": {"output_video_seconds": "1.50 USD"}})
    estimate = guarded.guard.estimate(
        "StartAsyncInvoke", modelId="luma.ray-v2:0", modelInput={"prompt": "a cat", "duration": "5s"}
    )

    assert estimate.cost == Decimal("7.50")


def test_a_stream_about_a_video_is_charged_its_video_too(media: Guarded) -> None:
    """
    The metrics of the last chunk count input that is not billed, and say nothing of what is.
    """
    body = {
        "inputPrompt": "what?",
        "mediaSource": {"s3Location": {"uri": "s3://b/3600s.mp4"}},
        "maxOutputTokens": 50,
    }

    list(media.client.invoke_model_with_response_stream(modelId=PEGASUS, body=json.dumps(body))["body"])

    assert media.entry.usage == {"input_video_seconds": 3_600, "output_tokens": 50}
    assert media.entry.reported_usage == {"output_tokens": 50}
    assert media.spent_nanousd == media.server.bill.nanousd


def test_another_client_s_request_is_held_and_settled_the_same(media: Guarded) -> None:
    """
    What a hold is settled with is the reply, whoever sent the request.
    """
    with media.guard.hold(
        "InvokeModel", {"modelId": CANVAS, "body": images(numberOfImages=2)}, region="us-east-1"
    ) as hold:
        entry = hold.settle({"images": [png(1024, 1024), png(1024, 2048)]})
    with media.guard.hold(
        "StartAsyncInvoke",
        {"modelId": REEL, "modelInput": {"taskType": "TEXT_VIDEO"}, "outputDataConfig": {}},
        region="us-east-1",
    ) as hold:
        job = hold.settle({"invocationArn": JOB})

    assert entry.usage == {"images_standard_1024": 1, "images_standard_2048": 1}
    assert (job.job, job.cost) == (JOB, Decimal("0.48"))


@pytest.mark.parametrize("scheme", URLS)
@needs_newer_model
def test_a_job_is_kept_by_every_ledger(
    make_guarded: Callable[..., Guarded], tmp_path: Path, scheme: str
) -> None:
    """
    Whoever reads the entry later finds the job that it paid for.
    """
    with dynamodb_engine.quick() if scheme == "dynamodb" else nullcontext():
        guarded = make_guarded("films: 5 USD/day", ledger=URLS[scheme](tmp_path))

        start(guarded, REEL, {"taskType": "TEXT_VIDEO"})

        assert next(guarded.guard.entries(operation="StartAsyncInvoke")).job == JOB
        guarded.guard.close()


@needs_newer_model
def test_a_handler_that_makes_a_video_longer_is_seen(media: Guarded) -> None:
    """
    The body that leaves is the one that is held for, also where it names the model.
    """

    def longer(params: dict[str, Any], **_: Any) -> None:
        params["body"] = params["body"].replace(b'"durationSeconds": 6', b'"durationSeconds": 12')

    media.client.meta.events.register("before-call.bedrock-runtime.StartAsyncInvoke", longer)

    start(media, REEL, {"taskType": "TEXT_VIDEO", "videoGenerationConfig": {"durationSeconds": 6}})

    assert media.entry.usage == {"output_video_seconds": 12}
    assert media.spent_nanousd == media.server.bill.nanousd


def test_a_video_that_is_written_about_in_no_tokens_cannot_be_right(media: Guarded) -> None:
    """
    Headers that say so do not settle a call: its body does, which has text in it.
    """
    counts = {"x-amzn-bedrock-input-token-count": "9", "x-amzn-bedrock-output-token-count": "0"}
    media.server.will_answer(raw(200, counts, b'{"message": "A cat.", "finishReason": "stop"}'))

    invoke(media, PEGASUS, {"inputPrompt": "what?", "mediaSource": {}, "maxOutputTokens": 50})

    assert media.entry.anomalies == ("no_output",)
    assert media.entry.usage == {"input_video_seconds": 3_600, "output_tokens": 50}
