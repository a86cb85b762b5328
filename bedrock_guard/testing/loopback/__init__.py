"""
The parts of the loopback Bedrock: what it understands, generates, bills and puts on the wire.

Standard library only, and nothing of the library that is tested with it.
"""
