"""The roles of tokens."""

from __future__ import annotations

from enum import IntEnum

from attnchain_interp.errors import AttentionError


class Role(IntEnum):
    """The role of a token. Arguments take it, or its lower-case name: `tokens="patch"`."""

    CLASS = 0
    REGISTER = 1
    PATCH = 2
    TEXT = 3
    SPECIAL = 4
    PAD = 5
    FRAME = 6  # of audio

    @classmethod
    def named(cls, name: str | Role) -> Role:
        """Returns the role of this name. A role is its own.

        Raises:
            AttentionError: no role has the name.
        """
        if isinstance(name, Role):
            return name
        try:
            return cls[name.upper()]
        except KeyError:
            known = ", ".join(repr(role.name.lower()) for role in cls)
            raise AttentionError(
                f"{name!r} is not a token role.",
                f'The roles are {known}. A chain of a whole store also takes "no-sinks": store.chain(tokens="no-sinks").',
            ) from None
