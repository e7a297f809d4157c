"""Whether a chain has one stationary distribution without damping."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from attnchain_interp.errors import AttentionError


def require_irreducible(maps: Tensor, states: Tensor) -> None:
    """Refuses chains (…, token, token) in which a state cannot be reached from every other.

    Raises:
        AttentionError: a reducible chain; the message names its closed classes.
    """
    from scipy.sparse.csgraph import connected_components

    for index in np.ndindex(*states.shape[:-1]):
        inside = states[index].nonzero()[:, 0]
        reached = (maps[index][inside][:, inside] > 0).cpu().numpy()
        count, labels = connected_components(reached, connection="strong")
        if count == 1:
            continue
        members = [inside.cpu().numpy()[labels == label] for label in range(count)]
        closed = [tokens for label, tokens in enumerate(members) if not reached[labels == label][:, labels != label].any()]
        transient = len(inside) - sum(map(len, closed))
        shown = ", ".join(_class_text(tokens) for tokens in sorted(closed, key=lambda tokens: tokens[0])[:4])
        raise AttentionError(
            f"the chain is reducible: {len(closed)} closed classes{f' of chain {list(index)}' if index else ''} ({shown}"
            f"{' …' if len(closed) > 4 else ''}) and {transient} transient tokens, so at damping=1 the walk ends in a closed"
            " class and says nothing of the other tokens. Causal maps always are: their first token absorbs. Pass"
            " damping=0.99, or restrict the chain to one class."
        )


def _class_text(tokens: np.ndarray) -> str:
    return "{" + ", ".join(map(str, tokens[:6])) + (f", … {len(tokens)} tokens" if len(tokens) > 6 else "") + "}"
