"""Modes of `generate` whose steps are not those of one text for each example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attnchain_interp import AttentionError

_DRAFTS: Final = ("assistant_model", "prompt_lookup_num_tokens", "assistant_early_exit", "use_mtp")


def check_one_text(setting: Callable[[str], Any], instead: str) -> None:
    """Refuses a generation that follows several texts of an example, or takes tokens back.

    Args:
        setting: the value of an option of `generate`, by its name.
        instead: the line that reads the finished text, as the beginning of a fix.

    Raises:
        AttentionError: beams, guidance, or drafted tokens.
    """
    beams, scale = setting("num_beams") or 1, setting("guidance_scale")
    if beams > 1:
        raise AttentionError(
            f"num_beams={beams}: a search with beams follows several texts of an example and changes among them, so its"
            " steps are not those of one text.",
            f"{instead} Or use num_beams=1.",
        )
    if scale not in (None, 1):
        raise AttentionError(
            f"guidance_scale={scale}: guidance reads a second text of each example, without its prompt or with a negative one,"
            " so the steps are not those of one text.",
            f"{instead} Or use guidance_scale=1.",
        )
    for name in _DRAFTS:
        if setting(name):
            raise AttentionError(
                f"{name}=… drafts tokens and takes some of them back (assisted decoding), so the steps are not those of"
                " the finished text.",
                f"{instead} Or generate without {name}.",
            )
