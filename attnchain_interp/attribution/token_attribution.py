"""The contract of every method: one input tensor in, token scores in the shape of `output` out."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal, NamedTuple, Self, cast, get_args, overload

import torch
from captum._utils.typing import TensorOrTupleOfTensorsGeneric
from captum.attr import Attribution
from captum.log import log_usage  # pyright: ignore[reportAttributeAccessIssue] - NoiseTunnel looks for its wrapper
from torch import Tensor
from tqdm.auto import tqdm

from attnchain_interp.attribution.method import Method
from attnchain_interp.attribution.model_call import Call, one_tensor, parts_of
from attnchain_interp.attribution.text.result import TextAttributionResult
from attnchain_interp.attribution.text.spelling import Spans
from attnchain_interp.attribution.text.text_attribution import TextAttribution
from attnchain_interp.attribution.text.text_ids import Text
from attnchain_interp.capture.reading import Reading, checked
from attnchain_interp.checks import check_one_of, check_tensor, check_type, check_whole_number
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients.differentiable_maps import without_inference
from attnchain_interp.gradients.target import Target, plain_target
from attnchain_interp.operators import full_precision
from attnchain_interp.reprs import with_settings
from attnchain_interp.store import TokenLayout
from attnchain_interp.store.patches_on_pixels import check_same_image, on_pixels

Output = Literal["input", "grid", "tokens"]

_OF_EXAMPLES: Final = ("start", "personalization", "tokens", "layer_weights")  # settings that may be of each example
_SCORING: Final = {"score", "score_part", "score_with_residual", "scores", "relevance"}


class Scored(NamedTuple):
    """Scores (batch, token) or (batch, head, token), the layout of the tokens, a residual or None, the store's metadata."""

    scores: Tensor
    tokens: TokenLayout
    residual: Tensor | None = None
    metadata: Mapping[str, str] = {}


