"""
What calls would cost before any is made: one request, at most; and a month of traffic, as it is assumed.

Nothing is sent, and no ledger is written.
"""
