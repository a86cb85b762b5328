"""
What an account pays, and what is behind its opaque ids: through a real client, and a control plane of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import boto3
import pytest

from bedrock_guard import Guard
from bedrock_guard.errors import UnpricedModel
from bedrock_guard.testing.bedrock_server import BedrockServer, lost_answer, missing_usage_headers, raw

from .conftest import HELLO, RATES, SONNET, Guarded
from .fault_cells import INVOKE

PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdefghijkl"
PROVISIONED = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdefghijkl"
ROUTER = "arn:aws:bedrock:us-east-1:123456789012:prompt-router/abcdefghijkl"
MODEL = "anthropic.claude-sonnet-4-5-20250929-v1:0"
# 1 USD for 1,000 requests.
ROUTER_FEE_NANOUSD = 1_000_000
DISCOUNT = {"anthropic.claude-*": {"*": "-10 %"}}

has_profiles = pytest.mark.skipif(
    not hasattr(boto3.client("bedrock", region_name="us-east-1"), "get_inference_profile"),
    reason="this botocore has no GetInferenceProfile",
)
has_routers = pytest.mark.skipif(
    not hasattr(boto3.client("bedrock", region_name="us-east-1"), "get_prompt_router"),
    reason="this botocore has no GetPromptRouter",
)


@pytest.fixture
def server() -> Iterator[BedrockServer]:
    """
    Bills opaque ids as what is behind them.
    """
    behind = dict.fromkeys((PROFILE, PROVISIONED, ROUTER), RATES[SONNET])
    with BedrockServer(rates={**RATES, **behind}) as running:
        yield running


class ControlPlane:
    """
    What GetInferenceProfile and its like answer, over HTTP; and how often they were asked.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, dict[str, Any]] = {}
        self.status = 200
        plane = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _, kind, id_ = unquote(self.path).split("/", 2)
                plane.asked.append(id_)
                body = json.dumps(plane.answers.get(kind, {}) if plane.status == 200 else {"message": "no"})
                self.send_response(plane.status)
                if plane.status != 200:
                    self.send_header("x-amzn-ErrorType", "AccessDeniedException")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def control_plane(monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlPlane]:
    plane = ControlPlane()
    plane.answers["inference-profiles"] = {
        "models": [
            {"modelArn": f"arn:aws:bedrock:{region}::foundation-model/{MODEL}"}
            for region in ("us-east-1", "us-east-2", "us-west-2")
        ]
    }
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK", plane.url)
    yield plane
    plane.close()


def list_cost(guarded: Guarded) -> Decimal:
    return Decimal(guarded.server.bill.nanousd).scaleb(-9)


def test_a_discount_is_what_budgets_count_and_the_entry_keeps_both(
    make_guarded: Callable[..., Guarded],
) -> None:
    """
    The bill of this account is a tenth lower than the list says.
    """
    guarded = make_guarded(settings={"prices": DISCOUNT})

    reply = guarded.client.converse(**HELLO)

    entry = guarded.entry
    assert entry.list_cost == list_cost(guarded)
    assert entry.cost == list_cost(guarded) * 9 / 10
    assert guarded.guard.status()[0].spent == entry.cost
    assert Decimal(reply["ResponseMetadata"]["BedrockGuard"]["CostUSD"]) == entry.cost
    assert entry.estimated_cost == guarded.guard.estimate("Converse", **HELLO).cost


def test_a_lost_answer_has_both_costs_too(make_guarded: Callable[..., Guarded]) -> None:
    """
    Two attempts: an estimate, and what was reported.
    """
    guarded = make_guarded(settings={"prices": DISCOUNT})
    guarded.server.will_answer(lost_answer())

    guarded.client.converse(**HELLO)

    entry = guarded.entry
    plain = Guard(budgets=[], ledger="memory://").estimate("Converse", **HELLO).cost
    assert plain is not None
    assert entry.list_cost == plain + list_cost(guarded) / 2
    assert entry.cost < entry.list_cost
    assert [attempt.outcome for attempt in entry.attempts] == ["lost", "answered"]


def test_without_own_prices_both_are_one(guarded: Guarded) -> None:
    """
    And an entry stays as small as it was.
    """
    guarded.client.converse(**HELLO)

    assert guarded.entry.cost == guarded.entry.list_cost == list_cost(guarded)
    assert "list_cost" not in guarded.entry.to_json()


