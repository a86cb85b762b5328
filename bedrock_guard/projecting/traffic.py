"""
A month of traffic, priced: so many conversations of so many tokens, whatever calls they are.

This is arithmetic on what somebody assumes, not a bound: a request is billed what it uses. Money is whole
nano-dollars; a request's is rounded up as the ledger does it, so that the sums are the ledger's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Final

from bedrock_guard.domain.budget import MAX_LIMIT, USD, show_amount
from bedrock_guard.domain.cost import NANOUSD_PER_USD
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.domain.usage import (
    CACHE_READ,
    CACHE_WRITE_1H,
    CACHE_WRITE_5M,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    Usage,
)
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.planning import Planner
from bedrock_guard.pricing.calculate import nanousd

# So many digits, and no exponent: what is longer is no figure, and could take for ever to read.
_NUMBER: Final = r"(?P<number>(?=[.0-9])[0-9]{0,15}(?:\.[0-9]{1,15})?)"
_RATE: Final = re.compile(_NUMBER + r"(?:\s*/\s*(?P<period>[a-z]+))?")
_SHARE: Final = re.compile(_NUMBER + r"\s*(?P<percent>%?)")
_CENT: Final = NANOUSD_PER_USD // 100
_WEEK_DAYS: Final = 7
LIVES: Final[Mapping[str, str]] = {"5m": CACHE_WRITE_5M, "1h": CACHE_WRITE_1H}
"""How long what is written to a cache may live, and the meter that bills it."""

_MOST_DAYS: Final = 366
_MOST: Final = 10**12


@dataclass(frozen=True, slots=True)
class Traffic:
    """
    What is assumed.

    Attributes:
        users: How many there are.
        conversations: Of one user in a day.
        requests: Of one conversation.
        usage: Of one request, by meter.
        days: For how many days.
    """

    users: int
    conversations: Fraction
    requests: int
    usage: Usage
    days: int

    @property
    def total(self) -> int:
        """
        Conversations of all users in all days, a begun one whole.
        """
        return ceil(self.users * self.conversations * self.days)

    @property
    def most_of_a_day(self) -> int:
        """
        Conversations of all users in one day, a begun one whole.
        """
        return ceil(self.users * self.conversations)

    @property
    def most_of_a_user(self) -> int:
        """
        Conversations of one user in all days, a begun one whole.
        """
        return ceil(self.conversations * self.days)


@dataclass(frozen=True, slots=True)
class Projection:
    """
    What the traffic costs with one model, in nano-dollars.

    Attributes:
        request, conversation: One of them.
        month: All of it.
        user, day: A user's part of it, and a day's, rounded up; it may be a part of a conversation.
        budgets: Limits that hold it, to the cent: of the month, of a day, and of a month of each user. The
            latter two are of whole conversations, as nobody has a part of one.
    """

    model_id: str
    request: int
    conversation: int
    month: int
    user: int
    day: int
    budgets: Mapping[str, str]


def project(
    planner: Planner, traffic: Traffic, model_id: str, *, region: str, service_tier: str
) -> Projection:
    """
    What *traffic* costs with the model, at the newest prices.

    Raises:
        ConfigurationError: It costs more than any limit can be.
        UnpricedModel: It has no price, or none for a meter that is used.
    """
    prices = planner.find_prices(parse_model_id(model_id), region=region, service_tier=service_tier)
    request, _ = nanousd(traffic.usage, prices)
    conversation = request * traffic.requests
    month = conversation * traffic.total
    if month + _CENT > MAX_LIMIT:  # limits are rounded up
        raise ConfigurationError(
            "Such a month costs more than 9 billion USD, the most that a limit can be; take smaller figures."
        )
    return Projection(
        model_id,
        request,
        conversation,
        month,
        user=-(-month // traffic.users),
        day=-(-month // traffic.days),
        budgets={
            "month": f"{_up_to_cents(month)}/month",
            "day": f"{_up_to_cents(conversation * traffic.most_of_a_day)}/day",
            "user": f"{_up_to_cents(conversation * traffic.most_of_a_user)}/month",
        },
    )


def read_rate(text: str, days: int) -> Fraction:
    """
    `"50/day"`, `"350/week"`, `"1500/month"` (of *days*) or `"50"` as conversations in a day.

    Raises:
        ConfigurationError: It is none.
    """
    found = _RATE.fullmatch(text.strip())
    lengths = {None: 1, "day": 1, "week": _WEEK_DAYS, "month": days}
    if found is None or found["period"] not in lengths:
        raise ConfigurationError(f"--conversations {text!r}: write 50/day, 350/week or 1500/month.")
    rate = Fraction(found["number"]) / lengths[found["period"]]
    if not 0 < rate <= _MOST:
        raise ConfigurationError(f"--conversations {text!r}: more than 0, and up to {_MOST:,}.")
    return rate


def read_share(option: str, text: str) -> Fraction:
    """
    A share such as `"0.6"` or `"60%"`.

    Raises:
        ConfigurationError: It is none.
    """
    found = _SHARE.fullmatch(text.strip())
    share = None if found is None else Fraction(found["number"]) / (100 if found["percent"] else 1)
    if share is None or share > 1:
        raise ConfigurationError(f"{option} {text!r} is no share; write 0.6, or 60%.")
    return share


def split_tokens(tokens: int, output_share: Fraction) -> tuple[int, int]:
    """
    So many tokens as input and output; where the share leaves a part of a token, it is output, the dearer.
    """
    output = ceil(tokens * output_share)
    return tokens - output, output


def usage_of_request(
    input_tokens: int, output_tokens: int, *, read: Fraction, written: Fraction, life: str
) -> dict[str, int]:
    """
    Usage by meter: of the input, the share *read* from a cache, the share *written* to one that lives for
    *life*, and the rest.

    Raises:
        ConfigurationError: The shares are more than the whole.
    """
    if read + written > 1:
        raise ConfigurationError("--cache-read-share and --cache-write-share are more than all of the input.")
    writes = ceil(input_tokens * written)
    reads = min(input_tokens - writes, int(input_tokens * read))
    found = {
        INPUT_TOKENS: input_tokens - reads - writes,
        CACHE_READ: reads,
        LIVES[life]: writes,
        OUTPUT_TOKENS: output_tokens,
    }
    return {meter: quantity for meter, quantity in found.items() if quantity}


def check_days(days: int) -> None:
    """
    Refuse what is no number of days.

    Raises:
        ConfigurationError: It is none.
    """
    if not 1 <= days <= _MOST_DAYS:
        raise ConfigurationError(f"--days {days}: from 1 to {_MOST_DAYS}.")


def _up_to_cents(money: int) -> str:
    return show_amount(-(-money // _CENT) * _CENT, USD)
