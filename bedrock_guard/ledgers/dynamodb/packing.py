"""
Text as the table keeps it: small, for an item of up to 1 KB is one write unit.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

# Entries are alike, and small only against what they have in common. Never to be changed: what was
# written with a dictionary is read with the same one. A better one gets the next number.
_DICTIONARIES: Final[dict[int, bytes]] = {
    1: b'"narrowed_usage":{"narrowed_by":"message_start","received_bytes":"anomalies":["count":"budget":"'
    b'"has_own_prices":true,"list_cost_nanousd":"priced":"upper_bound""outcome":"refused""outcome":"lost"'
    b'"outcome":"abandoned""outcome":"rejected""basis":"expired""family":"amazon","family":"anthropic",'
    b'"operation":"InvokeModelWithResponseStream","operation":"InvokeModel","operation":"ConverseStream",'
    b'"cache_write_1h_input_tokens":"cache_write_5m_input_tokens":"cache_read_input_tokens":"USD/month@UTC"'
    b'"USD/day@UTC",[],"requests/minute@UTC""error_code":"ThrottlingException""error_code":"ReadTimeoutError"'
    b'"team":"user":{"id":"019-","at_s":1,"operation":"Converse","model_id":"us.anthropic.claude-'
    b'-v1:0","model":"anthropic.claude-","family":"anthropic","region":"us-east-1","service_tier":"default",'
    b'"latency":"standard","tags":{"model":"model_id":"operation":"Converse","region":"us-east-1",'
    b'"service_tier":"default"},"outcome":"pending","basis":"estimated","outcome":"answered","basis":"reported",'
    b'"usage":{"input_tokens":,"output_tokens":},"reported_usage":{"input_tokens":,"output_tokens":},'
    b'"cost_nanousd":,"estimated_cost_nanousd":,"attempts":[{"outcome":"answered","status":200,'
    b'"error_code":null,"usage":{"input_tokens":,"output_tokens":},"cost_nanousd":,"basis":"reported"}],'
    b'"duration_ms":}'
}
_NEWEST_DICTIONARY: Final = 1


def pack(text: str) -> dict[str, Any]:
    """
    *text* as an attribute of an item.
    """
    packer = zlib.compressobj(9, zdict=_DICTIONARIES[_NEWEST_DICTIONARY])
    return {"B": bytes([_NEWEST_DICTIONARY]) + packer.compress(text.encode()) + packer.flush()}


def unpack(packed: bytes) -> str:
    """
    Back from `pack`; what cannot be raises `zlib.error`, a `LookupError` or a `ValueError`.
    """
    return zlib.decompressobj(zdict=_DICTIONARIES[packed[0]]).decompress(packed[1:]).decode()
