"""
Which budgets a call counts towards, in which window, and what a refusal says.
"""
