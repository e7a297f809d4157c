"""What every attention attribution shares: from inputs to a store, from token scores to the shape that is asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, cast

import torch
from captum._utils.typing import TargetType, TensorOrTupleOfTensorsGeneric
from captum.attr import Attribution
from captum.log import log_usage  # pyright: ignore[reportAttributeAccessIssue] - NoiseTunnel looks for its wrapper
from torch import Tensor
from torch.nn import functional as F

from attnchain_interp.capturing import capture
from attnchain_interp.chain import Chain
from attnchain_interp.errors import AttentionError
from attnchain_interp.layers import LayerSelection
from attnchain_interp.store import AttentionStore, Direction
from attnchain_interp.tokens import TokenLayout, TokenSelection
from attnchain_interp.weighting import Heads

Output = Literal["input", "grid", "tokens"]


class AttentionAttribution(Attribution, ABC):
    """A Captum attribution method whose scores come from attention alone.

    It answers "which tokens does the model attend to", not "which tokens speak for this class": `target` is accepted
    for Captum's sake and does not change the result.

    Args:
        forward_func: a model that an adapter recognises, or a callable inputs → `AttentionStore`. Left as it was.
            None where only `score` is used.
        layers: which layers ("all", a number, a slice, a name, a list); the maps of several are averaged.
        heads: how the heads of a layer are weighted, as in `head_weights`; or "each", to score every head by itself
            (with `output="tokens"` or `"grid"`).
        tokens: the states of the chain, as in `TokenLayout.select`; None means the patches of an image, else everything
            but padding. The other tokens score 0.
        direction: "incoming" (mass gathers where attention goes) or "outgoing" (the reversed chain).
    """

    layers: LayerSelection
    heads: Heads
    tokens: TokenSelection
    direction: Direction

    def __init__(
        self,
        forward_func: Any = None,
        layers: LayerSelection = "all",
        heads: Heads = "mean",
        tokens: TokenSelection = None,
        direction: Direction = "incoming",
    ) -> None:
        super().__init__(forward_func)
        self.layers, self.heads, self.tokens, self.direction = layers, heads, tokens, direction

    @abstractmethod
    def score(self, store: AttentionStore) -> Tensor:
        """One score per token, without a model: (batch, token), or (batch, head, token) for `heads="each"`.

        Raises:
            AttentionError: the store lacks a layer, head or token that the method needs.
        """

    @log_usage()
    def attribute(  # type: ignore[override]
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: Any = None,
        output: Output = "input",
    ) -> TensorOrTupleOfTensorsGeneric:
        """The attribution of each input (batch first), as Captum's methods give it.

        Args:
            inputs: images (batch, channel, height, width) or token numbers (batch, token); a tuple of one for a tuple
                back.
            target: accepted and without effect; attention is not specific to a class.
            additional_forward_args: further positional arguments of the model.
            output: "input" for the shape of the input, each pixel with the score of its patch in every channel;
                "grid" for (batch, rows, columns) of patches; "tokens" for (batch, token) of every token.

        Returns:
            A contiguous tensor (or a tuple of one) on the input's device; in its type when that is floating point.

        Raises:
            AttentionError: inputs of several tensors, an output that the layout cannot give, or what `capture` raises.
        """
        is_tuple = isinstance(inputs, tuple)
        several = cast("tuple[Tensor, ...]", inputs if is_tuple else (inputs,))
        if len(several) != 1 or not isinstance(several[0], Tensor):
            raise AttentionError(
                f"inputs holds {len(several)} items; attention gives one score per token of one input tensor. Pass the"
                " others through additional_forward_args."
            )
        if output not in ("input", "grid", "tokens"):
            raise AttentionError(f'output={output!r} is unknown; use "input", "grid" or "tokens".')
        extra = () if additional_forward_args is None else additional_forward_args
        extra = extra if isinstance(extra, tuple) else (extra,)
        store = capture(self.forward_func, *several, *extra, layers=self.layers)
        with torch.no_grad():
            scores = self.score(store)
        shaped = _shaped(scores, store.tokens, several[0], output)
        dtype = several[0].dtype if several[0].is_floating_point() else scores.dtype
        result = shaped.to(several[0].device, dtype).contiguous()
        return cast("TensorOrTupleOfTensorsGeneric", (result,) if is_tuple else result)

    def chain(self, store: AttentionStore) -> Chain:
        """The chain that this method reads: (batch, token, token)."""
        return store.chain(self.layers, self.heads, self.tokens, self.direction)


def _shaped(scores: Tensor, tokens: TokenLayout, inputs: Tensor, output: Output) -> Tensor:
    if output == "tokens":
        return scores
    if output == "grid":
        return tokens.to_grid(scores)
    if scores.ndim != 2:
        raise AttentionError('heads="each" has no shape like the input; ask for output="grid" or "tokens".')
    if inputs.ndim == 4:
        grid = tokens.to_grid(scores)[:, None]
        return F.interpolate(grid, inputs.shape[-2:], mode="nearest").expand_as(inputs)
    if inputs.shape == scores.shape:
        return scores
    raise AttentionError(
        f"scores of {tuple(scores.shape)} tokens cannot take the shape {tuple(inputs.shape)} of the input; ask for"
        ' output="tokens".'
    )
