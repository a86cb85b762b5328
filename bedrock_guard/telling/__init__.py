"""
Alerts: what is worth one, which process tells it, and how it gets to its sinks.
"""
