"""
What a `modelId` names, in every shape that Bedrock takes.
"""

from __future__ import annotations

import pytest

from bedrock_guard.domain.call import ModelRef
from bedrock_guard.domain.model_id import parse_model_id

BARE = [
    ("anthropic.claude-opus-4-6-v1", "anthropic.claude-opus-4-6-v1", "anthropic"),
    ("anthropic.claude-opus-4-7", "anthropic.claude-opus-4-7", "anthropic"),
    ("amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0", "amazon"),
    ("amazon.titan-embed-g1-text-02", "amazon.titan-embed-g1-text-02", "amazon"),
    ("openai.gpt-oss-120b-1:0", "openai.gpt-oss-120b-1:0", "openai"),
    ("openai.gpt-5.4", "openai.gpt-5.4", "openai"),
    ("deepseek.v3.2", "deepseek.v3.2", "deepseek"),
    ("zai.glm-4.7-flash", "zai.glm-4.7-flash", "zai"),
    ("minimax.minimax-m2.1", "minimax.minimax-m2.1", "minimax"),
    ("mistral.mistral-7b-instruct-v0:2", "mistral.mistral-7b-instruct-v0:2", "mistral"),
    ("ai21.jamba-1-5-large-v1:0", "ai21.jamba-1-5-large-v1:0", "ai21"),
]


@pytest.mark.parametrize(("model_id", "model", "maker"), BARE)
def test_a_bare_id_is_a_foundation_model_in_its_region(model_id: str, model: str, maker: str) -> None:
    """
    A dot or digit in a model's name must not be taken for a geography or a revision.
    """
    assert parse_model_id(model_id) == ModelRef(model_id, "foundation-model", model, maker, "in-region", None)


@pytest.mark.parametrize(
    "geography", ["us", "eu", "apac", "global", "jp", "au", "us-gov", "in", "ca", "sa", "mx"]
)
@pytest.mark.parametrize(
    "model", ["anthropic.claude-opus-4-6-v1", "amazon.nova-2-lite-v1:0", "openai.gpt-5.4"]
)
def test_a_prefix_is_the_geography_of_a_profile(geography: str, model: str) -> None:
    """
    Geographies differ in price by up to 43 %, so the prefix decides what a call costs.
    """
    ref = parse_model_id(f"{geography}.{model}")

    assert (ref.kind, ref.geography, ref.model) == ("inference-profile", geography, model)
    assert ref.maker == model.partition(".")[0]


@pytest.mark.parametrize(
    ("model_id", "model"),
    [
        ("anthropic.claude-3-sonnet-20240229-v1:0:28k", "anthropic.claude-3-sonnet-20240229-v1:0"),
        ("anthropic.claude-3-haiku-20240307-v1:0:200k", "anthropic.claude-3-haiku-20240307-v1:0"),
        ("amazon.nova-pro-v1:0:300k", "amazon.nova-pro-v1:0"),
        ("amazon.nova-premier-v1:0:1m", "amazon.nova-premier-v1:0"),
        ("amazon.nova-premier-v1:0:mm", "amazon.nova-premier-v1:0"),
        ("cohere.embed-english-v3:0:512", "cohere.embed-english-v3:0"),
        ("us.anthropic.claude-sonnet-4-20250514-v1:0:1m", "anthropic.claude-sonnet-4-20250514-v1:0"),
        ("amazon.titan-text-lite-v1:4k", "amazon.titan-text-lite-v1"),
    ],
)
def test_a_context_suffix_is_not_part_of_the_model(model_id: str, model: str) -> None:
    """
    Variants by context window are billed as the model that they are variants of.
    """
    ref = parse_model_id(model_id)

    assert ref.model == model
    assert ref.model_id == model_id


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-eusc"])
def test_a_foundation_model_arn_tells_model_and_region(partition: str) -> None:
    """
    An ARN is the same model as the id in it, in every partition.
    """
    arn = f"arn:{partition}:bedrock:eu-central-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0"

    assert parse_model_id(arn) == ModelRef(
        arn,
        "foundation-model",
        "anthropic.claude-3-haiku-20240307-v1:0",
        "anthropic",
        "in-region",
        "eu-central-1",
    )


def test_a_system_profile_arn_tells_model_geography_and_region() -> None:
    """
    The id of a system profile names its model; it is priced by its geography.
    """
    arn = "arn:aws:bedrock:us-west-2:123456789012:inference-profile/global.anthropic.claude-opus-4-6-v1"

    assert parse_model_id(arn) == ModelRef(
        arn, "inference-profile", "anthropic.claude-opus-4-6-v1", "anthropic", "global", "us-west-2"
    )


