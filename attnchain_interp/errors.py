"""The one exception of this package."""


class AttentionError(ValueError):
    """An attention map, a chain, a model or an argument is not what it must be; the message says what to write."""
