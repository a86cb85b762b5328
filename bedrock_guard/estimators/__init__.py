"""
Estimators: the most that a call can use, before it is sent.
"""
