"""
Many simulations, one after the other, and the table of them.

    python tests/simulation/fleet/runs.py --seeds 10000 --ledger dynamodb --jobs 2

It says how far it is; stopped by Ctrl-C, it says from which seed to go on (`--from`). At the first seed that fails,
it makes that smaller, prints its history and ends with 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

TESTS = str(Path(__file__).resolve().parents[2])

if __name__ == "__main__":  # as a program, it stands where pytest would have put it
    sys.path[:] = [TESTS, *(path for path in sys.path if path != str(Path(__file__).parent))]

from simulation.fleet import breaks  # noqa: E402 - and nothing that imports a ledger, or it could not be broken

SAYS_EVERY_S = 10.0
# So many seeds are one piece of work for a process.
PIECE = 20
KINDS = ("cut", "freeze", "step", "deploy", "policy", "fork", "interrupt")


@dataclass
class Sums:
    """
    What many simulations came to.

    Attributes:
        failed: The seed that failed.
    """

    ledger: str
    seeds: int = 0
    breaches: int = 0
    virtual_s: float = 0.0
    real_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failed: int | None = None

    def add(self, more: Sums) -> None:
        """
        Count others in.
        """
        self.seeds += more.seeds
        self.breaches += more.breaches
        self.virtual_s += more.virtual_s
        self.real_s += more.real_s
        self.counts += more.counts
        self.failed = more.failed

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


def run(ledger: str, seeds: range, *, twice_every: int = 50) -> tuple[Sums, Any]:
    """
    All *seeds*, to the first that fails; every so many are run twice, and must be the same.
    """
    from simulation.fleet import scenario
    from simulation.fleet.fleet import Fleet
    from simulation.fleet.stores import STORES

    sums = Sums(ledger)
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
            sums.breaches, sums.failed = 1, seed
            return sums, result
    return sums, None


def run_all(ledger: str, seeds: range, *, jobs: int) -> Sums:
    """
    All *seeds* in so many processes, to the first that fails, or to Ctrl-C; it says how far it is.
    """
    sums, said = Sums(ledger), time.monotonic()
    try:
        for more in _pieces(ledger, seeds, jobs):
            sums.add(more)
            if sums.failed is not None:
                break
            if time.monotonic() - said > SAYS_EVERY_S:
                said = time.monotonic()
                print(f"{ledger}: {sums.seeds:,} of {len(seeds):,}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        left = len(seeds) - sums.seeds
        goes_on = f"--ledger {ledger} --from {seeds.start + sums.seeds} --seeds {left}"
        print(f"\n{HEADER}\n{sums.row()}\nStopped. It goes on with {goes_on}", flush=True)
        raise
    return sums


def _pieces(ledger: str, seeds: range, jobs: int) -> Iterator[Sums]:
    """
    What each piece came to, in the order of the seeds.
    """
    pieces = [seeds[first : first + PIECE] for first in range(0, len(seeds), PIECE)]
    work = partial(_piece, ledger)
    if jobs == 1:
        yield from map(work, pieces)
        return
    # A fork, for the ledger may have been broken here.
    with multiprocessing.get_context("fork").Pool(jobs, initializer=_leave_to_the_parent) as pool:
        yield from pool.imap(work, pieces)


def _leave_to_the_parent() -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _piece(ledger: str, seeds: range) -> Sums:
    return run(ledger, seeds)[0]


def main(arguments: list[str] | None = None) -> int:
    """
    As the top of this file says.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=500, help="how many, of each ledger")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first of them (0)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="in how many processes (one for each core)"
    )
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
        try:
            sums = run_all(ledger, range(given.first, given.first + given.seeds), jobs=given.jobs)
        except KeyboardInterrupt:
            return 130
        rows.append(sums.row())
        if sums.failed is not None:
            _, failed = run(ledger, range(sums.failed, sums.failed + 1))
            break
    print("\n".join([HEADER, *rows]))
    if failed is None:
        return 0
    smallest = shrink(failed)
    print(f"\n{story(smallest)}\n\nseed {smallest.scenario.seed}: {smallest.failure}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
