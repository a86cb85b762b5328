"""
The nouns: frozen dataclasses and protocols; no I/O, no clock.
"""