def test_a_named_profile_is_priced_and_read_as_its_model(make_guarded: Callable[..., Guarded]) -> None:
    """
    Its ARN tells nothing; without a name the call is refused.
    """
    with pytest.raises(UnpricedModel):
        make_guarded().client.converse(**{**HELLO, "modelId": PROFILE})
    guarded = make_guarded(settings={"models": {PROFILE: SONNET}})

    guarded.client.converse(**{**HELLO, "modelId": PROFILE})
    assert guarded.entry.cost == list_cost(guarded)
    assert (guarded.entry.model, guarded.entry.model_id) == (MODEL, PROFILE)
    assert guarded.entry.family == "anthropic"

    # Only the body says what was used, and only this family knows where.
    guarded.server.always(missing_usage_headers())
    guarded.client.invoke_model(**{**INVOKE, "modelId": PROFILE})["body"].read()
    assert guarded.entry.basis == "reported"
    assert guarded.spent_nanousd == guarded.server.bill.nanousd
    estimate = guarded.guard.estimate("Converse", **{**HELLO, "modelId": PROFILE})
    assert estimate.cost == guarded.guard.estimate("Converse", **HELLO).cost
    usage = {"input_tokens": 1000}
    assert guarded.guard.price(PROFILE, usage) == guarded.guard.price(SONNET, usage)


def test_provisioned_throughput_is_free_where_that_is_declared(make_guarded: Callable[..., Guarded]) -> None:
    """
    It is paid by the hour, used or not; what the list would say is kept beside it.
    """
    prices = {"arn:aws:bedrock:*:provisioned-model/*": {"*": "free"}}
    guarded = make_guarded(settings={"prices": prices, "models": {PROVISIONED: MODEL}})

    guarded.client.converse(**{**HELLO, "modelId": PROVISIONED})
    assert guarded.entry.cost == 0
    assert guarded.entry.list_cost == list_cost(guarded)
    assert guarded.entry.usage["input_tokens"] > 0

    unnamed = make_guarded(settings={"prices": prices})
    unnamed.client.converse(**{**HELLO, "modelId": PROVISIONED})
    assert unnamed.entry.cost == 0
    assert unnamed.entry.list_cost is None


def test_a_price_list_that_is_too_old_refuses(make_guarded: Callable[..., Guarded]) -> None:
    """
    For those who would rather stop than pay prices of last year.
    """
    later = 86_400.0 * 3650 + 1_800_000_000.0
    guarded = make_guarded(settings={"max_price_age_days": 30}, clock=lambda: later)

    with pytest.raises(UnpricedModel, match="days old"):
        guarded.client.converse(**HELLO)
    assert not guarded.server.requests