class TokenAttribution(Method, ABC):
    """A Captum attribution method that gives one score per token of one input.

    A subclass defines `read`, from a call to a source, and `scores`, from a source to scores, unless `read` finds the
    scores. The methods of a subclass that score run in `full_precision`; `read` runs the model as its user does.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in _SCORING & vars(cls).keys():
            setattr(cls, name, full_precision()(vars(cls)[name]))

    def __repr__(self) -> str:
        return with_settings(self)

    def scores(self, source: Any, first: int = 0) -> Tensor:
        """Returns the scores of a source: those that `read` has found, if the subclass has no other way."""
        if hasattr(source, "scores"):
            return source.scores
        cause = f"{type(self).__name__} has no scores(source, first), and the source that its read returned has no scores."
        raise AttentionError(cause, "Define scores(self, source, first=0), which returns a tensor (batch, token).")

    def scored(self, call: Call, with_residual: bool) -> Scored:
        """Returns the scores of some examples. `with_residual` is true only where `has_convergence_delta()` is."""
        source = self.read(call)
        with torch.no_grad():
            metadata = getattr(getattr(source, "store", source), "metadata", {})
            return Scored(self.scores(source, call.first), source.tokens, metadata=metadata)

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: Target = ...,
        additional_forward_args: Any = ...,
        *,
        output: Output = ...,
        return_convergence_delta: Literal[False] = ...,
        internal_batch_size: int | None = ...,
        show_progress: bool = ...,
        model_kwargs: Mapping[str, Any] | None = ...,
        reading: Reading | None = ...,
    ) -> TensorOrTupleOfTensorsGeneric: ...

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: Target = ...,
        additional_forward_args: Any = ...,
        *,
        output: Output = ...,
        return_convergence_delta: Literal[True],
        internal_batch_size: int | None = ...,
        show_progress: bool = ...,
        model_kwargs: Mapping[str, Any] | None = ...,
        reading: Reading | None = ...,
    ) -> tuple[TensorOrTupleOfTensorsGeneric, Tensor]: ...

    @log_usage()
    def attribute(  # type: ignore[override]
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: Target = None,
        additional_forward_args: Any = None,
        *,
        output: Output = "input",
        return_convergence_delta: bool = False,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
        model_kwargs: Mapping[str, Any] | None = None,
        reading: Reading | None = None,
    ) -> TensorOrTupleOfTensorsGeneric | tuple[TensorOrTupleOfTensorsGeneric, Tensor]:
        """Returns the attribution of each input (batch first), as Captum's methods do.

        Args:
            inputs: images (batch, channel, height, width), token ids (batch, token), or embeddings (batch, token, width). A
                model of token ids gets embeddings as `inputs_embeds`. A tuple of one tensor gives a tuple back.
            target: the output that a class-specific method explains: an int, a tuple, a tensor or a list, as in Captum; see
                `capture_gradients`. It has no effect on a method that reads attention alone.
            additional_forward_args: further positional arguments of the model.
            output: "input" for the shape of the input, where a pixel has the score of its patch in every channel (0 where the
                model reads no patch), and an embedding has the score of its token in every component; "grid" for (batch,
                rows, columns) of patches; "tokens" for (batch, token) of every token.
            return_convergence_delta: also return ‖πP' − π‖₁ of each example, where `has_convergence_delta()`.
            internal_batch_size: how many examples are captured and scored at a time; all when None. Tensors and lists as long
                as the batch, among the target and the further arguments, are divided with it, and so are `reading.tokens` and
                a `start`, `personalization`, `tokens` or `layer_weights` of each example.
            show_progress: show a progress bar over these parts (tqdm).
            model_kwargs: keyword arguments of the model: {"attention_mask": mask}, {"interpolate_pos_encoding": True}.
            reading: says which attention is meant, and how its tokens are laid out. See `Reading`.

        Returns:
            A contiguous tensor (or a tuple of one) on the input's device, in the input's type where that is floating point.
            With `return_convergence_delta`, that and the residuals (batch,).

        Raises:
            AttentionError: several input tensors, or none; an output that the layout cannot give, token ids with noise added
                (attribute the embeddings), a residual of a method without one, a batch size below one, or the errors of
                `capture` or `capture_gradients`.
        """
        tensor = one_tensor(inputs)
        check_one_of("output", output, get_args(Output))
        if internal_batch_size is not None:
            check_whole_number("internal_batch_size", internal_batch_size, "how many examples are taken at a time")
        if return_convergence_delta and not self.has_convergence_delta():
            raise no_residual(self)
        extra = () if additional_forward_args is None else additional_forward_args
        if model_kwargs is not None:
            check_type("model_kwargs", model_kwargs, Mapping, 'Pass a dict, such as {"attention_mask": mask}.')
        reading = checked(reading)
        arguments = without_inference({**reading.arguments, **(model_kwargs or {})})
        options = {"reading": replace(reading, arguments=arguments)}
        extra = without_inference(extra if isinstance(extra, tuple) else (extra,))
        whole = Call(without_inference(tensor), plain_target(target), extra, 0, options)
        results, residuals, parts = [], [], list(parts_of(whole, internal_batch_size))
        for call in tqdm(parts, f"{self.get_name()} attribution", disable=not show_progress):
            method = self if len(parts) == 1 else self._of_examples(call, len(tensor))
            scored = method.scored(call, return_convergence_delta)
            shaped = _shaped(scored, call.inputs, output)
            dtype = call.inputs.dtype if call.inputs.is_floating_point() else scored.scores.dtype
            results.append(shaped.to(call.inputs.device, dtype).contiguous())
            residuals.append(scored.residual)
        result = torch.cat(results) if len(results) > 1 else results[0]
        given = cast("TensorOrTupleOfTensorsGeneric", (result,) if isinstance(inputs, tuple) else result)
        return (given, torch.cat(residuals).to(result.device)) if return_convergence_delta else given

    def _of_examples(self, call: Call, batch: int) -> Self:
        """Returns a copy whose settings (batch, token) or (batch, layer) are those of some examples."""
        part = slice(call.first, call.first + len(call.inputs))
        several = ((name, getattr(self, name, None)) for name in _OF_EXAMPLES)
        own = {name: of[part] for name, of in several if isinstance(of, Tensor) and of.ndim == 2 and len(of) == batch}
        return self.changed(**own) if own else self

    def attribute_text(
        self,
        text: Text,
        target: Target | str = None,
        tokenizer: Any = None,
        *,
        max_new_tokens: int = 25,
        internal_batch_size: int | None = None,
        add_special_tokens: bool | None = None,
        show_progress: bool = False,
        features: Spans | None = None,
    ) -> TextAttributionResult:
        """Returns the scores of a text's tokens: `TextAttribution(self, tokenizer).attribute(text, target, …)`.

        Args:
            text: the `inp` of `TextAttribution.attribute`.
            target, internal_batch_size, add_special_tokens, show_progress: see `TextAttribution.attribute`.
            tokenizer: see `TextAttribution`.
            max_new_tokens: how many tokens are generated at most, where the target is None.
            features: "word", "sentence", "passage" or parts of the text, over which scores are summed. None: over none.

        Raises:
            AttentionError: see `TextAttribution` and `TextAttributionResult.grouped`.
        """
        options: dict[str, Any] = {"internal_batch_size": internal_batch_size, "add_special_tokens": add_special_tokens}
        options |= {"gen_args": {"max_new_tokens": max_new_tokens}, "show_progress": show_progress}
        found = TextAttribution(self, tokenizer).attribute(text, target, **options)
        return found if features is None else found.grouped(features)


def no_residual(method: Attribution) -> AttentionError:
    """Returns the error of a method that solves no equation."""
    return AttentionError(
        f"{type(method).__name__} as it is set up solves no equation, so there is no residual to return.",
        'Leave return_convergence_delta out. TokenRank has one under every causal policy but "absorb".',
    )


def _shaped(scored: Scored, inputs: Tensor, output: Output) -> Tensor:
    scores, tokens = scored.scores, scored.tokens
    check_tensor("scores", scores, "(batch, token), or (batch, head, token)")
    if scores.ndim not in (2, 3) or scores.shape[-1] != len(tokens):
        raise AttentionError(f"scores is {tuple(scores.shape)}; it must be (batch, {len(tokens)}).", "Score each token once.")
    if output != "input":
        return scores if output == "tokens" else tokens.to_grid(scores)
    if (of := scored.metadata.get("input")) is not None:
        raise AttentionError(f"the scores are of the tokens of the {of}, and inputs are others.", 'Ask for output="tokens".')
    if scores.ndim == 2 and scores.numel() == inputs.numel() and scores.shape[-1] == inputs.shape[-1]:
        return scores.reshape(inputs.shape)  # several texts of an example are folded
    if len(scores) != len(inputs):
        raise AttentionError(
            f"the model read {len(scores)} examples of a batch of {len(inputs)}.",
            'Ask for output="grid" or output="tokens", which have them in the order of the model.',
        )
    if inputs.ndim == 4 and scores.ndim == 2:
        check_same_image(scored.metadata, inputs)
        size = (inputs.shape[2], inputs.shape[3])
        return on_pixels(tokens.to_grid(scores), scored.metadata, size)[:, None].expand_as(inputs)
    if inputs.ndim == 3 and inputs.shape[:2] == scores.shape:
        return scores[..., None].expand_as(inputs)
    cause = f"scores of {tuple(scores.shape)} tokens cannot take the shape {tuple(inputs.shape)} of the input."
    raise AttentionError(cause, 'Ask for output="tokens", or of an image for output="grid".')
