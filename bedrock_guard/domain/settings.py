"""
What the pipeline may be told, frozen; `config` makes it from files, environment and arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bedrock_guard.domain.ledger import OnExpiry
from bedrock_guard.domain.price_rule import PriceRule


@dataclass(frozen=True, slots=True)
class Settings:
    """
    How a guard decides where a rule leaves a choice.

    Attributes:
        mode: `"enforce"`, or `"shadow"`: nothing is refused and nothing raised; what would have been leaves
            entries.
        on_ledger_error: What becomes of calls while the ledger cannot say whether they fit: `"refuse"`, or
            `"allow"` up to *allow_up_to*; they are booked when it is back.
        allow_up_to: With `"allow"`, and only then, a limit in USD such as `"5 USD/hour"`: the most that
            such calls may cost in each process and window.
        on_unpriced: What becomes of calls of models without a price: `"refuse"`; `"allow"` (they
            count in requests and tokens, and cost None); `"upper_bound"` (they cost the
            dearest price of the list).
        on_unmetered: Whether to `"refuse"` or `"allow"` operations that bill and cannot be counted.
        flat_prices: What one call costs of an operation whose usage nothing tells, by `"service:Operation"`,
            in steps of 1e-16 USD (in a file: `"0.02 USD"`, `"free"`); it is metered by that.
        on_lost_reply: Whether to `"charge"` an attempt whose answer was lost, at its estimate, or
            to `"release"` it.
        on_abandoned_stream: What becomes of an event stream that its reader leaves early:
            `"charge"` it at its estimate at once, or `"drain"` it: read on beside the program to
            learn what AWS bills. Bodies of InvokeModel are never read on.
        stream_cutoff: Whether a stream that is being read is closed once its calls are stopped: `"off"`, or
            `"on_stop"`. AWS may bill the whole generation all the same, so it is charged at its estimate.
        on_expiry: What becomes of the reservation of a process that died.
        prices: What this account pays where that is not the list price, in the order of the file.
        models: Opaque model id, such as the ARN of an application inference profile -> what is behind it.
        resolve_profiles: Whether Bedrock's control plane is asked, once, what is behind other opaque ids:
            `"off"`, or `"lookup"`, which needs permission for it.
        max_price_age_days: Calls are refused as unpriced once the price list is older; None never.
        clamp: Whose `maxTokens` is lowered where a call does not fit: `"unset"`, of calls whose caller set
            none, which are held at a share of what is free in any case; `"always"`, everybody's; `"never"`.
        clamp_share: How much of the smallest room that is free beside its input a call is lowered to, while
            that leaves *min_output_tokens*, then half of the room, then all of it; above 0 and up to 1.
        min_output_tokens: No call is lowered below so many output tokens.
        batch_input: Whether the records of a batch are read from S3 before its job is created, to know what
            it can cost: `"off"`, or `"read"`, which needs permission for it.
        refine: Whether Bedrock's free CountTokens is asked for the input of a call that does not fit:
            `"off"`, or `"count_tokens"`, which needs permission for it.
        untagged: What becomes of a call without a tag that a `per` budget needs: `"shared"`
            puts it on one balance with others like it, `"refuse"` refuses it.
        principal: Whether calls have the tag `principal`, the ARN that their client's credentials are of:
            `"off"`, or `"lookup"`, which asks STS once (an assumed role is its role's ARN).
        tags_to_aws: Tags that are sent along as the call's `requestMetadata`, so that Bedrock's invocation
            logs carry them: names, or True for all that the program sets.
        time_zone: IANA name; calendar windows are aligned in it.
        hold_s: Seconds a reservation lives without news of its process; None: (connect +
            read time-out) x attempts of the client + 60, and at least 300.
        control_refresh_s: How old may be what a process knows of stops and top-ups, in seconds, on ledgers
            where every call would cost a request to ask: `dynamodb://`. The others always know.
        keep_entries_days: Entries of older calls are dropped by a sweep, balances never; None keeps all.
    """

    mode: Literal["enforce", "shadow"] = "enforce"
    on_ledger_error: Literal["refuse", "allow"] = "refuse"
    allow_up_to: str | None = None
    on_unpriced: Literal["refuse", "allow", "upper_bound"] = "refuse"
    on_unmetered: Literal["refuse", "allow"] = "refuse"
    flat_prices: Mapping[str, int] = field(default_factory=dict)
    on_lost_reply: Literal["charge", "release"] = "charge"
    on_abandoned_stream: Literal["charge", "drain"] = "charge"
    stream_cutoff: Literal["off", "on_stop"] = "off"
    on_expiry: OnExpiry = "charge"
    prices: tuple[PriceRule, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    resolve_profiles: Literal["off", "lookup"] = "off"
    max_price_age_days: int | None = None
    clamp: Literal["unset", "always", "never"] = "unset"
    clamp_share: float = 0.25
    min_output_tokens: int = 256
    refine: Literal["off", "count_tokens"] = "off"
    batch_input: Literal["off", "read"] = "off"
    untagged: Literal["shared", "refuse"] = "shared"
    principal: Literal["off", "lookup"] = "off"
    tags_to_aws: bool | tuple[str, ...] = False
    time_zone: str = "UTC"
    hold_s: float | None = None
    control_refresh_s: float = 2.0
    keep_entries_days: int | None = 90
