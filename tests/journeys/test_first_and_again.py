"""
What guards elsewhere got wrong of first calls, fresh processes, changed limits, and models that cost nothing.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest

from bedrock_guard import Budget, BudgetExceeded, scope
from bedrock_guard.testing.bedrock_server import BedrockServer

from .conftest import HELLO, NOVA, Guarded
from .test_hard_cap import full_price

MakeGuarded = Callable[..., Guarded]


def file_in(folder: Path) -> str:
    return f"sqlite:///{(folder / 'ledger.db').as_posix()}"


@pytest.mark.parametrize("scheme", ["memory", "sqlite"])
def test_first_calls_of_a_user_obey_a_limit_that_nobody_has_written_down(
    make_guarded: MakeGuarded, server: BedrockServer, tmp_path: Path, scheme: str
) -> None:
    """
    There is no row of that user yet, which is no reason to let all of eight pass.
    """
    cost = full_price(server, make_guarded("1 USD").guard)
    budget = Budget("users", f"{2 * cost} USD", per="user")
    guarded = make_guarded(budgets=[budget], ledger="memory://" if scheme == "memory" else file_in(tmp_path))
    together = threading.Barrier(8)

    def call(_: int) -> bool:
        together.wait()
        with scope(user="new"):
            try:
                guarded.client.converse(**HELLO)
            except BudgetExceeded:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(call, range(8))) == 2
    assert guarded.spent_nanousd == server.bill.nanousd == int(2 * cost * 10**9)


def test_a_model_that_costs_nothing_is_usable_when_all_is_spent(
    make_guarded: MakeGuarded, server: BedrockServer
) -> None:
    """
    Its calls take no room.
    """
    cost = full_price(server, make_guarded("1 USD").guard)
    guarded = make_guarded(f"{cost} USD", prices={NOVA: {"*": "free"}})
    guarded.client.converse(**HELLO)
    with pytest.raises(BudgetExceeded):
        guarded.client.converse(**HELLO)

    guarded.client.converse(**{**HELLO, "modelId": NOVA})

    assert guarded.entry.cost == 0
    assert guarded.pending == [0]


def test_a_limit_that_is_declared_anew_forgets_no_spend(
    make_guarded: MakeGuarded, server: BedrockServer, tmp_path: Path
) -> None:
    """
    A deploy must be no way to a second budget.
    """
    cost = full_price(server, make_guarded("1 USD").guard)
    first = make_guarded(f"day: {cost} USD/day", ledger=file_in(tmp_path))
    first.client.converse(**HELLO)

    same = make_guarded(f"day: {cost} USD/day", ledger=file_in(tmp_path))
    with pytest.raises(BudgetExceeded):
        same.client.converse(**HELLO)
    raised = make_guarded(f"day: {2 * cost} USD/day", ledger=file_in(tmp_path))
    raised.client.converse(**HELLO)

    assert raised.guard.status()[0].spent == 2 * cost
    with pytest.raises(BudgetExceeded):
        raised.client.converse(**HELLO)


def test_processes_that_start_change_no_balance(
    make_guarded: MakeGuarded, server: BedrockServer, tmp_path: Path
) -> None:
    """
    Each of them might add what it finds to what is there.
    """
    guarded = make_guarded("day: 1 USD/day", ledger=file_in(tmp_path))
    full_price(server, guarded.guard)
    guarded.client.converse(**HELLO)
    before = guarded.guard.status()[0].spent
    program = textwrap.dedent(
        f"""
        from bedrock_guard import Guard
        with Guard(budget="day: 1 USD/day", ledger={file_in(tmp_path)!r}) as guard:
            print(guard.status()[0].spent)
        """
    )

    starting = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    seen = {Decimal(each.communicate(timeout=60)[0]) for each in starting}

    assert seen == {before}
    assert guarded.guard.status()[0].spent == before > 0