@has_profiles
def test_a_lookup_is_made_once_for_all_threads(
    make_guarded: Callable[..., Guarded], control_plane: ControlPlane
) -> None:
    """
    Eight workers that begin together ask one question.
    """
    guarded = make_guarded(settings={"resolve_profiles": "lookup"})
    threads = [
        threading.Thread(target=guarded.client.converse, kwargs={**HELLO, "modelId": PROFILE})
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert control_plane.asked == [PROFILE]
    assert guarded.spent_nanousd == guarded.server.bill.nanousd > 0
    assert {entry.model for entry in guarded.guard.entries()} == {MODEL}


@has_profiles
def test_a_lookup_that_is_denied_is_not_repeated_for_each_call(
    make_guarded: Callable[..., Guarded], control_plane: ControlPlane, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A role without the permission must not pay for a round trip with every call.
    """
    control_plane.status = 403
    guarded = make_guarded(settings={"resolve_profiles": "lookup"})
    for _ in range(3):
        with pytest.raises(UnpricedModel):
            guarded.client.converse(**{**HELLO, "modelId": PROFILE})

    assert len(control_plane.asked) == 1
    assert "name it under [models]" in caplog.text
    assert not guarded.server.requests


@has_profiles
def test_a_lookup_is_off_unless_it_is_asked_for(
    make_guarded: Callable[..., Guarded], control_plane: ControlPlane
) -> None:
    """
    No call that the program did not make, by default.
    """
    with pytest.raises(UnpricedModel):
        make_guarded().client.converse(**{**HELLO, "modelId": PROFILE})

    assert control_plane.asked == []


@has_routers
def test_a_router_is_held_at_its_dearest_model(
    make_guarded: Callable[..., Guarded], control_plane: ControlPlane
) -> None:
    """
    Which one answers is known afterwards.
    """
    nova, haiku = "amazon.nova-lite-v1:0", "anthropic.claude-3-haiku-20240307-v1:0"
    control_plane.answers["prompt-routers"] = {
        "models": [
            {"modelArn": f"arn:aws:bedrock:us-east-1::foundation-model/{each}"} for each in (nova, MODEL)
        ],
        "fallbackModel": {"modelArn": f"arn:aws:bedrock:us-east-1::foundation-model/{haiku}"},
    }
    guarded = make_guarded(settings={"resolve_profiles": "lookup"})

    guarded.client.converse(**{**HELLO, "modelId": ROUTER})

    entry = guarded.entry
    assert entry.model == MODEL
    assert control_plane.asked == [ROUTER]
    assert entry.usage["prompt_router_requests"] == 1
    assert "prompt_router_requests" not in entry.reported_usage
    assert guarded.spent_nanousd == guarded.server.bill.nanousd + ROUTER_FEE_NANOUSD

    reply = {
        "output": {"message": {"role": "assistant", "content": [{"text": "Good day."}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 1000, "outputTokens": 100, "totalTokens": 1100},
        "metrics": {"latencyMs": 1},
        "trace": {"promptRouter": {"invokedModelId": nova}},
    }
    guarded.server.always(raw(200, {"content-type": "application/json"}, json.dumps(reply).encode()))
    guarded.client.converse(**{**HELLO, "modelId": ROUTER})
    assert guarded.entry.cost_nanousd == 1000 * 60 + 100 * 240 + ROUTER_FEE_NANOUSD


@has_profiles
def test_a_guarded_process_does_not_guard_its_own_question(
    control_plane: ControlPlane, server: BedrockServer
) -> None:
    """
    Else the lookup would wait for itself.
    """
    script = f"""
import boto3
from bedrock_guard import guard_process
guard_process(budget="5 USD", ledger="memory://", settings={{"resolve_profiles": "lookup"}})
client = boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url={server.url!r})
reply = client.converse(modelId={PROFILE!r}, messages=[{{"role": "user", "content": [{{"text": "hi"}}]}}],
                        inferenceConfig={{"maxTokens": 100}})
print(reply["ResponseMetadata"]["BedrockGuard"]["CostUSD"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=120
    )

    assert Decimal(done.stdout.strip()) == Decimal(server.bill.nanousd).scaleb(-9)
    assert control_plane.asked == [PROFILE]


@has_routers
def test_a_router_is_held_for_the_model_that_may_write_most(
    make_guarded: Callable[..., Guarded], control_plane: ControlPlane
) -> None:
    """
    A token of one may be dearer, and a whole answer of the other.
    """
    nova_pro, nova_2 = "amazon.nova-pro-v1:0", "amazon.nova-2-lite-v1:0"
    control_plane.answers["prompt-routers"] = {
        "models": [
            {"modelArn": f"arn:aws:bedrock:us-east-1::foundation-model/{each}"} for each in (nova_pro, nova_2)
        ]
    }
    guarded = make_guarded(settings={"resolve_profiles": "lookup"})
    plain = Guard(budgets=[], ledger="memory://")
    unset = {key: value for key, value in HELLO.items() if key != "inferenceConfig"}
    guarded.client.converse(**{**unset, "modelId": ROUTER})

    estimates = [plain.estimate("Converse", **{**unset, "modelId": each}).cost for each in (nova_pro, nova_2)]
    fee = Decimal(ROUTER_FEE_NANOUSD).scaleb(-9)
    assert guarded.entry.estimated_cost == max(each for each in estimates if each is not None) + fee


@has_routers
def test_a_router_with_a_model_that_cannot_be_named_is_not_priced(
    make_guarded: Callable[..., Guarded], control_plane: ControlPlane
) -> None:
    """
    It could be the dearest of them.
    """
    control_plane.answers["prompt-routers"] = {
        "models": [
            {"modelArn": "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0"},
            {"modelArn": PROVISIONED},
        ]
    }
    guarded = make_guarded(settings={"resolve_profiles": "lookup"})

    with pytest.raises(UnpricedModel):
        guarded.client.converse(**{**HELLO, "modelId": ROUTER})


def test_a_prompt_may_mark_what_it_says_for_caching(make_guarded: Callable[..., Guarded]) -> None:
    """
    Nobody sees its text here: writes for an hour are held for.
    """
    prompt = "arn:aws:bedrock:us-east-1:123456789012:prompt/ABCDEFGHIJ:1"
    guard = make_guarded(settings={"models": {prompt: SONNET}}).guard

    estimate = guard.estimate("Converse", modelId=prompt, promptVariables={})

    assert list(estimate.usage) == ["cache_write_1h_input_tokens", "output_tokens"]


@pytest.mark.parametrize(
    "prices",
    [
        {"input_tokens": "0.10 USD/1M"},
        {"input_tokens": "free"},
        {"cache_read_input_tokens": "50 USD/1M"},
        {"cache_write_5m_input_tokens": "0.25 USD/1M", "input_tokens": "0.20 USD/1M"},
    ],
)
def test_a_bound_holds_for_any_prices_of_ones_own(
    make_guarded: Callable[..., Guarded], prices: dict[str, str]
) -> None:
    """
    Where reading from a cache is dearer than sending, reading is what may be held for.
    """
    guarded = make_guarded(settings={"prices": {"*": prices}})
    usage = guarded.guard.estimate("Converse", **HELLO).usage
    tokens = sum(quantity for meter, quantity in usage.items() if meter != "output_tokens")
    for meter in ("input_tokens", "cache_read_input_tokens"):
        cost = guarded.guard.price(SONNET, {meter: tokens, "output_tokens": usage["output_tokens"]})
        estimate = guarded.guard.estimate("Converse", **HELLO).cost
        assert estimate is not None
        assert cost.usd <= estimate
