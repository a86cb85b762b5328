"""
A synced price list over the packaged one: whose price counts where and when, and what a bad file does.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.pricing import overlay
from bedrock_guard.pricing.freshness import age_warning
from bedrock_guard.pricing.overlay import overlay_path, write_overlay
from bedrock_guard.pricing.price_list import PriceList
from bedrock_guard.pricing.rows import read_packaged, show_price

OPUS = "anthropic.claude-opus-4-6-v1"
SEPTEMBER = "2026-09-01"


def row(usd: dict[str, str], *, where: list[str] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "where": where or ["us-east-1", "us@us-east-1"],
        "usd": usd,
        "source": "aws-price-list",
        "published": SEPTEMBER,
        "effective_from": SEPTEMBER,
        **more,
    }


def content(
    *rows: dict[str, Any], model: str = OPUS, any_model: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    return {
        "as_of": "2026-11-22",
        "models": {model: {"rows": list(rows)}} if rows else {},
        "any_model": {"rows": any_model or []},
    }


@pytest.fixture
def lay(tmp_path: Path) -> Callable[..., PriceList]:
    def write(*rows: dict[str, Any], **more: Any) -> PriceList:
        write_overlay(tmp_path / "prices.json", content(*rows, **more))
        return PriceList.installed(tmp_path / "prices.json")

    return write


def per_million(
    prices: PriceList, model_id: str, meter: str, *, region: str | None = "us-east-1", **asked: Any
) -> Decimal:
    found = prices.find(parse_model_id(model_id), region=region, **asked)
    return Decimal(found.bands[0].prices[meter]) / 10**10


# --- Whose price counts --------------------------------------------------------------


def test_a_synced_price_counts_in_its_region_and_for_profiles_called_from_it(
    lay: Callable[..., PriceList],
) -> None:
    """
    AWS prices a profile by the region it is called in; what was not synced keeps the packaged price.
    """
    prices = lay(row({"input_tokens": "0.000006"}))

    assert per_million(prices, OPUS, "input_tokens") == 6
    assert per_million(prices, f"us.{OPUS}", "input_tokens") == 6
    assert per_million(prices, f"us.{OPUS}", "input_tokens", region="us-west-2") == Decimal("5.5")
    assert per_million(prices, f"global.{OPUS}", "input_tokens") == 5
    assert per_million(prices, f"eu.{OPUS}", "input_tokens", region="eu-west-1") == Decimal("5.5")


def test_meters_and_tiers_that_were_not_synced_keep_their_packaged_price(
    lay: Callable[..., PriceList],
) -> None:
    """
    An overlay that knows the input alone must not make output unpriced, nor batch dearer.
    """
    prices = lay(row({"input_tokens": "0.000006"}))

    assert per_million(prices, f"us.{OPUS}", "output_tokens") == Decimal("27.5")
    assert per_million(prices, f"us.{OPUS}", "input_tokens", service_tier="batch") == Decimal("2.75")


def test_a_price_for_one_tier_changes_that_tier(lay: Callable[..., PriceList]) -> None:
    """
    The variants of a model are priced each for itself.
    """
    prices = lay(row({"input_tokens": "0.000003"}, service_tier="batch"))

    assert per_million(prices, f"us.{OPUS}", "input_tokens", service_tier="batch") == 3
    assert per_million(prices, f"us.{OPUS}", "input_tokens") == Decimal("5.5")


def test_what_is_worked_out_follows_the_synced_price(lay: Callable[..., PriceList]) -> None:
    """
    Opus has no priority row anywhere: it is bounded by 1.75 of what standard costs now.
    """
    prices = lay(row({"input_tokens": "0.000008"}))

    assert per_million(prices, f"us.{OPUS}", "input_tokens", service_tier="priority") == 14


def test_a_synced_price_counts_from_its_first_day_on(lay: Callable[..., PriceList]) -> None:
    """
    A call of August is priced as in August, however often the list is synced.
    """
    prices = lay(
        row({"input_tokens": "0.000006"}, effective_to="2026-10-01"),
        row({"input_tokens": "0.000007"}, effective_from="2026-10-01", published="2026-10-02"),
    )

    for day, usd in (("2026-08-31", "5.5"), (SEPTEMBER, "6"), ("2026-09-30", "6"), ("2026-10-01", "7")):
        at = datetime.fromisoformat(day).replace(tzinfo=UTC)
        assert per_million(prices, f"us.{OPUS}", "input_tokens", at=at) == Decimal(usd), day
    assert per_million(prices, f"us.{OPUS}", "input_tokens") == 7


def test_a_packaged_price_that_began_after_the_overlay_was_published_is_newer(
    lay: Callable[..., PriceList],
) -> None:
    """
    Who upgrades the package and forgets to sync must not be held to prices of before.
    """
    sonnet = "anthropic.claude-3-5-sonnet-20241022-v2:0"  # doubled on 2025-12-01
    stale = {"effective_from": "2025-06-01", "published": "2025-06-01"}
    prices = lay(row({"input_tokens": "0.0000031"}, **stale), model=sonnet)
    july, now = datetime(2025, 7, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)

    assert per_million(prices, f"us.{sonnet}", "input_tokens", at=july) == Decimal("3.1")
    assert per_million(prices, f"us.{sonnet}", "input_tokens", at=now) == 6


def test_a_global_price_may_depend_on_the_region_it_is_called_from(lay: Callable[..., PriceList]) -> None:
    """
    The grammar of places: an exact region before the plain geography, the dearest where none is told.
    """
    prices = lay(
        row({"input_tokens": "0.000004"}, where=["global@us-east-1"]),
        row({"input_tokens": "0.000009"}, where=["global@eu-west-1"]),
    )

    assert per_million(prices, f"global.{OPUS}", "input_tokens") == 4
    assert per_million(prices, f"global.{OPUS}", "input_tokens", region="eu-west-1") == 9
    assert per_million(prices, f"global.{OPUS}", "input_tokens", region="eu-north-1") == 5
    assert per_million(prices, f"global.{OPUS}", "input_tokens", region=None) == 9
    assert per_million(prices, OPUS, "input_tokens", region="sa-east-1") == Decimal("5.5")


def test_a_long_request_never_costs_less_than_a_short_one(lay: Callable[..., PriceList]) -> None:
    """
    The overlay may know one band of two; a bound looks at the band it could land in.
    """
    sonnet = "anthropic.claude-sonnet-4-5-20250929-v1:0"  # 3.30 and 6.60 above 200,000
    found = lay(row({"input_tokens": "0.000007"}), model=sonnet).find(
        parse_model_id(f"us.{sonnet}"), region="us-east-1"
    )

    assert [band.prices["input_tokens"] / 10**10 for band in found.bands] == [7, 7]
    assert "input_tokens" in found.derived


def test_a_long_request_of_a_tier_never_costs_less_than_a_short_one(lay: Callable[..., PriceList]) -> None:
    """
    Priority has no band of its own above 200,000: it is 1.75 of 6.60, unless a short one costs more.
    """
    sonnet = "anthropic.claude-sonnet-4-5-20250929-v1:0"
    for usd, expected in (("0.000005", [5, Decimal("11.55")]), ("0.00002", [20, 20])):
        found = lay(row({"input_tokens": usd}, service_tier="priority"), model=sonnet).find(
            parse_model_id(f"us.{sonnet}"), region="us-east-1", service_tier="priority"
        )

        assert [Decimal(band.prices["input_tokens"]) / 10**10 for band in found.bands] == expected


def test_a_model_that_only_the_overlay_knows_has_a_price(lay: Callable[..., PriceList]) -> None:
    """
    AWS adds models faster than packages are released.
    """
    prices = lay(row({"input_tokens": "0.000001"}), model="acme.new-v1:0")

    assert per_million(prices, "us.acme.new-v1:0", "input_tokens") == 1
    assert per_million(prices, "acme.new-v1", "input_tokens", region="us-west-2") == 1
    assert "acme.new-v1:0" in set(prices.models())
    assert prices.dearest() is prices.dearest()


def test_govcloud_is_completed_from_its_bound(lay: Callable[..., PriceList]) -> None:
    """
    A region's overlay must not lower what a call there could cost in the meters it leaves out.
    """
    prices = lay(row({"input_tokens": "0.000006"}, where=["us-gov-west-1", "us-gov@us-gov-west-1"]))

    assert per_million(prices, OPUS, "input_tokens", region="us-gov-west-1") == 6
    assert per_million(prices, OPUS, "output_tokens", region="us-gov-west-1") == 33  # 27.5 x 1.2


def test_guardrail_units_follow_the_region(lay: Callable[..., PriceList]) -> None:
    """
    What has nothing to do with a model is priced by region as well.
    """
    dear = row({"guardrail_content_policy_units": "0.0002"}, where=["us-east-1"])
    prices = lay(any_model=[dear])
    meter = "guardrail_content_policy_units"

    assert per_million(prices, f"us.{OPUS}", meter) == 200
    assert per_million(prices, f"us.{OPUS}", meter, region="us-west-2") == 150
    assert prices.any_model("us-east-1").bands[0].prices[meter] == 2 * 10**12
    assert prices.any_model().bands[0].prices[meter] == 2 * 10**12
    assert prices.dearest().bands[0].prices[meter] == 2 * 10**12
    assert PriceList.packaged().any_model().bands[0].prices[meter] == 15 * 10**11


def test_every_price_remembers_where_it_is_from(lay: Callable[..., PriceList]) -> None:
    """
    An invoice that differs is traced to a rate code, or to a source that was wrong.
    """
    prices = lay(row({"input_tokens": "0.000006"}, rate_code="A.B.C"))
    known = prices.model_prices(parse_model_id(OPUS))
    assert known is not None
    (laid,) = known.find("us@us-east-1", "default", date(2026, 11, 1))

    assert laid.origins["input_tokens"].layer == "overlay"
    assert laid.origins["input_tokens"].rate_code == "A.B.C"
    assert laid.origins["output_tokens"].layer == "packaged"


def test_an_overlay_that_says_what_is_known_changes_nothing() -> None:
    """
    Of every model, at every kind of place, in every tier: laying a layer must not bend what is under it.
    """
    packaged = PriceList.packaged()
    places = (("", "us-east-1", "us-east-1"), ("us.", "us-east-1", "us@us-east-1"))
    places += (("eu.", "eu-west-1", "eu@eu-west-1"), ("global.", "eu-west-1", "global@eu-west-1"))
    places += (("", "eu-west-1", "eu-west-1"), ("", "us-gov-west-1", "us-gov-west-1"))
    count = 0
    for model in packaged.models():
        for prefix, region, place in places:
            ref = parse_model_id(f"{prefix}{model}")
            known = packaged.find(ref, region=region)
            own = sorted(
                set(known.bands[0].prices) - known.derived - set(packaged.any_model().bands[0].prices)
            )
            if not own:
                continue
            usd = {own[0]: show_price(known.bands[0].prices[own[0]])}
            laid = overlay.parse_content(
                Path("x"), content(row(usd, where=[place], effective_from=None), model=model)
            )
            prices = PriceList(read_packaged, lambda laid=laid: laid)  # type: ignore[misc]
            for asked in ("default", "batch", "flex", "priority", "optimized"):
                how = {"latency": asked} if asked == "optimized" else {"service_tier": asked}
                one, other = (each.find(ref, region=region, **how) for each in (packaged, prices))
                assert one.bands == other.bands, (ref.model_id, region, asked)
                count += 1

    assert count > 2000


# --- Files that cannot be used -------------------------------------------------------


def edited(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        write_overlay(path, content(row({"input_tokens": "0.000006"})))
        file = json.loads(path.read_text())
        change(file)
        path.write_text(json.dumps(file))

    return write


def signed(**change: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        made = {**content(row({"input_tokens": "0.000006"})), **change}
        path.write_text(json.dumps({"format": 1, "sha256": overlay._hash(made), "content": made}))

    return write


def of_rows(**change: Any) -> Callable[[Path], None]:
    return signed(models={OPUS: {"rows": [{**row({"input_tokens": "0.000006"}), **change}]}})


BAD = {
    "cut": (lambda path: path.write_text('{"format": 1,'), "is not JSON"),
    "deep": (lambda path: path.write_text("[" * 100_000), "is not JSON"),
    "binary": (lambda path: path.write_bytes(b"\xff\xfe\x00"), "is not JSON"),
    "a list": (lambda path: path.write_text("[]"), "is no overlay"),
    "newer": (edited(lambda file: file.update(format=2)), "has format 2; this version reads 1"),
    "an edited price": (
        edited(lambda file: file["content"]["models"][OPUS]["rows"][0]["usd"].update(input_tokens="0.1")),
        "does not match its sha256",
    ),
    "a price of 0": (of_rows(usd={"input_tokens": "0"}), "a price of '0' would be no price"),
    "a negative price": (of_rows(usd={"input_tokens": "-1"}), "'-1' is not a price"),
    "a float": (of_rows(usd={"input_tokens": 0.1}), "is not a price"),
    "no date": (of_rows(effective_from="soon"), f"{OPUS}: not in the shape"),
    "time backwards": (of_rows(effective_to="2026-01-01"), "before it begins"),
    "no place": (of_rows(where=[]), "'where' is a list of places"),
    "a band below 0": (of_rows(above_input_tokens=-1), "'above_input_tokens'"),
    "a tier of numbers": (of_rows(service_tier=7), "no service tier"),
    "no source": (signed(models={OPUS: {"rows": [{"where": ["us"], "usd": {}}]}}), "not in the shape"),
    "no models": (signed(models=None), "not in the shape"),
    "no day": (signed(as_of=None), "not in the shape"),
    "a folder": (Path.mkdir, "is no file"),
    "a pipe": (os.mkfifo, "is no file"),
    "free tokens": (of_rows(usd={"input_tokens": "free"}), "input_tokens is not free"),
    "no price": (of_rows(usd={}), "a row has no price"),
    "an unknown meter": (of_rows(usd={"thoughts": "0.1"}), "'thoughts' is no meter"),
    "a place by its letters": (of_rows(where="us-east-1"), "'where' is a list of places"),
    "tokens for every model": (
        signed(any_model={"rows": [row({"input_tokens": "0.1"})]}),
        "any_model: input_tokens has a price of its own",
    ),
    "a tier for every model": (
        signed(any_model={"rows": [row({"guardrail_topic_policy_units": "1"}, service_tier="flex")]}),
        "all tiers and bands",
    ),
    "a list from the future": (signed(as_of="2999-01-01"), "which is to come"),
    "a price from the future": (of_rows(published="2999-01-01"), "on a day that is to come"),
}


@pytest.mark.parametrize(("write", "says"), BAD.values(), ids=BAD)
def test_a_bad_overlay_is_ignored_as_a_whole_and_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, write: Callable[[Path], None], says: str
) -> None:
    """
    Half a price list is worse than none; and no call may fail because of a file beside it.
    """
    path = tmp_path / "prices.json"
    write(path)
    prices = PriceList.installed(path)

    with caplog.at_level(logging.WARNING, "bedrock_guard"):
        assert per_million(prices, f"us.{OPUS}", "input_tokens") == Decimal("5.5")
        assert per_million(prices, f"eu.{OPUS}", "input_tokens", region="eu-west-1") == Decimal("5.5")
    assert prices.as_of == PriceList.packaged().as_of
    assert len(caplog.records) == 1
    assert says in caplog.text
    assert str(path) in caplog.text


def test_without_an_overlay_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """
    Most users never sync.
    """
    prices = PriceList.installed(tmp_path / "prices.json")

    assert per_million(prices, f"us.{OPUS}", "input_tokens") == Decimal("5.5")
    assert prices.overlay() is None
    assert caplog.records == []


def test_the_overlay_is_read_when_a_price_is_first_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Making a guard reads no file of the user's, and the file may be written after that.
    """
    monkeypatch.setenv("BEDROCK_GUARD_PRICES", str(tmp_path / "prices.json"))
    prices = PriceList.installed()
    write_overlay(tmp_path / "prices.json", content(row({"input_tokens": "0.000006"})))

    assert per_million(prices, f"us.{OPUS}", "input_tokens") == 6


