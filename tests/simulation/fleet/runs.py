"""
Many simulations, one after the other, and the table of them.

    python tests/simulation/fleet/runs.py --seeds 10000 --ledger dynamodb --first 0

It says how far it is; at the first seed that fails, it makes that smaller, prints its history and ends with 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

TESTS = str(Path(__file__).resolve().parents[2])

if __name__ == "__main__":  # as a program, it stands where pytest would have put it
    sys.path[:] = [TESTS, *(path for path in sys.path if path != str(Path(__file__).parent))]

from simulation.fleet import breaks  # noqa: E402 - and nothing that imports a ledger, or it could not be broken

SAYS_EVERY_S = 10.0
KINDS = ("cut", "freeze", "step", "deploy", "policy", "fork", "interrupt")


@dataclass
class Sums:
    """
    What many simulations came to.
    """

    ledger: str
    seeds: int = 0
    breaches: int = 0
    virtual_s: float = 0.0
    real_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)

    def row(self) -> str:
        """
        A line of the table.
        """
        count = self.counts
        over = count["spent"] - count["truth"]
        return (
            f"{self.ledger:10}{self.seeds:8,}{count['calls']:11,}{count['kill']:8,}{count['faults']:10,}"
            f"{self.breaches:10}{count['lost']:6}{count['double']:8}{over / max(1, count['truth']):9.1%}"
            f"{self.virtual_s / 3600:11,.0f}{self.virtual_s / max(self.real_s, 1e-9):13,.0f}{self.real_s:9,.0f}"
        )


HEADER = (
    f"{'ledger':10}{'seeds':>8}{'calls':>11}{'kills':>8}{'faults':>10}{'breaches':>10}{'lost':>6}{'double':>8}"
    f"{'above':>9}{'virtual h':>11}{'x real time':>13}{'real s':>9}"
)


def run(ledger: str, seeds: range, *, says: bool = False, twice_every: int = 50) -> tuple[Sums, object]:
    """
    All *seeds*, to the first that fails; every so many are run twice, and must be the same.
    """
    from simulation.fleet import scenario
    from simulation.fleet.fleet import Fleet
    from simulation.fleet.stores import STORES

    sums, said = Sums(ledger), time.monotonic()
    for seed in seeds:
        made = scenario.make(seed, ledger, STORES[ledger].faults)
        result = Fleet(made).play()
        sums.seeds += 1
        sums.counts += result.counts
        sums.counts["faults"] += len(result.faults) + sum(result.counts[kind] for kind in KINDS)
        sums.virtual_s += result.virtual_s
        sums.real_s += result.real_s
        if result.failure is None and seed % twice_every == 0:
            again = Fleet(made).play()
            assert again.digest == result.digest, f"seed {seed} of {ledger} is not the same twice"
        if result.failure is not None:
            sums.breaches += 1
            return sums, result
        if says and time.monotonic() - said > SAYS_EVERY_S:
            said = time.monotonic()
            print(f"{ledger}: {sums.seeds:,} of {len(seeds):,}", file=sys.stderr, flush=True)
    return sums, None


def main(arguments: list[str] | None = None) -> int:
    """
    As the top of this file says.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=500, help="how many, of each ledger")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--ledger", action="append", help="which; more than one may be named, none is all")
    parser.add_argument(
        "--break", dest="broken", choices=sorted(breaks.BREAKS), help="break the ledger first"
    )
    given = parser.parse_args(arguments)
    if given.broken:
        breaks.BREAKS[given.broken].install()
    from simulation.fleet.shrinking import shrink, story
    from simulation.fleet.stores import STORES

    rows, failed = [], None
    for ledger in given.ledger or list(STORES):
        sums, failed = run(ledger, range(given.first, given.first + given.seeds), says=True)
        rows.append(sums.row())
        if failed is not None:
            break
    print("\n".join([HEADER, *rows]))
    if failed is None:
        return 0
    smallest = shrink(failed)  # type: ignore[arg-type]
    print(f"\n{story(smallest)}\n\nseed {smallest.scenario.seed}: {smallest.failure}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
