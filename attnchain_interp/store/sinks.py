"""Attention sinks: tokens that take attention and give nothing that tells one token from another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, final

import torch
from torch import Tensor

from attnchain_interp.checks import check_position
from attnchain_interp.errors import AttentionError
from attnchain_interp.reprs import counted
from attnchain_interp.store.interop import token_labels
from attnchain_interp.store.label_texts import label_texts
from attnchain_interp.store.layer_selection import LayerSelection
from attnchain_interp.store.layers import LayerAttention, Layers, check_store
from attnchain_interp.store.tokens import TokenLayout, TokenSelection

NO_SINKS: Final = "no-sinks"
RECEIVED: Final = 2.0  # even shares of attention, from which a token of a head may be a sink
LENGTH: Final = 0.3  # of the median value, up to which a value moves almost nothing
SHARE: Final = 0.3  # of attention, from which a token gives the same to all: ε of Gu et al.
TAKEN: Final = 1.0  # attention taken as a sink, averaged over heads and layers; a token receives 1 on average
_SHOWN: Final = 12  # lines of a repr


class Measured(NamedTuple):
    """The attributes of `Sinks` in one layer (batch, head, token), and the attention that each sink of a head takes."""

    received: Tensor
    shares: Tensor
    value_norms: Tensor
    heads: Tensor
    taken: Tensor


@final
class Sinks:
    """The sinks of a store: of each head, and of all.

    `print(sinks(store))` lists them. `~sinks(store).tokens` is a selection of tokens without them.

    Attributes:
        layout: the layout of the store's tokens.
        tokens: (batch, token) bool: the sinks. Padding is none.
        taken: (batch, token): the attention that a token takes from the others where it is a sink, averaged over heads and
            layers. A token that is a sink of no head takes 0. The attention that a token receives in all is 1 on average.
    """

    def __init__(self, layout: TokenLayout, layers: Mapping[str, Measured]) -> None:
        self.layout, self._layers = layout, dict(layers)
        self.taken = torch.stack([each.taken.mean(1) for each in layers.values()]).mean(0)
        self.tokens = self.taken > TAKEN

    @property
    def received(self) -> Tensor:
        """The attention that each token receives from the others, in even shares: (batch, layer, head, token).

        An even share is 1 / (number of tokens that a query sees). Even attention gives 1 to every token, also in a decoder,
        where tokens are seen by unequal numbers of queries.
        """
        return self._stacked("received")

    @property
    def shares(self) -> Tensor:
        """The mean attention to each token from the other tokens that see it: (batch, layer, head, token), from 0 to 1."""
        return self._stacked("shares")

    @property
    def value_norms(self) -> Tensor:
        """The length of each value as a share of the head's median: (batch, layer, head, token)."""
        return self._stacked("value_norms")

    @property
    def heads(self) -> Tensor:
        """Marks the sinks of each head: (batch, layer, head, token) bool."""
        return self._stacked("heads")

    def _stacked(self, name: str) -> Tensor:
        several = [getattr(each, name) for each in self._layers.values()]
        if len({each.shape for each in several}) > 1:
            raise AttentionError(
                f"the layers have {[each.shape[1] for each in several]} heads, so their {name} cannot be stacked.",
                "Ask for one layer at a time: sinks(store, layers=0), …",
            )
        return torch.stack(several, 1)

    def described(self, example: int = 0) -> dict[int, str]:
        """Returns by the position of each sink of an example how much attention it takes and how long its values are.

        Raises:
            AttentionError: the example does not exist.
        """
        example = check_position("example", example, self.layout.batch)
        return {position: self._told(example, position) for position in self.tokens[example].nonzero()[:, 0].tolist()}

    def lines(self, example: int = 0) -> list[str]:
        """Returns one sentence for each sink of an example: its name, and the text of `described`.

        Raises:
            AttentionError: the example does not exist.
        """
        found, names = self.described(example), token_labels(self.layout, example)
        if self.layout.labels is None:
            return [f"{names[position]} {told}" for position, told in found.items()]
        texts = [text.strip() or text or name for text, name in zip(label_texts(names), names, strict=True)]
        return [f"token {position} {texts[position]!r} {told}" for position, told in found.items()]

    def _told(self, example: int, position: int) -> str:
        where = [each.heads[example, :, position] for each in self._layers.values()]
        marked, count = sum(int(each.sum()) for each in where), sum(len(each) for each in where)
        share, length = (
            torch.cat([values[example, there, position] for values, there in zip(several, where, strict=True)]).mean()
            for several in zip(*((each.shares, each.value_norms) for each in self._layers.values()), strict=True)
        )
        return (
            f"takes {share:.0%} of attention in {marked} of {counted(count, 'head')}, and its values there are"
            f" {length:.2g} times as long as the median"
        )

    def __repr__(self) -> str:
        lines: list[str] = []
        for example in range(self.layout.batch):
            of = f"example {example}: " if self.layout.batch > 1 else ""
            lines += [f"  {of}{line}" for line in self.lines(example)]
        more = [f"  … and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        of = f"{counted(len(self._layers), 'layer')}, batch {self.layout.batch}, {counted(len(self.layout), 'token')}"
        return "\n".join([f"Sinks({of}): {len(lines) or 'none'}", *lines[:_SHOWN], *more])


def sinks(store: Layers, layers: LayerSelection = "all") -> Sinks:
    """Returns the tokens that take attention and give nothing that tells one token from another.

    A token is a sink of a head where two things hold. It receives at least twice its even share of attention from the other
    tokens. And either its value is at most 0.3 times as long as the median value of the head, so that almost nothing moves, or
    the others give it at least 0.3 of their attention on average, so that it moves the same to all. The first token of a
    decoder has a short value. A patch on which a head of a vision transformer without registers gathers takes much of the
    attention. (A sink in the softmax, `sink=` of a layer, is not a token.)

    A token is a sink of the store where it takes more attention in the heads of which it is one, averaged over all heads and
    layers, than a token receives in all. A decoder's text needs about four tokens for that.

    The thresholds are chosen on validation data. On SmolLM2 they give the first token of each prompt, and in longer texts a
    few more ("the", a lone space) that the model uses as it uses the first. On DINOv2-small they give the class token, and one
    or two patches of nearly every photograph. On MiniLM they give the class token. On the first two with random weights they
    give nothing. `received`, `shares` and `value_norms` of the result give what other thresholds need.

    Args:
        store: a store of attention from `capture`, which keeps the lengths of the values.
        layers: see `AttentionStore.select`. Tokens are sinks of these layers.

    Raises:
        AttentionError: a layer that does not exist, whose values are not known, or whose queries are other tokens.

    Source: Xiao et al., *Efficient Streaming Language Models with Attention Sinks*, ICLR 2024; Gu et al., *When Attention Sink
    Emerges in Language Models*, ICLR 2025 (the share of 0.3); Kobayashi et al., *Attention is Not Only a Weight*, EMNLP 2020
    (short values); Darcet et al., *Vision Transformers Need Registers*, ICLR 2024.

    >>> maps = torch.tensor([[1.0, 0, 0, 0], [0.9, 0.1, 0, 0], [0.9, 0, 0.1, 0], [0.9, 0, 0, 0.1]])[None, None]
    >>> layer = LayerAttention("layer.0", maps, value_norms=torch.tensor([[[0.1, 1, 1, 1]]]))
    >>> from attnchain_interp.store import AttentionStore
    >>> sinks(AttentionStore([layer], TokenLayout.text(torch.ones(1, 4))))
    Sinks(1 layer, batch 1, 4 tokens): 1
      text 0 takes 90% of attention in 1 of 1 head, and its values there are 0.1 times as long as the median
    """
    check_store(store)
    return Sinks(store.tokens, {layer.name: _measured(layer, store.tokens) for layer in store.select(layers)})


def known_sinks(store: Layers, layers: LayerSelection = "all") -> Sinks | None:
    """Returns `sinks`; None where the values are not known, or the queries are other tokens."""
    check_store(store)
    known = all(layer.value_norms is not None for layer in store.select(layers))
    return sinks(store, layers) if known and store.queries is None else None


def states_of(store: Layers, tokens: TokenSelection = None, layers: LayerSelection = "all") -> Tensor:
    """Returns the selected tokens of a store (batch, token) bool. See `TokenLayout.select`.

    Args:
        store: an `AttentionStore`.
        tokens: also "no-sinks": the default selection without the `sinks` of `layers`.
        layers: the layers that are read.

    Raises:
        AttentionError: the errors of `TokenLayout.select` and of `sinks`; an example in which all tokens are sinks.
    """
    check_store(store)
    if isinstance(tokens, str) and tokens == NO_SINKS:
        tokens = store.tokens.select(None) & ~sinks(store, layers).tokens
    return store.tokens.select(tokens)


@torch.no_grad()
def _measured(layer: LayerAttention, tokens: TokenLayout) -> Measured:
    norms, mask = _known_norms(layer), layer.over_heads(tokens.mask)
    whole = bool(tokens.mask.all())
    maps = layer.transitions() if whole else layer.unpadded(tokens.mask)
    ones = mask.to(maps.dtype)
    taken = (maps.left(ones[..., None, :])[..., 0, :] - maps.diagonal()).clamp(min=0) * ones
    if layer.causal(tokens.mask):
        even, queries = _after(ones / ones.cumsum(-1).clamp(min=1)), _after(ones)
    else:
        queries = ones.sum(-1, keepdim=True) - ones
        even = queries / ones.sum(-1, keepdim=True)
    received, shares = (taken / torch.where(total > 0, total, 1) for total in (even, queries))
    lengths = _of_median(norms.to(maps.dtype), mask)
    heads = (received >= RECEIVED) & ((lengths <= LENGTH) | (shares >= SHARE)) & mask
    kept = (received, shares, lengths, heads, taken * heads)
    return Measured(*(each.to(tokens.roles.device) for each in kept))


def _known_norms(layer: LayerAttention) -> Tensor:
    *_, queries, keys = layer.attention.shape
    if queries != keys:
        raise AttentionError(
            f"layer {layer.name!r} leads from {queries} queries to {keys} other tokens; sinks are found in self-attention.",
            "Capture the self-attention of the keys' sequence: reading=ac.Reading(kind=…).",
        )
    if layer.value_norms is None:
        raise AttentionError(
            f"the lengths of the values of layer {layer.name!r} are not known, so nothing says whether a token that takes"
            " attention gives something: the store was made of maps or of contributions, is a mean, or comes from a file of an"
            " earlier version.",
            'Use a store of attention, capture(model, …, maps="attention"), or give the lengths:'
            " ac.LayerAttention(name, maps, value_norms=…).",
        )
    return layer.value_norms


def _after(numbers: Tensor) -> Tensor:
    """Returns the sum over the later tokens (…, token), without the token itself."""
    return numbers.sum(-1, keepdim=True) - numbers.cumsum(-1)


def _of_median(norms: Tensor, mask: Tensor) -> Tensor:
    """Returns lengths (…, token) as shares of their median over the tokens in `mask`; 1 for zeros with a median of zero."""
    median = norms.masked_fill(~mask, torch.nan).nanmedian(-1, keepdim=True).values
    shares = norms / torch.where(median > 0, median, 1)
    return torch.where((median > 0) | (norms > 0), shares, 1).masked_fill(~mask, 0)
