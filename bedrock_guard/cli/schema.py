"""
`bedrock-guard schema`: the JSON Schema of a settings file.
"""

from __future__ import annotations

import json

from bedrock_guard.config.schema import settings_schema


def schema() -> None:
    """
    Print the JSON Schema of bedrock-guard.toml, for editors that complete and check TOML.
    """
    print(json.dumps(settings_schema(), indent=2))
