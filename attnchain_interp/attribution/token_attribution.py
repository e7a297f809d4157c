"""What every method shares as Captum sees it: one input in, token scores in the shape that is asked for out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast, overload

import torch
from captum._utils.typing import TensorOrTupleOfTensorsGeneric
from captum.attr import Attribution
from captum.log import log_usage  # pyright: ignore[reportAttributeAccessIssue] - NoiseTunnel looks for its wrapper
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients.target import Target
from attnchain_interp.reprs import with_settings
from attnchain_interp.store.tokens import TokenLayout

if TYPE_CHECKING:
    from captum.attr import TextTokenInput

    from attnchain_interp.attribution.text.result import TextAttributionResult

Output = Literal["input", "grid", "tokens"]


class Call(NamedTuple):
    """Some examples of a batch, as the model is called with them.

    Attributes:
        inputs: the tensor that is attributed.
        target: what is explained of each.
        extra: further positional arguments of the model.
        first: the number of the first example in the whole batch.
    """

    inputs: Tensor
    target: Target
    extra: tuple[Any, ...]
    first: int


class Scored(NamedTuple):
    """Scores (batch, token), or (batch, head, token); the layout of the tokens; and a residual, where one was asked for."""

    scores: Tensor
    tokens: TokenLayout
    residual: Tensor | None = None


class TokenAttribution(Attribution, ABC):
    """A Captum attribution method that gives one score per token of one input."""

    def __repr__(self) -> str:
        return with_settings(self)

    @abstractmethod
    def scored(self, call: Call, with_residual: bool) -> Scored:
        """The scores of some examples; `with_residual` only where `has_convergence_delta()`."""

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: Target = ...,
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
        target: Target = ...,
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
        target: Target = None,
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
            target: of class-specific methods, which output is explained, as in Captum (an int, a tuple, a tensor, a list; see
                `capture_gradients`). Methods that read attention alone accept it, and it has no effect on them.
            additional_forward_args: further positional arguments of the model.
            output: "input" for the shape of the input, each pixel with the score of its patch in every channel, each
                embedding with the score of its token in every component; "grid" for (batch, rows, columns) of patches;
                "tokens" for (batch, token) of every token.
            return_convergence_delta: also return ‖πP − π‖₁ of each example, where `has_convergence_delta()`.
            internal_batch_size: how many examples are captured and scored at a time; all when None. Of target and further
                arguments, tensors and lists as long as the batch are divided with it.
            show_progress: a progress bar over these parts (tqdm).

        Returns:
            A contiguous tensor (or a tuple of one) on the input's device; in its type when that is floating point. With
            `return_convergence_delta`, that and the residuals (batch,).

        Raises:
            AttentionError: inputs of several tensors, an output that the layout cannot give, token numbers to which noise
                was added (attribute the embeddings), a residual of a method that has none, a batch size below one, or what
                `capture` (of class-specific methods, `capture_gradients`) raises.
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
            raise no_residual(self)
        extra = () if additional_forward_args is None else additional_forward_args
        whole = Call(several[0], target, extra if isinstance(extra, tuple) else (extra,), 0)
        results, residuals = [], []
        parts = list(_parts(whole, internal_batch_size))
        for call in tqdm(parts, f"{self.get_name()} attribution", disable=not show_progress):
            scores, tokens, residual = self.scored(call, return_convergence_delta)
            shaped = _shaped(scores, tokens, call.inputs, output)
            dtype = call.inputs.dtype if call.inputs.is_floating_point() else scores.dtype
            results.append(shaped.to(call.inputs.device, dtype).contiguous())
            residuals.append(residual)
        result = torch.cat(results) if len(results) > 1 else results[0]
        given = cast("TensorOrTupleOfTensorsGeneric", (result,) if is_tuple else result)
        return (given, torch.cat(residuals).to(result.device)) if return_convergence_delta else given

    def attribute_text(
        self,
        text: str | TextTokenInput,
        target: Target | str = None,
        tokenizer: Any = None,
        words: bool = False,
        max_new_tokens: int = 25,
        internal_batch_size: int = 1,
    ) -> TextAttributionResult:
        """The attribution of a text's tokens, as Captum's language-model classes return it.

        - A decoder (causal language model) goes on with the text, and each output token has a row of scores over the tokens
          before it. A method that has a `start` is started at the position that predicts the token; others score the context
          as a whole. Attention is of one forward over text and target; of class-specific methods, the gradient is that of the
          token's log-probability, with a backward for each.
        - An encoder–decoder likewise; each output token's walk goes over the encoder, and starts where the decoder's
          cross-attention goes from the position that predicts the token. TokenRank restarts there.
        - Anything else reads the text as a whole, and has one row: that of the method as it is set up.

        Args:
            text: one text, or Captum's `TextTokenInput`, whose tokenizer, `values` and `skip_tokens` are taken. Skipped tokens
                are read by the model but have no score.
            target: what the model goes on with: a string (tokenised by itself, without special tokens, and appended: at the
                border the tokens may be others than those of the whole text), token numbers, or None to let the model generate
                it, greedily. Of models that put out no text, what is explained, as in `attribute`; it has no effect on methods
                that read attention alone.
            tokenizer: of the model, for a string.
            words: add up the tokens of each word of the text; needs a fast tokenizer. Output tokens stay tokens.
            max_new_tokens: at most how many are generated.
            internal_batch_size: of class-specific methods, how many output tokens are differentiated together.

        Returns:
            A `TextAttributionResult`, with Captum's plots; on the CPU.

        Raises:
            AttentionError: several texts, an empty one, or one longer than the model's positions; a string without its
                tokenizer; a target of another kind, without tokens, or with numbers that the model has no token for; a method
                without a meaning for this kind of model; and what `attribute` raises.
        """
        from attnchain_interp.attribution.text.attributed_text import attributed_text  # which reads the methods

        return attributed_text(self, text, target, tokenizer, words, max_new_tokens, internal_batch_size)


def no_residual(method: Attribution) -> AttentionError:
    return AttentionError(
        f"{type(method).__name__} as it is set up solves no equation, so there is no residual to return; leave"
        ' return_convergence_delta out. TokenRank has one, ‖πP − π‖₁, under every causal policy but "absorb".'
    )


def _parts(whole: Call, size: int | None) -> Iterator[Call]:
    """Every `size` examples of a batch."""
    batch = len(whole.inputs)
    if size is None:
        size = max(batch, 1)
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise AttentionError(f"internal_batch_size is {size!r}; it is how many examples are taken at a time: 1, 2, …")

    def part(argument: Any, first: int) -> Any:
        divides = isinstance(argument, list) or (isinstance(argument, Tensor) and argument.ndim > 0)
        return argument[first : first + size] if divides and len(argument) == batch else argument

    for first in range(0, max(batch, 1), size):
        further = tuple(part(argument, first) for argument in whole.extra)
        yield Call(whole.inputs[first : first + size], part(whole.target, first), further, first)


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
