"""The bundled passages with questions, in the format of `Passages`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

INVENTED_PASSAGES: Final = Path(__file__).with_suffix(".jsonl")
"""The file of 390 passages of three to seven sentences, two questions each, about people, places and things that do not exist.

A model cannot know the answers from its training. `Passages` reads the file.
"""
