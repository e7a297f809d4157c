"""One example of a store as the explorer shows it: chains layer by layer, λ₂ and the stationary vector of every head."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray

from attnchain_interp.chain.chain import Chain
from attnchain_interp.chain.mixing import mixing
from attnchain_interp.errors import AttentionError
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.starts import last_state
from attnchain_interp.store.tokens import TokenSelection

WEIGHTINGS: Final = ("mean", "lambda2", "inverse-lambda2")
Floats = NDArray[np.float32]


@final
class Reading:
    """The tokens of an example that are no padding, and its chains over the chosen states.

    Attributes:
        store: of which it is an example.
        example: its number.
        shown: (token,) positions in the store of the tokens that the page has: all but padding.
        states: (state,) places among these of the states.
        outside: (other,) places among these of the tokens that are no states.
    """

    def __init__(self, store: AttentionStore, example: int, tokens: TokenSelection) -> None:
        if store.queries is not None:
            raise AttentionError(
                "this store leads from queries to other tokens (cross-attention, or a pooling head), which is no chain to"
                " explore. Capture the model's self-attention: kind='encoder' or kind='decoder'."
            )
        if isinstance(example, bool) or not isinstance(example, int) or not 0 <= example < store.batch:
            raise AttentionError(f"example is {example!r}; the store has {store.batch}, numbered 0 to {store.batch - 1}.")
        self.store, self.example = store, example
        self._selected = store.tokens.select(tokens)
        self.shown = store.tokens.mask[example].cpu().numpy().nonzero()[0]
        inside = self._selected[example].cpu().numpy()[self.shown]
        self.states, self.outside = inside.nonzero()[0], (~inside).nonzero()[0]

    @cached_property
    def causal(self) -> bool:
        return self.store.causal

    @property
    def damping(self) -> float:
        """Of the stationary vectors, as `TokenRank`: 0.5 in a decoder, where jumps lead to the last state, else 0.99."""
        return 0.5 if self.causal else 0.99

    @property
    def jump(self) -> int | None:
        """The number of the state where jumps lead; None where they lead to any."""
        return len(self.states) - 1 if self.causal else None

    @torch.no_grad()
    def maps(self) -> Iterator[tuple[Floats, Floats]]:
        """Of each layer the transitions (head, token, state), and the same rows' entries (head, state, other) outside.

        Rows sum to one over the states. What they send elsewhere, in the same unit, matters to reversed chains alone.
        """
        for layer in self.store:
            every = layer.conditioned(self._selected).dense()[self.example].float().cpu().numpy()
            shown, states = run(self.shown), run(self.states)
            every = every[:, shown][:, :, shown]
            yield every[:, :, states], every[:, states][:, :, self.outside]

    def square(self, transitions: Floats) -> Chain:
        """The chain of transitions (…, token, state)."""
        n = len(self.shown)
        matrix = np.zeros((*transitions.shape[:-2], n, n), np.float32)
        matrix[..., run(self.states)] = transitions
        matrix, states = torch.from_numpy(matrix), torch.zeros(n, dtype=torch.bool)
        states[torch.from_numpy(self.states)] = True
        return Chain(matrix, states.expand(matrix.shape[:-1]), check=False)

    def mixing(self, transitions: Floats) -> tuple[Floats, Floats]:
        """|λ₂| (head,) and the stationary vectors (head, state) of transitions (head, token, state)."""
        chain = self.square(transitions)
        found = mixing(chain, self.damping, last_state(chain) if self.causal else None)
        return found.second_eigenvalue.float().numpy(), found.stationary.numpy()[:, self.states]


def run(places: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """The places as a slice, which copies nothing, where they are without gaps."""
    whole = len(places) > 0 and places[-1] - places[0] + 1 == len(places)
    return slice(int(places[0]), int(places[-1]) + 1) if whole else places


def weights(second: Floats) -> Floats:
    """The weight (weighting, head) of each head of a layer by |λ₂| (head,), as `head_weights` in the order of WEIGHTINGS."""
    second = second.clip(0, 1)
    rows = np.stack([np.ones_like(second), second, 1 - second])
    sums = rows.sum(1, keepdims=True)
    return np.where(sums > 0, rows / np.where(sums > 0, sums, 1), 1 / len(second)).astype(np.float32)
