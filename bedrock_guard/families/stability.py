"""
Stability: one image a request, at one price for each model.

A reply whose image was held back by a filter has `finish_reasons` for it; whether AWS
bills that is not documented, so it is charged as asked for.
"""

from __future__ import annotations

from typing import Final

from bedrock_guard.families.amazon_images import read_images
from bedrock_guard.families.beside_tokens import Beside, always
from bedrock_guard.families.dialect import Dialect
from bedrock_guard.meters import media

_ONE: Final = Beside({media.IMAGES.name: 1})

STABILITY: Final = Dialect(
    name="stability", beside=always(_ONE), most_beside=_ONE, made=read_images, generates=False
)
