"""
Budgets on leases: a process takes slices of balances, and spends them without asking.

    ledger     Ledger: what fits into slices is held here, what does not is asked for
    local      the calls of this process, and what they hold of its slices
    in_hand    what is spent and held of each; integers under a lock
    purses     one slice as it is spent, and a call that holds some of it
    slices     how much to ask for, and what a lease is; pure
    desk       asks for slices, reports what is spent, and gives back
    hearing    stops and top-ups, while the table does not answer
    beside     what is never leased: what rolls, and rates
    store      what is written of leases, as requests to DynamoDB
    journal    entries on their way into segments
    sweeping   charges what dead processes had leased
    keeper     the thread that does what is due, and the last things at exit
"""

from bedrock_guard.ledgers.leases.ledger import LeasedLedger

__all__ = ["LeasedLedger"]
