"""
The story of one call, and what a guard does beside its calls: renew, sweep, go on where a ledger is gone.
"""
