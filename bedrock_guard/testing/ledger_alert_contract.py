"""
What every ledger promises of alerts: of all processes one tells each, and none is lost with its process.
"""
# ruff: noqa: S101 - tests assert

from __future__ import annotations

from typing import Final

from bedrock_guard.domain.alert_claim import AlertClaim
from bedrock_guard.domain.ledger import Ledger
from bedrock_guard.testing.ledger_calls import DAY, HOLD_S, NOW, SetClock, hold, settle, together

HALF: Final = AlertClaim("d41d8cd9", '{"text":"50 %"}', NOW + 86_400)
WHOLE: Final = AlertClaim("8f00b204", '{"text":"100 % of caf\\u00e9"}')


class AlertContract:
    """
    An alert is claimed once, and again only where nobody has confirmed it in time.
    """

    def test_an_alert_is_told_by_who_claims_it_first(self, ledger: Ledger) -> None:
        """
        Every process notices that a threshold is crossed, and one is to say so.
        """
        assert ledger.claim_alert(HALF)
        assert not ledger.claim_alert(HALF)
        assert ledger.claim_alert(WHOLE)

    def test_of_many_at_once_one_claims(self, ledger: Ledger) -> None:
        """
        They notice it in the same moment.
        """
        won = together(lambda _: ledger.claim_alert(HALF), threads=8, times=16)

        assert sorted(won) == [False] * 15 + [True]

    def test_a_claim_that_nobody_confirms_is_open_again(self, ledger: Ledger, clock: SetClock) -> None:
        """
        Its process was killed before it told; what takes a minute may well be under way.
        """
        assert ledger.claim_alert(HALF, retry_after_s=60)
        clock.now += 59
        assert not ledger.claim_alert(HALF, retry_after_s=60)
        clock.now += 1

        assert ledger.claim_alert(HALF, retry_after_s=60)
        assert not ledger.claim_alert(HALF, retry_after_s=60), "the minute of who took it over begins anew"

    def test_what_was_told_is_not_told_again(self, ledger: Ledger, clock: SetClock) -> None:
        """
        However late the next process comes.
        """
        ledger.claim_alert(WHOLE)
        ledger.confirm_alert(WHOLE)
        ledger.confirm_alert(WHOLE)
        clock.now += 400 * 86_400

        assert not ledger.claim_alert(WHOLE)
        assert ledger.unconfirmed_alerts() == []

    def test_who_comes_next_finds_what_was_not_confirmed(self, ledger: Ledger) -> None:
        """
        With all that it takes to tell it.
        """
        assert ledger.unconfirmed_alerts() == []
        ledger.claim_alert(HALF)
        ledger.claim_alert(WHOLE)
        assert sorted(ledger.unconfirmed_alerts()) == sorted([HALF, WHOLE])
        assert len(ledger.unconfirmed_alerts(limit=1)) == 1

        ledger.confirm_alert(HALF)

        assert ledger.unconfirmed_alerts() == [WHOLE]

    def test_to_confirm_what_nobody_claimed_changes_nothing(self, ledger: Ledger) -> None:
        """
        It may have been forgotten meanwhile.
        """
        ledger.confirm_alert(HALF)

        assert ledger.unconfirmed_alerts() == []
        assert ledger.claim_alert(HALF)

    def test_claims_touch_no_balance(self, ledger: Ledger) -> None:
        """
        They lie beside the books, not in them.
        """
        settle(ledger, hold(ledger, "one", 60), 40)
        before = ledger.balances()

        ledger.claim_alert(HALF)
        ledger.confirm_alert(HALF)

        assert ledger.balances() == before

    def test_a_sweep_names_the_balances_that_it_charged(self, ledger: Ledger) -> None:
        """
        Nobody's call ends when it does, and a threshold may be crossed all the same.
        """
        hold(ledger, "charged", 60)
        assert ledger.sweep(now=NOW).keys == frozenset()
        assert ledger.sweep(now=NOW + HOLD_S).keys == {DAY}
