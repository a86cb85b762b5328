"""
What a program's calls came to, model by model: asked of the entries of its ledger, once it is over.

It is what they cost by the guard's prices, not what AWS will invoice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bedrock_guard.budgets.status import BudgetStatus
from bedrock_guard.budgets.verdict import show, show_per
from bedrock_guard.domain.cost import usd_text
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.usage import CACHE_READ, add, total_input

# How calls end; a budget's refusals, stops and what is still open are none.
_ENDED: Final = frozenset(["answered", "rejected", "lost", "abandoned", "not_sent"])
_REFUSED: Final = "refused"


@dataclass(frozen=True, slots=True)
class BillLine:
    """
    The calls of one model.

    Attributes:
        model: Its name; of an opaque id, the id.
        calls: How many ended.
        usage: Quantities by meter.
        nanousd: What they cost; calls without a price count as 0.
        unpriced: How many of them have no price.
    """

    model: str
    calls: int
    usage: Mapping[str, int]
    nanousd: int
    unpriced: int

    @property
    def cache_hit(self) -> float | None:
        """
        Share of the input that was read from a cache; None where there was no input.
        """
        return cache_hit(self.usage)


@dataclass(frozen=True, slots=True)
class Bill:
    """
    All of it.

    Attributes:
        lines: By cost, the dearest first.
        by_basis: Nano-dollars by who says so: `reported`, `estimated`, `expired`.
        refused: Calls that were refused, by the name of the budget; `""` for stops of an operator.
    """

    lines: tuple[BillLine, ...]
    by_basis: Mapping[str, int]
    refused: Mapping[str, int]

    @property
    def calls(self) -> int:
        """
        How many ended.
        """
        return sum(line.calls for line in self.lines)

    @property
    def nanousd(self) -> int:
        """
        What they cost.
        """
        return sum(line.nanousd for line in self.lines)

    @property
    def usage(self) -> Mapping[str, int]:
        """
        Quantities by meter.
        """
        return add(line.usage for line in self.lines)

    def to_dict(self) -> dict[str, Any]:
        """
        As JSON has it: money as strings, in USD.
        """
        return {
            "calls": self.calls,
            "cost_usd": usd_text(self.nanousd),
            "cost_usd_by_basis": {basis: usd_text(nanousd) for basis, nanousd in self.by_basis.items()},
            "cache_hit": cache_hit(self.usage),
            "refused": sum(self.refused.values()),
            "refused_by_budget": dict(self.refused),
            "models": [
                {
                    "model": line.model,
                    "calls": line.calls,
                    "usage": dict(line.usage),
                    "cost_usd": usd_text(line.nanousd),
                    "unpriced_calls": line.unpriced,
                    "cache_hit": line.cache_hit,
                }
                for line in self.lines
            ],
        }


def read_bill(entries: Iterable[Entry]) -> Bill:
    """
    The bill of *entries*, which are gone through once.
    """
    lines: dict[str, BillLine] = {}
    by_basis: dict[str, int] = {}
    refused: dict[str, int] = {}
    for entry in entries:
        if entry.outcome == _REFUSED:
            name = entry.budget or ""
            refused[name] = refused.get(name, 0) + entry.count
        elif entry.outcome in _ENDED:
            model, nanousd = entry.model or entry.model_id, entry.cost_nanousd
            before = lines.get(model) or BillLine(model, 0, {}, 0, 0)
            lines[model] = BillLine(
                model,
                before.calls + 1,
                add((before.usage, entry.usage)),
                before.nanousd + (nanousd or 0),
                before.unpriced + (nanousd is None),
            )
            if nanousd:
                by_basis[entry.basis] = by_basis.get(entry.basis, 0) + nanousd
    ordered = sorted(lines.values(), key=lambda line: (-line.nanousd, line.model))
    return Bill(tuple(ordered), by_basis, refused)


def cache_hit(usage: Mapping[str, int]) -> float | None:
    """
    Share of the input tokens of *usage* that were read from a cache; None where there was no input.
    """
    whole = total_input(usage)
    return usage.get(CACHE_READ, 0) / whole if whole else None


def bill_rows(bill: Bill) -> list[tuple[str, ...]]:
    """
    The bill as a table of texts, its head first and its sum last; a column for each meter that was used.
    """
    meters = list(bill.usage)
    head = ("model", "calls", *map(_short, meters), "cache hit", "cost")
    rows = [
        (
            line.model,
            f"{line.calls:,}",
            *(f"{line.usage.get(meter, 0):,}" for meter in meters),
            _share(line.cache_hit),
            f"${usd_text(line.nanousd)}" + (f" + {line.unpriced:,} unpriced" if line.unpriced else ""),
        )
        for line in bill.lines
    ]
    if len(rows) > 1:
        sums = (f"{quantity:,}" for quantity in bill.usage.values())
        share = _share(cache_hit(bill.usage))
        rows.append(("all", f"{bill.calls:,}", *sums, share, f"${usd_text(bill.nanousd)}"))
    return [head, *rows]


def bill_notes(bill: Bill) -> list[str]:
    """
    What is to be said beside the figures: what AWS did not report, and who was refused.
    """
    notes = [
        f"${usd_text(nanousd)} of it is {basis}: AWS reported no usage of those calls"
        for basis, nanousd in bill.by_basis.items()
        if basis != "reported"
    ]
    for name, count in bill.refused.items():
        who = name or "a stop"
        notes.append(f"{count:,} call{'s were' if count != 1 else ' was'} refused by {who}")
    return notes


def show_status(row: BudgetStatus) -> str:
    """
    One balance in one line: `run: $1.31 of $5.00 (29 %) · $0.14 pending`.
    """
    spent, limit = show(row.spent, row.unit), show(row.limit, row.unit)
    pending = f" · {show(row.pending, row.unit)} pending" if row.pending else ""
    share = f"{share_of(row) * 100:.0f} %"
    return f"{row.budget}{show_per(row.per)}: {spent} of {limit} ({share}){pending}"


def share_of(row: BudgetStatus) -> float:
    """
    How much of its limit is spent or pending; 1.0 of a limit of 0.
    """
    return float((row.spent + row.pending) / row.limit) if row.limit else 1.0


def _short(meter: str) -> str:
    return meter.removesuffix("_tokens").replace("_", " ")


def _share(share: float | None) -> str:
    # Rounded down: no hundred where a token was not read from a cache.
    return "" if share is None else f"{int(share * 1000) / 10:g} %"
