"""What every attention attribution shares: from inputs to a store, from token scores to the shape that is asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, cast, overload

import torch
from captum._utils.typing import TargetType, TensorOrTupleOfTensorsGeneric
from captum.attr import Attribution
from captum.log import log_usage  # pyright: ignore[reportAttributeAccessIssue] - NoiseTunnel looks for its wrapper
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from attnchain_interp.attribution.model_call import model_call
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

    def score_with_residual(self, store: AttentionStore) -> tuple[Tensor, Tensor]:
        """`score`, and how far it is from solving its equation: (batch,), or (batch, head) for `heads="each"`.

        Raises:
            AttentionError: the method solves no equation (`has_convergence_delta()` is false); or as `score`.
        """
        raise _no_residual(self)

    def score_part(self, store: AttentionStore, first: int) -> Tensor:
        """`score` of some examples of a batch, the first of which is number `first`; only a random score depends on it."""
        return self.score(store)

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = ...,
        additional_forward_args: Any = ...,
        output: Output = ...,
        return_convergence_delta: Literal[False] = ...,
        internal_batch_size: int | None = ...,
        show_progress: bool = ...,
    ) -> TensorOrTupleOfTensorsGeneric: ...

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = ...,
        additional_forward_args: Any = ...,
        output: Output = ...,
        *,
        return_convergence_delta: Literal[True],
        internal_batch_size: int | None = ...,
        show_progress: bool = ...,
    ) -> tuple[TensorOrTupleOfTensorsGeneric, Tensor]: ...

    @log_usage()
    def attribute(  # type: ignore[override]
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: Any = None,
        output: Output = "input",
        return_convergence_delta: bool = False,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> TensorOrTupleOfTensorsGeneric | tuple[TensorOrTupleOfTensorsGeneric, Tensor]:
        """The attribution of each input (batch first), as Captum's methods give it.

        Args:
            inputs: images (batch, channel, height, width), token numbers (batch, token), or embeddings
                (batch, token, width), which a model of token numbers is given as `inputs_embeds`; a tuple of one for a
                tuple back.
            target: accepted in every form Captum knows (number, tuple, tensor, list) and without effect; attention is not
                specific to a class.
            additional_forward_args: further positional arguments of the model.
            output: "input" for the shape of the input, each pixel with the score of its patch in every channel, each
                embedding with the score of its token in every component; "grid" for (batch, rows, columns) of patches;
                "tokens" for (batch, token) of every token.
            return_convergence_delta: also return ‖πP − π‖₁ of each example, where `has_convergence_delta()`.
            internal_batch_size: how many examples are captured and scored at a time; all when None. Of the further
                arguments, tensors as long as the batch are divided with it.
            show_progress: a progress bar over these parts (tqdm).

        Returns:
            A contiguous tensor (or a tuple of one) on the input's device; in its type when that is floating point. With
            `return_convergence_delta`, that and the residuals (batch,).

        Raises:
            AttentionError: inputs of several tensors, an output that the layout cannot give, token numbers to which noise
                was added (attribute the embeddings), a residual of a method that has none, a batch size below one, or what
                `capture` raises.
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
        if return_convergence_delta and not self.has_convergence_delta():
            raise _no_residual(self)
        extra = () if additional_forward_args is None else additional_forward_args
        extra = extra if isinstance(extra, tuple) else (extra,)
        parts = _parts(several[0], extra, internal_batch_size)
        results, residuals = [], []
        for first, part, further in tqdm(parts, f"{self.get_name()} attribution", disable=not show_progress):
            positional, named = model_call(self.forward_func, part, further)
            store = capture(self.forward_func, *positional, layers=self.layers, **named)
            with torch.no_grad():
                if return_convergence_delta:
                    scores, residual = self.score_with_residual(store)
                    residuals.append(residual)
                else:
                    scores = self.score_part(store, first)
            shaped = _shaped(scores, store.tokens, part, output)
            dtype = part.dtype if part.is_floating_point() else scores.dtype
            results.append(shaped.to(part.device, dtype).contiguous())
        result = torch.cat(results) if len(results) > 1 else results[0]
        given = cast("TensorOrTupleOfTensorsGeneric", (result,) if is_tuple else result)
        return (given, torch.cat(residuals).to(result.device)) if return_convergence_delta else given

    def chain(self, store: AttentionStore) -> Chain:
        """The chain that this method reads: (batch, token, token)."""
        return store.chain(self.layers, self.heads, self.tokens, self.direction)


def _no_residual(method: AttentionAttribution) -> AttentionError:
    return AttentionError(
        f"{type(method).__name__} as it is set up solves no equation, so there is no residual to return; leave"
        ' return_convergence_delta out. TokenRank has one, ‖πP − π‖₁, under every causal policy but "absorb".'
    )


def _parts(inputs: Tensor, extra: tuple[Any, ...], size: int | None) -> list[tuple[int, Tensor, tuple[Any, ...]]]:
    """Of every `size` examples: the number of the first, the inputs, and the further arguments."""
    if size is None:
        return [(0, inputs, extra)]
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise AttentionError(f"internal_batch_size is {size!r}; it is how many examples are taken at a time: 1, 2, …")
    batch = len(inputs)

    def part(argument: Any, first: int) -> Any:
        divides = isinstance(argument, Tensor) and argument.ndim > 0 and len(argument) == batch
        return argument[first : first + size] if divides else argument

    return [
        (first, inputs[first : first + size], tuple(part(argument, first) for argument in extra))
        for first in range(0, max(batch, 1), size)
    ]


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
    if inputs.ndim == 3 and inputs.shape[:2] == scores.shape:
        return scores[..., None].expand_as(inputs)
    raise AttentionError(
        f"scores of {tuple(scores.shape)} tokens cannot take the shape {tuple(inputs.shape)} of the input; ask for"
        ' output="tokens".'
    )
