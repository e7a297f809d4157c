"""Methods that ranked the tokens of a real decoder worse than chance did. Each says so once, when it scores a decoder."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from typing import Final

from attnchain_interp.store import AttentionStore

WORSE_THAN_RANDOM: Final[Mapping[str, str]] = {  # method → the figure that says so, in a few words
    "Rollout": "on facts, by SmolLM2: docs/real-text.md",
    "GMAR": "on facts, by SmolLM2: docs/real-text.md",
}
_INSIDE: Final = ("attnchain_interp", "attnchain_evals", "captum", "torch", "contextlib")
_told: set[str] = set()


def warn_of_decoder(method: object, store: AttentionStore) -> None:
    """Warns once in a process where a method of `WORSE_THAN_RANDOM` scores the attention of a causal model of text."""
    name = type(method).__name__
    if name not in WORSE_THAN_RANDOM or name in _told or store.metadata.get("maps", "attention") != "attention":
        return
    if len(store.tokens) == 1 or not store.causal:
        return
    _told.add(name)
    warnings.warn(
        f"{name} ranks the tokens of a decoder worse than a random order ({WORSE_THAN_RANDOM[name]}): it counts the attention"
        " that the first token takes and gives nothing for. Use TokenRank or GradientTokenRank. This is said once.",
        stacklevel=_outside(),
    )


def _outside() -> int:
    """Returns the number of frames from `warn_of_decoder` up to the first that is the user's."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in _INSIDE:
        depth, frame = depth + 1, frame.f_back
    return depth
