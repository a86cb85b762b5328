"""
Images, sound and video: what models bill for that read or make more than text.

Tokens of a medium are billed beside those of text, at a price of their own; a model that
bills its images or seconds whole has no tokens for them.
"""

from __future__ import annotations

from typing import Final

from bedrock_guard.domain.usage import Meter

INPUT_AUDIO_TOKENS: Final = Meter("input_audio_tokens", "token")
OUTPUT_AUDIO_TOKENS: Final = Meter("output_audio_tokens", "token")
INPUT_IMAGE_TOKENS: Final = Meter("input_image_tokens", "token")

INPUT_IMAGES: Final = Meter("input_images", "image")
INPUT_DOCUMENT_IMAGES: Final = Meter("input_document_images", "image")
# Of unknown size and quality: at the dearest of those that a model sells.
IMAGES: Final = Meter("images", "image")
IMAGES_STANDARD_1024: Final = Meter("images_standard_1024", "image")
IMAGES_STANDARD_2048: Final = Meter("images_standard_2048", "image")
IMAGES_PREMIUM_1024: Final = Meter("images_premium_1024", "image")
IMAGES_PREMIUM_2048: Final = Meter("images_premium_2048", "image")

INPUT_AUDIO_SECONDS: Final = Meter("input_audio_seconds", "second")
INPUT_VIDEO_SECONDS: Final = Meter("input_video_seconds", "second")
OUTPUT_VIDEO_SECONDS: Final = Meter("output_video_seconds", "second")
