"""The one exception of this package."""

from __future__ import annotations

__all__ = ["AttentionError"]


class AttentionError(ValueError):
    """An attention map, a chain, a model or an argument is not as it must be.

    Args:
        cause: which argument is wrong, the value that came, and the value that is required.
        fix: what to write instead. The message shows it on a line of its own.

    >>> print(AttentionError("damping is 2; it is a probability, from 0 to 1.", "Pass damping=0.99."))
    damping is 2; it is a probability, from 0 to 1.
    Pass damping=0.99.
    """

    def __init__(self, cause: str, fix: str = "") -> None:
        super().__init__(f"{cause}\n{fix}" if fix else cause)