def test_where_the_overlay_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An argument before the environment, the environment before the user's state folder.
    """
    monkeypatch.delenv("BEDROCK_GUARD_PRICES", raising=False)
    assert overlay_path().name == "prices.json"
    assert overlay_path().parent.name == "bedrock-guard"
    monkeypatch.setenv("BEDROCK_GUARD_PRICES", "/there/list.json")
    assert overlay_path() == Path("/there/list.json")
    assert overlay_path("here.json") == Path("here.json")


# --- Writing -------------------------------------------------------------------------


def test_what_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    """
    The file that is there stays.
    """
    path = tmp_path / "prices.json"
    write_overlay(path, content(row({"input_tokens": "0.000006"})))
    before = path.read_bytes()

    with pytest.raises(ConfigurationError, match="is not a price"):
        write_overlay(path, content(row({"input_tokens": "NaN"})))
    assert path.read_bytes() == before


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A disk that is full, a folder that is gone.
    """
    path = tmp_path / "prices.json"
    write_overlay(path, content(row({"input_tokens": "0.000006"})))
    before = path.read_bytes()

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_overlay(path, content(row({"input_tokens": "0.000007"})))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_that_is_killed_while_it_writes_leaves_the_old_file(tmp_path: Path) -> None:
    """
    The new file takes its place in one step, after it is safely on disk.
    """
    path = tmp_path / "prices.json"
    write_overlay(path, content(row({"input_tokens": "0.000006"})))
    before = path.read_bytes()
    program = (
        "import json, os, signal, sys\n"
        "from pathlib import Path\n"
        "from bedrock_guard.pricing import overlay\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "overlay.write_overlay(Path(sys.argv[1]), json.loads(sys.argv[2]))\n"
    )
    made = json.dumps(content(row({"input_tokens": "0.000007"})))
    done = subprocess.run([sys.executable, "-c", program, str(path), made], check=False, timeout=60)

    assert done.returncode == -9
    assert path.read_bytes() == before
    assert per_million(PriceList.installed(path), f"us.{OPUS}", "input_tokens") == 6


