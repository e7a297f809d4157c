"""What every method shares as Captum sees it: one input in, token scores in the shape that is asked for out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, cast

from captum._utils.typing import TensorOrTupleOfTensorsGeneric
from captum.attr import Attribution
from captum.log import log_usage  # pyright: ignore[reportAttributeAccessIssue] - NoiseTunnel looks for its wrapper
from torch import Tensor
from torch.nn import functional as F

from attnchain_interp.attribution.target import Target
from attnchain_interp.errors import AttentionError
from attnchain_interp.tokens import TokenLayout

Output = Literal["input", "grid", "tokens"]


class TokenAttribution(Attribution, ABC):
    """A Captum attribution method that gives one score per token of one input."""

    @abstractmethod
    def scores(self, inputs: Tensor, target: Target, additional_forward_args: tuple[Any, ...]) -> tuple[Tensor, TokenLayout]:
        """Scores (batch, token), or (batch, head, token), and the layout of the tokens."""

    @log_usage()
    def attribute(  # type: ignore[override]
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: Target = None,
        additional_forward_args: Any = None,
        output: Output = "input",
    ) -> TensorOrTupleOfTensorsGeneric:
        """The attribution of each input (batch first), as Captum's methods give it.

        Args:
            inputs: images (batch, channel, height, width) or token numbers (batch, token); a tuple of one for a tuple
                back.
            target: of class-specific methods, which output is explained, as in Captum (an int, a tuple, a tensor, a list; see
                `capture_gradients`). Methods that read attention alone accept it, and it has no effect on them.
            additional_forward_args: further positional arguments of the model.
            output: "input" for the shape of the input, each pixel with the score of its patch in every channel;
                "grid" for (batch, rows, columns) of patches; "tokens" for (batch, token) of every token.

        Returns:
            A contiguous tensor (or a tuple of one) on the input's device; in its type when that is floating point.

        Raises:
            AttentionError: inputs of several tensors, an output that the layout cannot give, or what `capture` (of
                class-specific methods, `capture_gradients`) raises.
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
        scores, tokens = self.scores(several[0], target, extra if isinstance(extra, tuple) else (extra,))
        shaped = _shaped(scores, tokens, several[0], output)
        dtype = several[0].dtype if several[0].is_floating_point() else scores.dtype
        result = shaped.to(several[0].device, dtype).contiguous()
        return cast("TensorOrTupleOfTensorsGeneric", (result,) if is_tuple else result)


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
