"""The chains of one example of a store, layer by layer: |λ₂|, stationary vectors, and metastable states."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray

from attnchain_interp.chain import Chain, coarse_grained_stationary, metastable_states, mixing
from attnchain_interp.checks import check_position
from attnchain_interp.errors import AttentionError
from attnchain_interp.explorer.encoding import Floats
from attnchain_interp.store import (
    NAMED_WEIGHTS,
    AttentionStore,
    TokenSelection,
    eigenvalue_weights,
    known_sinks,
    normalised_weights,
    states_of,
)
from attnchain_interp.store.starts import default_damping, last_state

MOST: Final = 640  # states of the chain, above which a Schur decomposition takes many seconds


@final
class ExampleChains:
    """The tokens of an example without its padding, and its chains over the chosen states.

    Attributes:
        store: the store that holds the example.
        selected: (batch, token) bool, the states among the tokens of the store.
        example: its number in the batch.
        shown: (token,) positions in the store of the tokens of the page: all but padding.
        states: (state,) places of the states among the shown tokens.
        outside: (other,) places of the other tokens among the shown ones.
    """

    def __init__(self, store: AttentionStore, example: int, tokens: TokenSelection) -> None:
        if store.queries is not None:
            raise AttentionError(
                "this store leads from queries to other tokens (cross-attention, or a pooling head); a chain needs the same"
                " tokens on both sides.",
                "Capture the self-attention of the model: reading=ac.Reading(kind='encoder').",
            )
        self.store, self.example = store, check_position("example", example, store.batch)
        self.selected = states_of(store, tokens)
        self.shown = store.tokens.mask[self.example].cpu().numpy().nonzero()[0]
        inside = self.selected[self.example].cpu().numpy()[self.shown]
        self.states, self.outside = inside.nonzero()[0], (~inside).nonzero()[0]

    @cached_property
    def causal(self) -> bool:
        return self.store.causal

    @property
    def triangle(self) -> bool:
        """Whether maps are lower triangles: the store is a decoder's, and all tokens are states."""
        return self.causal and not len(self.outside)

    @cached_property
    def sinks(self) -> dict[int, str]:
        """A text about each attention sink by its place among the shown tokens; none where the values are not known."""
        found = known_sinks(self.store)
        told = {} if found is None else found.described(self.example)
        return {place: told[position] for place, position in enumerate(self.shown.tolist()) if position in told}

    @property
    def damping(self) -> float:
        """The damping of the stationary vectors, which is the default of `TokenRank` for these jumps."""
        return default_damping(self.jump is not None)

    @property
    def jump(self) -> int | None:
        """The number of the state where jumps lead: the last token of a decoder. None where they lead to every state."""
        last = len(self.states) - 1
        return last if self.causal and self.states[last] == len(self.shown) - 1 else None

    @torch.no_grad()
    def maps(self) -> Iterator[tuple[Floats, Floats]]:
        """Yields of each layer the transitions (head, token, state), and the entries (head, state, other) outside the states.

        Rows of transitions sum to one. The entries outside are in the same unit; only reversed chains need them.
        """
        for layer in self.store:
            every = layer.conditioned(self.selected).dense()[self.example].float().cpu().numpy()
            shown, states = _as_slice(self.shown), _as_slice(self.states)
            every = every[:, shown][:, :, shown]
            yield every[:, :, states], every[:, states][:, :, self.outside]

    def chain(self, transitions: Floats) -> Chain:
        """Returns the chain with the transitions (…, token, state)."""
        n = len(self.shown)
        matrix = np.zeros((*transitions.shape[:-2], n, n), np.float32)
        matrix[..., _as_slice(self.states)] = transitions
        matrix, states = torch.from_numpy(matrix), torch.zeros(n, dtype=torch.bool, device="cpu")
        states[torch.from_numpy(self.states)] = True
        return Chain(matrix, states.expand(matrix.shape[:-1]), check=False)

    def mixing(self, transitions: Floats) -> tuple[Floats, Floats]:
        """Returns |λ₂| (head,) and the stationary vectors (head, state) of transitions (head, token, state)."""
        chain = self.chain(transitions)
        found = mixing(chain, self.damping, last_state(chain) if self.jump is not None else None)
        return found.second_eigenvalue.float().numpy(), found.stationary.numpy()[:, self.states]


def weights(second: Floats) -> Floats:
    """Returns the weights (weighting, head) of the heads of a layer from |λ₂| (head,), for each of NAMED_WEIGHTS."""
    rows = [eigenvalue_weights(torch.from_numpy(second), heads) for heads in NAMED_WEIGHTS]
    return normalised_weights(torch.stack(rows)).numpy()


def _as_slice(places: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """The places as a slice, which copies nothing, where they are without gaps."""
    whole = len(places) > 0 and places[-1] - places[0] + 1 == len(places)
    return slice(int(places[0]), int(places[-1]) + 1) if whole else places


def metastable_regions(chains: ExampleChains, means: Floats) -> tuple[list[dict[str, Any]], Floats]:
    """Returns the metastable states of the mean over all layers: their weights, and the shares (state, region) in them.

    The regions of the weightings of heads stand side by side. A weighting without regions has the reason instead of weights.

    Args:
        chains: the example.
        means: its maps (weighting, layer, token, state).
    """
    described, columns = [], [np.zeros((len(chains.states), 0), dtype=np.float32)]
    for heads, transitions in zip(NAMED_WEIGHTS, means.mean(1), strict=True):
        if len(chains.states) > MOST:
            described.append({"heads": heads, "missing": f"not computed for more than {MOST} tokens"})
            continue
        chain = chains.chain(transitions)
        try:
            shares = metastable_states(chain, damping=chains.damping)
            weight = coarse_grained_stationary(chain, shares, chains.damping)
        except AttentionError as error:
            described.append({"heads": heads, "missing": str(error)})
            continue
        described.append({"heads": heads, "weights": weight.tolist()})
        columns.append(shares.float().numpy()[chains.states])
    return described, np.concatenate(columns, 1)