def test_a_write_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    """
    The file may be in a folder that several programs read, and each has a link to it.
    """
    kept, link = tmp_path / "kept.json", tmp_path / "link.json"
    write_overlay(kept, content(row({"input_tokens": "0.000006"})))
    link.symlink_to(kept)

    write_overlay(link, content(row({"input_tokens": "0.000007"})))

    assert link.is_symlink()
    assert per_million(PriceList.installed(kept), f"us.{OPUS}", "input_tokens") == 7


# --- Age -----------------------------------------------------------------------------


def test_the_list_is_as_old_as_its_oldest_price(lay: Callable[..., PriceList]) -> None:
    """
    One price that was synced today does not make the others of today.
    """
    prices = lay(row({"input_tokens": "0.000006"}, published="2026-11-22"))
    packaged = PriceList.packaged().as_of

    assert prices.as_of_model(parse_model_id(f"us.{OPUS}")) == date(2026, 11, 22)
    assert prices.as_of_model(parse_model_id("amazon.nova-lite-v1:0")) == packaged
    assert prices.as_of_model(parse_model_id("arn:aws:bedrock:us-east-1:123456789012:prompt/AB")) == packaged
    assert prices.as_of_model(parse_model_id("acme.unknown")) == packaged
    assert prices.as_of == packaged < date(2026, 11, 22)


