"""The contexts of output tokens in a causal text: the part of a source that belongs to the tokens before each of them."""

from __future__ import annotations

from typing import Final, TypeVar

import torch
from torch import Tensor

from attnchain_interp.attribution.method import Method
from attnchain_interp.gradients import AttentionGradients, FactoredGradient
from attnchain_interp.operators import Factors
from attnchain_interp.store import AttentionStore, LayerAttention, Role, TokenLayout

Source = TypeVar("Source", AttentionStore, AttentionGradients)

_TOGETHER: Final = 2**24  # entries of one layer's maps in a batch of contexts


def contexts(source: Source, lengths: Tensor, first: int = 0) -> Source:
    """Returns the source of several contexts as a batch: example k is the first `lengths[k]` tokens, then padding.

    The maps of a causal model are those of the shorter text.

    Args:
        source: of one example, whose contexts are meant; its gradients are of one score, or of one for each context.
        lengths: (context,); one context alone where the source holds factors.
        first: the number of the first context's gradients, where there are several.
    """
    stop = int(lengths.max())
    part, some = slice(0, stop), slice(first, first + len(lengths))

    def of_contexts(each: Tensor) -> Tensor:
        return each.expand(len(lengths), *each.shape[1:]) if len(each) == 1 else each[some]

    def cut(attention: Tensor | Factors) -> Tensor | Factors:
        return attention.among(part) if isinstance(attention, Factors) else of_contexts(attention)[:, :, part, part]

    if isinstance(source, AttentionGradients):
        gradients = [
            FactoredGradient(of_contexts(each.outputs)[:, :, part], each.values[:, :, part])
            if isinstance(each, FactoredGradient)
            else of_contexts(each)[:, :, part, part]
            for each in source.gradients
        ]
        return AttentionGradients(contexts(source.store, lengths, first), gradients)
    norms = [None if each.value_norms is None else of_contexts(each.value_norms)[:, :, part] for each in source]
    layers = [LayerAttention(each.name, cut(each.attention), each.sink, n) for each, n in zip(source, norms, strict=True)]
    roles = of_contexts(source.tokens.roles)[:, part]
    there = torch.arange(stop, device=roles.device) < lengths[:, None].to(roles.device)
    found = AttentionStore(layers, TokenLayout(torch.where(there, roles, int(Role.PAD))), source.metadata)
    found.causal = source.causal  # a part of causal maps is causal, and the proof of a whole batch takes as long as its chain
    return found


def together(method: Method, store: AttentionStore) -> int:
    """Returns how many contexts of a text the method scores as one batch. Maps of that many contexts have a bounded size."""
    if not method.allows_padding or any(isinstance(layer.attention, Factors) for layer in store):
        return 1
    return max(1, _TOGETHER // max(layer.heads * len(store.tokens) ** 2 for layer in store))
