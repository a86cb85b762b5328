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
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

TESTS = str(Path(__file__).resolve().parents[2])

if __name__ == "__main__":  # as a program, it stands where pytest would have put it
    sys.path[:] = [TESTS, *(path for path in sys.path if path != str(Path(__file__).parent))]

from simulation.fleet import breaks  # noqa: E402 - and nothing that imports a ledger, or it could not be broken

SAYS_EVERY_S = 10.0
# So many seeds are one piece of work for a process.
PIECE = 20
# Columns of what went wrong: whatever has no class of its own in the oracle is "other".
WRONGS = {"breach": 10, "lost": 6, "double": 8, "other": 7}
KINDS = ("cut", "freeze", "step", "deploy", "policy", "fork", "interrupt")


@dataclass
class Sums:
    """
    What many simulations came to.

    Attributes:
        counts: How often what happened; of failures, by the name of what went wrong in small letters.
        failed: The seed that failed.
    """

    ledger: str
    seeds: int = 0
    virtual_s: float = 0.0
    real_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failed: int | None = None

    def add(self, more: Sums) -> None:
        """
        Count others in.
        """
        self.seeds += more.seeds
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
            f"{''.join(f'{count[name]:{width}}' for name, width in WRONGS.items())}{over / max(1, count['truth']):9.1%}"
            f"{self.virtual_s / 3600:11,.0f}{self.virtual_s / max(self.real_s, 1e-9):13,.0f}{self.real_s:9,.0f}"
        )


HEADER = (
    f"{'ledger':10}{'seeds':>8}{'calls':>11}{'kills':>8}{'faults':>10}"
    f"{'breaches':>10}{'lost':>6}{'double':>8}{'other':>7}"
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
            name = type(result.failure).__name__.lower()
            sums.counts[name if name in WRONGS else "other"] += 1
            sums.failed = seed
            return sums, result
    return sums, None


def run_all(ledger: str, seeds: range, *, jobs: int) -> Sums:
    """
    All *seeds* in so many processes, to the first that fails, or to Ctrl-C; it says how far it is.

    Who was stopped has fewer seeds, and none that failed.
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
        pass
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
    from simulation.fleet import sqlite

    # A fork, for the ledger may have been broken here. Who is stopped in a piece leaves files behind.
    fork = multiprocessing.get_context("fork")
    with (
        TemporaryDirectory(dir=sqlite.IN) as folder,
        fork.Pool(jobs, initializer=_leave_to_the_parent, initargs=(folder,)) as pool,
    ):
        yield from pool.imap(work, pieces)


def _leave_to_the_parent(folder: str) -> None:
    from simulation.fleet import sqlite

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sqlite.IN = Path(folder)


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
    from simulation.fleet.stores import STORES

    ledgers = given.ledger or list(STORES)
    unknown = [ledger for ledger in ledgers if ledger not in STORES]
    if unknown:
        parser.error(f"there is no ledger {unknown[0]!r}; there are {', '.join(STORES)}")
    rows, seeds = [HEADER], range(given.first, given.first + given.seeds)
    for number, ledger in enumerate(ledgers):
        sums = run_all(ledger, seeds, jobs=given.jobs)
        rows.append(sums.row())
        if sums.failed is not None:
            print("\n".join(rows))
            return _tell(ledger, sums.failed)
        if sums.seeds < len(seeds):
            print("\n".join(["", *rows, "Stopped. It goes on with"]))
            print(
                f"    --ledger {ledger} --from {seeds.start + sums.seeds} --seeds {len(seeds) - sums.seeds}"
            )
            for other in ledgers[number + 1 :]:
                print(f"    --ledger {other} --from {seeds.start} --seeds {len(seeds)}")
            return 130
    print("\n".join(rows))
    return 0


def _tell(ledger: str, seed: int) -> int:
    """
    Print the smallest history that fails as *seed* did, and why.
    """
    from simulation.fleet.shrinking import shrink, story

    failed = run(ledger, range(seed, seed + 1))[1]
    if failed is None:
        print(f"\nseed {seed}: it failed, and does not when it is run again")
        return 1
    smallest = shrink(failed)
    print(f"\n{story(smallest)}\n\nseed {seed}: {smallest.failure}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