def test_a_list_that_was_synced_as_a_whole_is_as_old_as_the_sync() -> None:
    """
    Then no packaged date counts any more.
    """
    models = {model: {"rows": [row({"input_tokens": "0.000006"}, published="2026-11-22")]} for model in
              PriceList.packaged().models()}  # fmt: skip
    laid = overlay.parse_content(Path("prices.json"), {"as_of": "2026-11-22", "models": models})

    assert PriceList(read_packaged, lambda: laid).as_of == date(2026, 11, 22)

    last = max(models)
    del models[last]
    laid = overlay.parse_content(Path("prices.json"), {"as_of": "2026-11-22", "models": models})
    assert PriceList(read_packaged, lambda: laid).as_of == PriceList.packaged().as_of


@pytest.mark.parametrize(
    ("today", "said"),
    [
        ("2026-11-20", None),
        ("2026-11-21", None),
        ("2026-12-20", None),
        ("2026-12-21", "old"),
        ("2027-02-18", "old"),
        ("2027-02-19", "very old"),
    ],
)
def test_a_list_is_old_after_a_month_and_very_old_after_three(today: str, said: str | None) -> None:
    """
    30 and 90 days; AWS has changed prices within both.
    """
    assert age_warning(date(2026, 11, 21), date.fromisoformat(today)) == said
