"""
Requests that AWS will reject: the guard is not in the way, holds no less than it must, and keeps nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError
from botocore_versions import needs_newer_model

from bedrock_guard.testing.bedrock_server import error

from .conftest import HELLO, Guarded

MODELS = [
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "anthropic.claude-instant-v1",
    "amazon.nova-lite-v1:0",
    "us.amazon.nova-2-lite-v1:0",
    "amazon.titan-text-express-v1",
    "amazon.titan-embed-text-v2:0",
    "amazon.titan-embed-image-v1",
    "amazon.titan-image-generator-v2:0",
    "amazon.nova-canvas-v1:0",
    "amazon.nova-2-multimodal-embeddings-v1:0",
    "amazon.nova-reel-v1:0",
    "amazon.rerank-v1:0",
    "us.meta.llama3-3-70b-instruct-v1:0",
    "mistral.mistral-7b-instruct-v0:2",
    "mistral.mistral-large-2402-v1:0",
    "cohere.command-r-v1:0",
    "us.cohere.embed-v4:0",
    "cohere.rerank-v3-5:0",
    "ai21.jamba-1-5-mini-v1:0",
    "us.deepseek.r1-v1:0",
    "openai.gpt-oss-120b-1:0",
    "qwen.qwen3-32b-v1:0",
    "us.writer.palmyra-x5-v1:0",
    "stability.sd3-5-large-v1:0",
    "us.twelvelabs.pegasus-1-2-v1:0",
    "us.twelvelabs.marengo-embed-3-0-v1:0",
]
LIMITS = (
    "max_tokens",
    "maxTokens",
    "max_gen_len",
    "maxTokenCount",
    "maxOutputTokens",
    "n",
    "num_generations",
)
KEYS = (
    "messages", "prompt", "inputText", "inputPrompt", "system", "tools", "toolConfig", "texts", "images", "inputs",
    "documents", "query", "inputType", "inputImage", "mediaSource", "imageGenerationConfig", "taskType",
    "videoGenerationConfig", "singleEmbeddingParams", "segmentedEmbeddingParams", "textGenerationConfig",
    "inferenceConfig", "thinking", "reasoningConfig", "anthropic_beta", "response_format", "output_config",
)  # fmt: skip


def everything(value: object, keys: tuple[str, ...] = KEYS) -> bytes:
    return json.dumps(dict.fromkeys(keys, value)).encode()


BODIES = {
    "nothing": b"",
    "no JSON": b"hello",
    "half of it": b'{"messages": [',
    "no UTF-8": b"\xff\xfe\x00{",
    "a list": b"[1, 2]",
    "a number": b"7",
    "null": b"null",
    "a number without end": b'{"max_tokens": ' + b"9" * 5_000 + b"}",
    "nested without end": b'{"messages": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "objects without end": b'{"messages": ' + b'{"content":' * 5_000 + b"1" + b"}" * 5_001,
    "no numbers": b'{"max_tokens": NaN, "imageGenerationConfig": {"numberOfImages": Infinity, "width": -Infinity}}',
    "half a pair": b'{"prompt": "\\ud800", "messages": [{"role": "user", "content": "\\udfff"}]}',
    "negative limits": everything(-5, LIMITS),
    "zero limits": everything(0, LIMITS),
    "absurd limits": everything(10**40, LIMITS),
    "limits as words": everything("many", LIMITS),
    "limits as lists": everything([10], LIMITS),
    "all null": everything(None),
    "all numbers": everything(3),
    "all true": everything(True),  # noqa: FBT003
    "all words": everything("x"),
    "all empty lists": everything([]),
    "all empty objects": everything({}),
    "lists of null": everything([None, [None], {"type": None, "content": None}]),
    "objects of numbers": everything({"type": 1, "text": 2, "content": 3, "source": 4, "numberOfImages": {}}),
    "unknown images": json.dumps(
        {"messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/x-psd", "data": "!"}},
            {"image": {"format": "psd", "source": {"bytes": 5}}},
            {"type": "image_url", "image_url": "data:,"},
        ]}]}
    ).encode(),
}  # fmt: skip


@pytest.fixture
def rejected(make_guarded: Callable[..., Guarded]) -> Guarded:
    """
    A client whose every request AWS turns away, with money for the dearest of them.
    """
    guarded = make_guarded("1000000 USD/day", on_unpriced="upper_bound")
    guarded.server.always(error(400))
    return guarded


def assert_released(guarded: Guarded) -> None:
    assert guarded.pending == [0]
    assert guarded.spent_nanousd == 0
    assert guarded.entry.outcome == "rejected"
    assert guarded.entry.estimated_cost


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_any_body_goes_to_aws_and_comes_back_free(rejected: Guarded, body: bytes) -> None:
    """
    Never an exception of ours that AWS would not have raised; what it rejects holds nothing.
    """
    for model_id in MODELS:
        with pytest.raises(ClientError, match="ValidationException"):
            rejected.client.invoke_model(modelId=model_id, body=body)

        assert_released(rejected)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_stream_of_any_body_too(rejected: Guarded, body: bytes) -> None:
    """
    The same, where the answer would have been a stream.
    """
    for model_id in MODELS[::5]:
        with pytest.raises(ClientError, match="ValidationException"):
            rejected.client.invoke_model_with_response_stream(modelId=model_id, body=body)

        assert_released(rejected)


@needs_newer_model
@pytest.mark.parametrize(
    "model_input",
    [
        {},
        {"taskType": 5},
        {"videoGenerationConfig": {"durationSeconds": -1}},
        {"inputType": []},
        [1],
        "x",
        5,
        None,
    ],
    ids=str,
)
def test_any_job_too(rejected: Guarded, model_input: Any) -> None:
    """
    A job's input is a document, of any shape.
    """
    output = {"s3OutputDataConfig": {"s3Uri": "s3://bucket"}}
    for model_id in ("amazon.nova-reel-v1:0", "us.twelvelabs.marengo-embed-3-0-v1:0", MODELS[0]):
        try:
            rejected.client.start_async_invoke(
                modelId=model_id, modelInput=model_input, outputDataConfig=output
            )
        except ParamValidationError:
            return  # botocore's own, and before anything is held
        except ClientError:
            assert_released(rejected)


@pytest.mark.parametrize(
    "more",
    [
        {"inferenceConfig": {"maxTokens": 2**31 - 1}},
        {"additionalModelRequestFields": {"max_tokens": -1, "n": "all", "thinking": []}},
        {"additionalModelRequestFields": {"inferenceConfig": [], "anthropic_beta": {"a": 1}, "n": 10**30}},
        {"messages": []},
        {"messages": [{"role": "nobody", "content": []}]},
        {"messages": [{"role": "user", "content": [{"image": {"format": "psd", "source": {"bytes": b"8BPS"}}}]}]},
        {"messages": [{"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": b""}}}]}]},
        {"messages": [{"role": "user", "content": [{"document": {"format": "exe", "name": "n", "source": {"bytes": b"MZ"}}}]}]},
        {"messages": [{"role": "user", "content": [{"text": "\ud800"}]}]},
        {"system": [{"text": ""}], "toolConfig": {"tools": [{"toolSpec": {"name": "t", "inputSchema": {"json": []}}}]}},
    ],
    ids=str,
)  # fmt: skip
def test_converse_too(rejected: Guarded, more: dict[str, Any]) -> None:
    """
    What botocore lets pass, the guard does.
    """
    for model_id in MODELS[:6]:
        try:
            rejected.client.converse(**{**HELLO, "modelId": model_id, **more})
        except (ParamValidationError, UnicodeEncodeError):
            assert rejected.pending == [0]  # botocore's own
        except ClientError:
            assert_released(rejected)
