"""
Every model of the recordings has a price, or is here with the reason why it has none.
"""

from __future__ import annotations

from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.errors import UnpricedModel
from bedrock_guard.pricing.price_list import PriceList

from .recordings import GUARDED, is_missing, read_recordings

OPAQUE = {
    "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/1arbu5hu2sjr",
    "arn:aws:sagemaker:us-east-1:123456789012:endpoint/endpoint-quick-start-idr7y",
}
# Retired before the sources of the list were written.
WITHOUT_A_SOURCE = {"anthropic.claude-v2", "cohere.command-r-v1:0", "cohere.command-r-plus-v1:0"}
NO_MODEL = {
    "does-not-exist",
    "invalid-model-id",
    "invalid-streaming-model-id",
    "unrecorded",
    "us.does-not-exist-model-v1:0",
}


@is_missing
def test_every_recorded_model_has_a_price_or_is_known_to_have_none() -> None:
    """
    What people call is what a price list is for; a gap in it refuses their calls.
    """
    prices, unpriced = PriceList.packaged(), set()
    for model_id in {recording.model_id for recording in read_recordings(GUARDED)}:
        try:
            prices.find(parse_model_id(model_id), region="us-east-1")
        except UnpricedModel:
            unpriced.add(model_id)

    assert unpriced == OPAQUE | WITHOUT_A_SOURCE | NO_MODEL