@pytest.mark.parametrize(
    ("tail", "kind"),
    [
        ("application-inference-profile/1arbu5hu2sjr", "application-inference-profile"),
        ("inference-profile/1arbu5hu2sjr", "inference-profile"),
        ("provisioned-model/abcdefghijkl", "provisioned-model"),
        ("custom-model/anthropic.claude-3-haiku-20240307-v1:0/abcdefghijkl", "custom-model"),
        ("custom-model-deployment/abcdefghijkl", "custom-model-deployment"),
        ("imported-model/abcdefghijkl", "imported-model"),
        ("prompt/ABCDEFGHIJ", "prompt"),
        ("prompt/ABCDEFGHIJ:12", "prompt"),
        ("prompt-router/abcdefghijkl", "prompt-router"),
        ("default-prompt-router/anthropic.claude:1", "prompt-router"),
        ("marketplace/model-endpoint/all-access/my-endpoint", "endpoint"),
    ],
)
def test_an_arn_that_does_not_name_its_model_has_a_kind_and_no_model(tail: str, kind: str) -> None:
    """
    A custom model is not priced as the model it was made from: guessing would be wrong money.
    """
    arn = f"arn:aws:bedrock:us-east-1:123456789012:{tail}"

    assert parse_model_id(arn) == ModelRef(arn, kind, region="us-east-1")  # type: ignore[arg-type]


def test_a_sagemaker_endpoint_is_an_endpoint() -> None:
    """
    Marketplace models are served and billed by the hour there, not by the token.
    """
    arn = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/endpoint-quick-start-idr7y"

    assert parse_model_id(arn) == ModelRef(arn, "endpoint", region="us-east-1")


@pytest.mark.parametrize(
    "model_id",
    [
        "",
        "274u1upxm897",
        "does-not-exist",
        "my-nova-lite-clone-",
        "anthropic",
        "anthropic.",
        ".claude-v2",
        "anthropic.claude-haiku-4-5@20251001",
        "Anthropic.claude-v2:1",
        "us.anthropic.claude-opus-4-6-v1\n",
        " us.anthropic.claude-opus-4-6-v1",
        "us..anthropic.claude-opus-4-6-v1",
        "anthropic.claude-v2:1:100k:9",
        "bedrock/us.anthropic.claude-opus-4-6-v1",
        "arn:aws:bedrock:us-east-1:123456789012:foundation-model/us.anthropic.claude-opus-4-6-v1",
        "arn:aws:bedrock:us-east-1::foundation-model/",
        "arn:aws:bedrock:us-east-1:12345:inference-profile/us.anthropic.claude-opus-4-6-v1",
        "arn:aws:bedrock:us-east-1:123456789012:guardrail/abcdefghijkl",
        "arn:aws:bedrock:us-east-1:123456789012:async-invoke/abcdefghijkl",
        "arn:aws:sagemaker:us-east-1:123456789012:model/x",
        "arn:aws:s3:us-east-1:123456789012:foundation-model/amazon.nova-lite-v1:0",
    ],
)
def test_what_is_in_no_known_shape_is_unknown(model_id: str) -> None:
    """
    An id that is nearly one is refused as unpriced, instead of charged as its neighbour.
    """
    ref = parse_model_id(model_id)

    assert (ref.kind, ref.model, ref.maker) == ("unknown", None, None)


def test_a_name_that_contains_a_known_model_is_another_model() -> None:
    """
    Tables that match by substring charge `my-nova-lite-clone` as Nova Lite.
    """
    assert parse_model_id("my-nova-lite-clone-amazon.nova-lite-v1:0").maker == "my-nova-lite-clone-amazon"


def test_the_longest_id_is_parsed_at_once() -> None:
    """
    The id is a caller's string: no pattern may take exponential time over it.
    """
    for hostile in ("a" * 2048, "a-" * 1024, "a." * 1024, "us." + "a-1." * 512, "arn:aws" + "-a" * 1020):
        assert parse_model_id(hostile).model_id == hostile


def test_ids_that_come_and_go_do_not_fill_memory() -> None:
    """
    Application profiles are made by the thousand; what is remembered of ids must end.
    """
    for number in range(3000):
        parse_model_id(f"maker.model-{number}")

    assert parse_model_id.cache_info().currsize <= 1024
