"""
A price of one's own: what an account pays for a model's meter, where that is not the list price.

    [prices."anthropic.claude-*"]
    "*" = "-12 %"                       every meter of the model's own, off the list price
    output_tokens = "13.20 USD/1M"      and this one by itself
    [prices."arn:aws:bedrock:*:provisioned-model/*"]
    "*" = "free"                        paid by the hour: nothing for one call more
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Final, Literal, NamedTuple, TypeAlias

from bedrock_guard.domain.call import ModelRef
from bedrock_guard.domain.cost import PRICE_STEPS_PER_USD
from bedrock_guard.errors import ConfigurationError

PriceRuleKind: TypeAlias = Literal["price", "share", "free"]

EVERY_METER: Final = "*"
WHOLE: Final = 1_000_000
"""A share of 1, in millionths."""

_SHARE: Final = re.compile(r"(?P<sign>[+-]) ?(?P<whole>[0-9]{1,3})(?:\.(?P<part>[0-9]{1,4}))? ?%")
_PRICE: Final = re.compile(
    r"(?P<dollar>\$)?(?P<whole>[0-9]{1,9})(?:\.(?P<part>[0-9]{1,16}))?(?: ?(?P<usd>USD))?"
    r"(?: ?/ ?(?P<per>1M|1K|1))?"
)
_PER: Final[dict[str | None, int]] = {None: 1, "1": 1, "1K": 1_000, "1M": 1_000_000}
# A token above a dollar, or a unit of anything above a thousand, is a slip of the unit.
_MOST_STEPS: Final[dict[str, int]] = {"token": PRICE_STEPS_PER_USD}
_MOST_OTHER_STEPS: Final = 1_000 * PRICE_STEPS_PER_USD


class PriceRule(NamedTuple):
    """
    One line of `[prices]`.

    Attributes:
        models: A glob over the model id as it is called, and over the base id.
        meter: A meter's name, or `"*"`.
        kind: `"price"`, an amount; `"share"`, of the list price; `"free"`.
        value: Of a price, steps of 1e-16 USD for one unit; of a share, millionths.
    """

    models: str
    meter: str
    kind: PriceRuleKind
    value: int

    def fits(self, model: ModelRef) -> bool:
        """
        Whether this is a price of *model*.
        """
        return fnmatchcase(model.model_id, self.models) or (
            model.model is not None and fnmatchcase(model.model, self.models)
        )


def parse_price_rule(models: str, meter: str, text: str, *, unit: str) -> PriceRule:
    """
    The rule that *text* says: `"-12 %"`, `"2.70 USD/1M"`, `"0.04 USD"` or `"free"`; *unit* is the meter's.

    Raises:
        ConfigurationError: It says none of these, or a price that cannot be meant.
    """
    if text == "free":
        return PriceRule(models, meter, "free", 0)
    share = _SHARE.fullmatch(text)
    if share is not None:
        millionths = int(share["whole"]) * 10_000 + int((share["part"] or "").ljust(4, "0"))
        value = WHOLE - millionths if share["sign"] == "-" else WHOLE + millionths
        if value <= 0:
            raise ConfigurationError(f'{text!r} leaves nothing to pay; write "free" if that is meant.')
        return PriceRule(models, meter, "share", value)
    price = _PRICE.fullmatch(text)
    if price is None or not (price["dollar"] or price["usd"]):
        raise ConfigurationError(
            f'{text!r} is no price; write "2.70 USD/1M" (of a million), "0.04 USD" (of one), '
            '"-12 %" (off the list price) or "free".'
        )
    if meter == EVERY_METER:
        raise ConfigurationError(f'{text!r} cannot be the price of every meter; "*" takes "-12 %" or "free".')
    digits = int(price["whole"] + (price["part"] or "").ljust(16, "0"))
    value, rest = divmod(digits, _PER[price["per"]])
    if rest:
        raise ConfigurationError(f"{text!r} has more digits than prices have: steps of 1e-16 USD a unit.")
    if value == 0:
        raise ConfigurationError(f'{text!r} would be no price; write "free" for what is free.')
    if value > _MOST_STEPS.get(unit, _MOST_OTHER_STEPS):
        raise ConfigurationError(
            f"{text!r} for one {unit} cannot be meant; is it the price of a million? Write /1M."
        )
    return PriceRule(models, meter, "price", value)
