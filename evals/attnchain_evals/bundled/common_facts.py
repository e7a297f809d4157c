"""The bundled facts: prompts about countries, cities, words and elements, in the format of `Facts`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

COMMON_FACTS: Final = Path(__file__).with_suffix(".jsonl")
"""The file of 652 prompts of 16 relations, such as "The capital of France is the city of". `Facts` reads it."""
