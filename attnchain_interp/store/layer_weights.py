"""The weight of each layer when one chain is made of many: equal, by depth, by |λ₂|, chosen by hand, or a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from attnchain_interp.chain import Chain, second_eigenvalue
from attnchain_interp.checks import check_one_of
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import wide_dtype
from attnchain_interp.store.head_weights import NAMED_WEIGHTS, eigenvalue_weights, normalised_weights
from attnchain_interp.store.layer_selection import LayerSelection, in_order
from attnchain_interp.store.layers import STACK, LayerAttention, Layers, check_store
from attnchain_interp.store.sinks import states_of
from attnchain_interp.store.tokens import TokenSelection

LayerWeights = str | Sequence[float] | Tensor | Callable[[Any], Tensor]
NAMED_LAYER_WEIGHTS: Final = (*NAMED_WEIGHTS, "late")


def layer_weights(
    store: Layers, weights: LayerWeights = "late", *, layers: LayerSelection = "all", tokens: TokenSelection = None
) -> Tensor:
    """Returns the weight of every selected layer (batch, layer), in the order of the model; sums to one over layers.

    Args:
        store: an `AttentionStore`.
        weights: how the weights are found.

            - "mean": equal weights.
            - "late": the depth l / (L − 1), from 0 for the first of the model's L layers to 1 for the last. Layers that are
              not selected, or were not captured, are counted too.
            - "lambda2": |λ₂| of the chain of each layer, the mean of its heads. Slowly mixing layers count more.
            - "inverse-lambda2": 1 − |λ₂|. Fast mixing layers count more.
            - a list or tensor: one non-negative number for each selected layer, in the order of the model, however they were
              selected; (layer,) or (batch, layer).
            - a function: takes a store of the selected layers, in the order of the model, and returns non-negative weights
              (layer,) or (batch, layer).
        layers: see `AttentionStore.select`.
        tokens: the states of the chains of "lambda2" and "inverse-lambda2": see `states_of`.

    The weights are divided by their sum. Where a rule or a function gives zeros alone, layers count the same: one layer by
    itself weighs 1 under every rule.

    Raises:
        AttentionError: an unknown name; another number of weights than of selected layers; weights that are negative, not
            finite, or a list of zeros.
    """
    check_store(store)
    names = in_order(store.names, layers)
    first = store[names[0]]
    given = _given(store, weights, names, tokens).to(first.device, wide_dtype(first.dtype))
    return normalised_weights(given.expand(store.tokens.batch, -1))


def depths(store: Layers) -> list[float]:
    """Returns the depth l / (L − 1) of each layer of a store in its model: 0 for the first of L layers, 1 for the last."""
    known = store.metadata.get(STACK, "").split(", ")
    stack = known if set(store.names) <= set(known) else store.names
    return [stack.index(name) / max(len(stack) - 1, 1) for name in store.names]


def _given(store: Layers, weights: LayerWeights, names: list[str], tokens: TokenSelection) -> Tensor:
    """Returns the weights (layer,) or (batch, layer) of the layers of these names, before they are normalised."""
    if callable(weights):
        return _checked(weights(store if names == store.names else store.only(names)), store.tokens.batch, len(names))
    if not isinstance(weights, str):
        listed = _checked(weights, store.tokens.batch, len(names))
        if not bool(listed.any(-1).all()):
            raise AttentionError("layer_weights holds zeros alone.", "Give one layer a weight above zero.")
        return listed
    check_one_of("layer_weights", weights, NAMED_LAYER_WEIGHTS)
    if weights == "mean":
        return torch.ones(len(names), device="cpu")
    if weights == "late":
        depth = dict(zip(store.names, depths(store), strict=True))
        return torch.tensor([depth[name] for name in names], dtype=torch.float64, device="cpu")
    states = states_of(store, tokens, names)
    second = torch.stack([_second(store[name], states) for name in names], 1)
    return eigenvalue_weights(second, weights)


def _second(layer: LayerAttention, states: Tensor) -> Tensor:
    """Returns |λ₂| (batch,) of the mean of a layer's heads, over `states` (batch, token)."""
    states, heads = states.to(layer.device), layer.conditioned(states)
    mean = heads.head_mean(torch.full(heads.shape[:2], 1 / heads.shape[1], dtype=heads.dtype, device=heads.device))
    return second_eigenvalue(Chain(mean.scaled(columns=states), states, check=False))


def _checked(weights: Any, batch: int, layers: int) -> Tensor:
    fix = f"Give {layers} finite, non-negative numbers, one for each selected layer in the order of the model."
    try:
        found = weights if isinstance(weights, Tensor) else torch.as_tensor(weights, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        raise AttentionError(f"layer_weights is {weights!r}; weights are numbers.", fix) from None
    shaped = found.shape in ((layers,), (batch, layers))
    if not shaped or bool((found < 0).any()) or not bool(found.isfinite().all()):
        least = f", the least {float(found.min()):.3g}" if found.numel() else ""
        raise AttentionError(
            f"layer_weights gives weights of shape {tuple(found.shape)}{least}, and {layers} layers are selected.", fix
        )
    return found
