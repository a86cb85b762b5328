"""
What lies between a ledger and DynamoDB: delay, loss, repetition, refusals of a busy service.

The fate of a message hangs on the seed and its own number alone, so that a history from which other things are
left out keeps it.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

from botocore.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError
from simulation.fleet.dynamodb import STALE_S, Engine, refusal
from simulation.fleet.world import World

USUAL_S = (0.002, 0.008)
LATE_S = (0.5, 40.0)
# Past the ten minutes for which a token is remembered: only conditions know the request then.
VERY_LATE_S = (610.0, 700.0)


class Fate(NamedTuple):
    """
    What becomes of one message.

    Attributes:
        out_s: How long the request travels.
        back_s: How long the answer does.
        again_s: How long after the first a second copy of the request arrives; None for none.
        lag_s: How far behind the copy is from which a read is answered that need not be consistent.
    """

    kind: str = "plain"
    out_s: float = 0.004
    back_s: float = 0.004
    again_s: float | None = None
    lag_s: float = 0.0


# How often each happens to a message, in a storm; a calm profile has a share of it.
STORM: Mapping[str, float] = {
    "lost_request": 0.04,
    "lost_answer": 0.05,
    "late_request": 0.03,
    "duplicate": 0.04,
    "very_late_duplicate": 0.01,
    "conflict": 0.05,
    "throttle": 0.02,
    "throughput": 0.02,
    "failed_inside": 0.01,
    "done_inside": 0.01,
    "in_progress": 0.01,
    "slow": 0.03,
    "unsent": 0.01,
    "unprocessed": 0.01,
}
_WRITES = frozenset(["transact_write_items", "update_item", "put_item", "delete_item"])


class Network:
    """
    Carries messages.

    Attributes:
        is_calm: From now on, nothing happens to messages.
        muted: Messages to which nothing happens, and kinds that do not happen.
        faults: What did happen, by message.
        on_revival: Told the ids of calls of which a request was refused, repeated on its way, and done then.
    """

    def __init__(
        self, world: World, engine: Engine, *, seed: int, rates: Mapping[str, float], muted: frozenset[str]
    ) -> None:
        self._world, self._engine = world, engine
        self._seed, self._rates = seed, rates
        self.muted = muted
        self.faults: dict[str, str] = {}
        self.sent = 0
        self.is_calm = False
        self.on_revival: Callable[[Iterable[str]], None] = lambda _: None
        self._refused: set[str] = set()

    def __deepcopy__(self, _: Any) -> Network:
        return self

    def make_client(self, clients: Any, shares: tuple[float, float]) -> Any:
        """
        Stands in for `Clients._make`: a client with the time-outs that the ledger gives it.
        """
        connect_s, read_s = (share * clients._address.deadline_s for share in shares)
        return Client(self, connect_s, read_s)

    def call(self, operation: str, params: dict[str, Any], connect_s: float, read_s: float) -> Any:
        """
        The answer, for the process that asks.

        Raises:
            ClientError: DynamoDB refuses.
            ConnectTimeoutError: It could not be sent.
            ReadTimeoutError: There was no answer.
        """
        world = self._world
        task = world.task()
        node: Any = task.owner
        node.messages += 1
        self.sent += 1
        message = f"{node.name}/{node.messages}"
        fate = self._fate(message, operation)
        if fate.kind != "plain":
            self.faults[message] = fate.kind
        world.tell(f"{message} {operation} {fate.kind}")
        if fate.kind == "unsent" or node.cut_until_s > world.now:
            world.park(world.now + connect_s)
            raise ConnectTimeoutError(endpoint_url="http://dynamodb")
        answer = partial(self._answer, node, world, task, task.waits + 1)
        arrive = partial(self._arrive, message, operation, params, fate)
        if fate.kind != "lost_request":
            world.at(world.now + fate.out_s, lambda: answer(arrive(), fate))
        if fate.again_s is not None:

            def repeat() -> None:
                arrive(is_again=True)

            world.at(world.now + fate.out_s + fate.again_s, repeat)
        reason = world.park(world.now + read_s)
        if reason is None:
            world.tell(f"{message} no answer")
            raise ReadTimeoutError(endpoint_url="http://dynamodb")
        if isinstance(reason, ClientError):
            world.tell(f"{message} {reason.response['Error']['Code']}")
            raise reason
        return reason

    def _arrive(
        self, message: str, operation: str, params: dict[str, Any], fate: Fate, *, is_again: bool = False
    ) -> Any:
        refused = None if is_again else _REFUSALS.get(fate.kind)
        if refused is not None:
            self._refused.add(message)
            return refused(operation, params)
        if fate.kind == "unprocessed" and operation == "batch_get_item":
            return {"Responses": {}, "UnprocessedKeys": params["RequestItems"]}
        try:
            found = self._engine.send(operation, params, lag_s=fate.lag_s)
        except ClientError as error:
            found = error
            self._refused.add(message)
        else:
            if is_again and message in self._refused:
                self.on_revival(_made_by(params))
        if is_again or fate.kind == "late_request":
            is_done = not isinstance(found, ClientError)
            self._world.tell(
                f"{message} arrives {'again' if is_again else 'late'}: {'done' if is_done else 'not done'}"
            )
        if fate.kind == "done_inside":
            return refusal(operation, "InternalServerError", "internal", 500)
        return found

    def _answer(self, node: Any, world: World, task: Any, waits: int, found: Any, fate: Fate) -> None:
        if fate.kind == "lost_answer":
            return

        def deliver() -> Any:
            if node.cut_until_s > world.now:
                return None
            return world.waker(task, found, waits=waits)()

        world.at(world.now + fate.back_s, deliver)

    def _fate(self, message: str, operation: str) -> Fate:
        chances = _chances(f"{self._seed}/{message}")
        low, high = USUAL_S
        out_s, back_s = (low + (high - low) * next(chances) for _ in range(2))
        is_stale = bool(self._rates) and next(chances) < 0.3
        plain = Fate("plain", out_s, back_s, lag_s=STALE_S * next(chances) if is_stale else 0.0)
        roll = next(chances)
        if self.is_calm or message in self.muted:
            return plain
        for kind, rate in self._rates.items():
            roll -= rate
            if roll < 0 and kind in self.muted:
                return plain
            if roll < 0:
                return _made(
                    plain, kind, random.Random(f"{self._seed}/{message}"), is_write=operation in _WRITES
                )
        return plain


def _chances(text: str) -> Iterator[float]:
    """
    Numbers from 0 to 1 that hang on *text* alone. Quicker to begin than `random.Random`, and there are many.
    """
    state = zlib.crc32(text.encode())
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield (state >> 11) / 2**53


def _made(plain: Fate, kind: str, dice: random.Random, *, is_write: bool) -> Fate:
    if kind == "late_request":
        return plain._replace(kind=kind, out_s=dice.uniform(*LATE_S))
    if kind == "slow":
        return plain._replace(kind=kind, out_s=dice.uniform(0.05, 0.9), back_s=dice.uniform(0.05, 0.9))
    if kind == "duplicate" and is_write:
        return plain._replace(kind=kind, again_s=dice.choice([dice.uniform(0, 0.05), dice.uniform(*LATE_S)]))
    if kind == "very_late_duplicate" and is_write:
        return plain._replace(kind=kind, again_s=dice.uniform(*VERY_LATE_S))
    if kind.endswith("duplicate"):
        return plain
    return plain._replace(kind=kind)


def _made_by(params: Mapping[str, Any]) -> list[str]:
    """
    The ids of calls that a request would open.
    """
    puts = [action["Put"]["Item"] for action in params.get("TransactItems", ()) if "Put" in action]
    return [item["id"]["S"] for item in puts if "id" in item]


class Client:
    """
    What a ledger takes for a client of botocore.
    """

    def __init__(self, network: Network, connect_s: float, read_s: float) -> None:
        self.meta = SimpleNamespace(region_name="us-east-1")
        self._network, self._connect_s, self._read_s = network, connect_s, read_s

    def close(self) -> None:
        """
        There is nothing to give back.
        """

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        if operation.startswith("_"):
            raise AttributeError(operation)
        return lambda **params: self._network.call(operation, params, self._connect_s, self._read_s)


def _cancelled(operation: str, params: dict[str, Any], code: str, plain_code: str) -> ClientError:
    """
    A refusal of one item, which a transaction tells in its reasons.
    """
    if operation != "transact_write_items":
        return refusal(operation, plain_code, "refused")
    reasons = [{"Code": "None"} for _ in params["TransactItems"]]
    reasons[len(reasons) // 2] = {"Code": code, "Message": "refused"}
    return refusal(operation, "TransactionCanceledException", "refused", CancellationReasons=reasons)


def _conflict(operation: str, params: dict[str, Any]) -> ClientError:
    return _cancelled(operation, params, "TransactionConflict", "TransactionConflictException")


def _throughput(operation: str, params: dict[str, Any]) -> ClientError:
    return _cancelled(operation, params, "ThrottlingError", "ProvisionedThroughputExceededException")


# Where nothing is done, and DynamoDB says so, or does not know.
_REFUSALS: Mapping[str, Callable[[str, dict[str, Any]], ClientError]] = {
    "conflict": _conflict,
    "throughput": _throughput,
    "throttle": lambda operation, _: refusal(operation, "ThrottlingException", "slow down"),
    "failed_inside": lambda operation, _: refusal(operation, "InternalServerError", "internal", 500),
    "in_progress": lambda operation, _: refusal(operation, "TransactionInProgressException", "wait"),
}
