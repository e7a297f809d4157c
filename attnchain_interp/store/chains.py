"""The chain of a store: heads restricted to the chosen tokens, weighted, averaged over layers, reversed, balanced."""

from __future__ import annotations

from typing import Literal

from attnchain_interp.chain import Chain
from attnchain_interp.chain.transformations import balanced_by, reversed_over
from attnchain_interp.checks import check_one_of
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import Operator
from attnchain_interp.operators.composed import total
from attnchain_interp.store.head_weights import NAMED_WEIGHTS, Heads, check_heads, weights_in_layer
from attnchain_interp.store.layer_selection import LayerSelection, in_order
from attnchain_interp.store.layer_weights import LayerWeights, layer_weights
from attnchain_interp.store.layers import Layers, no_chain
from attnchain_interp.store.sinks import states_of
from attnchain_interp.store.tokens import TokenSelection

Direction = Literal["incoming", "outgoing"]
Sink = Literal["drop", "absorb"]


def chain_of(
    store: Layers,
    layers: LayerSelection,
    heads: Heads,
    tokens: TokenSelection,
    direction: Direction,
    sink: Sink,
    balanced: bool | float,
    weights: LayerWeights,
) -> Chain:
    """Returns `AttentionStore.chain`."""
    check_one_of("direction", direction, ("incoming", "outgoing"))
    check_one_of("sink", sink, ("drop", "absorb"))
    check_heads(heads)
    if isinstance(heads, str):
        check_one_of("heads", heads, (*NAMED_WEIGHTS, "each"))
    if sink == "absorb" and direction == "outgoing":
        raise AttentionError('a reversed chain renormalises its rows, so it has no sink="absorb".', 'Use "incoming".')
    if store.queries is not None:
        raise no_chain("the store", len(store.queries), len(store.tokens))
    chosen = [store[name] for name in in_order(store.names, layers)]
    if len({layer.device for layer in chosen}) > 1:
        raise AttentionError("the layers are on different devices.", "Bring them together with store.to(device).")
    each = heads == "each"
    if each and len({layer.heads for layer in chosen}) > 1:
        raise AttentionError('heads="each" needs layers with equally many heads.', "Ask for layers one by one.")
    selected = states_of(store, tokens, layers)
    states = selected.to(chosen[0].device)
    parts: list[Operator] = []
    for layer, weight in zip(chosen, layer_weights(store, weights, layers=layers, tokens=selected).unbind(1), strict=True):
        if not bool(weight.any()):
            continue
        conditioned = layer.conditioned(states)
        kept = conditioned if sink == "drop" else layer.leaving(store.tokens.mask)
        if each:
            parts.append(kept.scaled(weight[:, None, None].to(kept.dtype).expand(kept.shape[:-1])))
        else:
            inside = weights_in_layer(conditioned, layer.over_heads(states), heads)
            parts.append(kept.head_mean(inside * weight[:, None].to(inside)))
    mean = total(parts)
    if each:
        states = chosen[0].over_heads(states)
    if direction == "outgoing":
        chain = reversed_over(mean, states)
    else:
        chain = Chain(mean.scaled(columns=states), states, absorbing=sink == "absorb", check=False)
    return balanced_by(chain, balanced)
