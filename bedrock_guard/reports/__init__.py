"""
Questions asked of a ledger: what was spent, by whom, when, how sure that is, and what is left.

Answers are plain data, read a page of entries at a time, so that a journal of any length fits; whoever
shows them decides how. Money stays whole nano-dollars.
"""
