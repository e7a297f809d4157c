"""Attribution of texts, in the shape of Captum's `LLMAttribution`, for every kind of model that reads text."""

from __future__ import annotations

from functools import partial
from typing import Any, Final, Literal

import torch
from captum.attr import Attribution
from torch import Tensor, nn

from attnchain_interp.attribution.method import Method
from attnchain_interp.attribution.model_call import Call
from attnchain_interp.attribution.text.continuation import (
    check_length,
    check_tokens,
    decoder_start,
    generated,
    generation_options,
    given_tokens,
    output_labels,
)
from attnchain_interp.attribution.text.own import own_of_class, own_of_output
from attnchain_interp.attribution.text.prompt import Prompt, prompt_of
from attnchain_interp.attribution.text.result import TextAttributionResult
from attnchain_interp.attribution.text.rows import Rows, check_read, decoder_rows, encoder_decoder_rows, model_inputs, sinks_of
from attnchain_interp.attribution.text.spelling import spelling_of
from attnchain_interp.attribution.text.text_ids import Text
from attnchain_interp.capture import WrapperAdapter, adapter_of, uncompiled
from attnchain_interp.checks import check_type, check_whole_number
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients.target import Target

WHOLE_POLICY: Final = "the method as it is set up, over the whole text"


class TextAttribution(Attribution):
    """Scores the tokens of a prompt for each output token of a model. It wraps an attribution method of this library.

    - A decoder (causal language model) continues the prompt. Each output token has a row of scores over the tokens before it.
      A method with a start is started at the position that predicts the output token; another method scores the context as
      a whole. One forward over prompt and target serves all rows. A method of gradients differentiates the log-probability
      of each output token, by one backward for many.
    - An encoder–decoder translates the prompt. The walk of each output token goes over the encoder. It starts in the
      distribution of the decoder's cross-attention from the position that predicts the token. TokenRank also restarts there.
    - Another model reads the prompt as a whole. The result has one row: that of the method as it is set up.

    Args:
        attr_method: any method of this library, or one of your own. Its `forward_func` is the model.
        tokenizer: of the model. A prompt that is a `TextTokenInput` brings its own. When None, that of an nnsight model.

    Raises:
        AttentionError: a method without a model, or with heads="each".
    """

    def __init__(self, attr_method: Method, tokenizer: Any = None) -> None:
        example = "TextAttribution(TokenRank(model), tokenizer)"
        check_type("attr_method", attr_method, Method, f"Give a method with its model: {example}.")
        if attr_method.forward_func is None:
            raise AttentionError(
                "the method was made without a model, which attribute_text needs.", "Give the model as forward_func."
            )
        if attr_method.heads == "each":
            raise AttentionError(
                'heads="each" gives a row for every head, and a text has one for every output token.', 'Pass heads="mean".'
            )
        source = attr_method.forward_func
        if isinstance(source, str):
            raise AttentionError(
                f"forward_func is {source!r}; it must be a model.",
                f"Load the model first: AutoModelForCausalLM.from_pretrained({source!r}).",
            )
        super().__init__(source)
        self.attr_method, self.tokenizer = attr_method, tokenizer
        self.model: Any = uncompiled(source)
        self._generate: Any = getattr(self.model, "generate", None)
        adapter = adapter_of(source)
        if isinstance(adapter, WrapperAdapter):
            self.model, self._generate = adapter.module(source), partial(adapter.generate, source)
            self.tokenizer = getattr(source, "tokenizer", None) if tokenizer is None else tokenizer
        parameter = next(self.model.parameters(), None) if isinstance(self.model, nn.Module) else None
        self.device = torch.device("cpu") if parameter is None else parameter.device

    def __repr__(self) -> str:
        return f"TextAttribution({self.attr_method}, {type(self.tokenizer).__name__})"

    def attribute(  # type: ignore[override]
        self,
        inp: Text,
        target: Target | str = None,
        *,
        gen_args: dict[str, Any] | None = None,
        internal_batch_size: int | None = None,
        add_special_tokens: bool | None = None,
        show_progress: bool = False,
    ) -> TextAttributionResult:
        """Returns the scores of one prompt, on the CPU.

        Args:
            inp: one text: a string; the messages of a conversation, [{"role": "user", "content": "…"}], which the tokenizer's
                chat template puts together with the beginning of the answer (or a last message of the assistant, which goes
                on); token ids (token,) or (1, token), or what the tokenizer returns for one text; or Captum's
                `TextTokenInput`. The model reads its skipped tokens, which have no score.
            target: of a model that generates, the text after the prompt: a string, token ids, or None to let the model
                generate it. A string is tokenised by itself, without special tokens, and appended: write " Paris" where the
                prompt does not end with a space. The tokens at the border may differ from those of the
                whole text. For another model, the target of `attribute`.
            gen_args: arguments of `model.generate`, where the target is None, by their names. The defaults are greedy:
                {"max_new_tokens": 25, "do_sample": False, "num_beams": 1}.
            internal_batch_size: how many output tokens a method of gradients differentiates together. None: all of a short
                text, fewer of a long one.
            add_special_tokens: whether the tokenizer adds its special tokens to a string. None adds those that the string does
                not have already: a string from `apply_chat_template(…, tokenize=False)` begins with them.
            show_progress: show a progress bar with the time left over the output tokens of a decoder (tqdm).

        Raises:
            AttentionError: several texts, an empty text, or one longer than the positions of the model; a string without a
                tokenizer; a target of another kind, without tokens, or with ids that the model does not have; a method that
                has no meaning for this kind of model; and the errors of the method's `attribute`.
        """
        if internal_batch_size is not None:
            check_whole_number("internal_batch_size", internal_batch_size, "how many output tokens are taken at a time")
        kind = _kind(self.model)
        if not self.attr_method.is_additive and kind != "encoder":
            raise AttentionError(
                f"{type(self.attr_method).__name__} gives scores that cannot be summed over output tokens.",
                "Score a capture: score(capture(model, ids)).",
            )
        prompt = prompt_of(inp, self.tokenizer, add_special_tokens)
        check_tokens(self.model, prompt.ids, "text")
        check_length(self.model, len(prompt), "text")
        ids = prompt.ids.to(self.device)
        if kind == "encoder":
            return self._of_encoder(prompt, ids, target)
        options = generation_options(self.model, gen_args, prompt.tokenizer)
        if kind == "decoder":
            tokens, rows = self._of_decoder(prompt, ids, target, options, internal_batch_size, show_progress)
        else:
            tokens, rows = self._of_encoder_decoder(prompt, ids, target, options)
        n, scores = len(prompt), rows.scores.to(rows.probabilities.dtype)
        own = own_of_output(scores, n) if rows.from_position else None
        return TextAttributionResult(
            input_tokens=prompt.labels,
            output_tokens=output_labels(tokens, prompt.tokenizer),
            token_attr=prompt.kept(scores[:, :n]),
            output_attr=torch.cat([scores[:, n:], scores.new_zeros(len(tokens), 1)], 1) if kind == "decoder" else None,
            output_probs=rows.probabilities,
            own=None if own is None else prompt.kept(own),
            policy=rows.policy,
            inp=prompt.inp,
            sinks=prompt.kept_sinks(rows.sinks),
            spelling=prompt.spelling,
            output_spelling=spelling_of(tokens.tolist(), prompt.tokenizer),
        )

    def _of_encoder(self, prompt: Prompt, ids: Tensor, target: Any) -> TextAttributionResult:
        method = self.attr_method
        if isinstance(target, str):
            raise AttentionError(
                f"target is a string, and {type(self.model).__name__} outputs no text.",
                "Pass the index of a class, as in Captum, or (position, token) of a masked language model. Load a decoder with"
                " its language-model head.",
            )
        source = method.read(Call(model_inputs(method, self.model, ids), target))
        check_read(source.tokens, ids, self.model)
        with torch.no_grad():
            scores = method.scores(source)
            own = own_of_class(method, source, scores)
        label = _class_name(self.model, target, prompt) if method.explains_target else method.get_name()
        return TextAttributionResult(
            input_tokens=prompt.labels,
            output_tokens=[label],
            token_attr=prompt.kept(scores.cpu()),
            own=None if own is None else prompt.kept(own.cpu()),
            policy=WHOLE_POLICY,
            inp=prompt.inp,
            sinks=prompt.kept_sinks(sinks_of(source)),
            spelling=prompt.spelling,
        )

    def _of_decoder(
        self, prompt: Prompt, ids: Tensor, target: Any, options: dict[str, Any], size: int | None, progress: bool
    ) -> tuple[Tensor, Rows]:
        n = len(prompt)
        tokens = given_tokens(target, lambda text: prompt.tokenizer.encode(text, add_special_tokens=False))
        new_tokens = options["max_new_tokens"] if tokens is None else len(tokens)
        check_length(self.model, n + new_tokens - 1, "text and target")
        if tokens is None:
            tokens = generated(self._generate, ids, options)[n:]
        check_tokens(self.model, tokens, "target")
        whole = torch.cat([ids, tokens[None].to(ids)], 1)
        return tokens, decoder_rows(self.attr_method, self.model, whole, n, size, progress)

    def _of_encoder_decoder(self, prompt: Prompt, ids: Tensor, target: Any, options: dict[str, Any]) -> tuple[Tensor, Rows]:
        tokens = given_tokens(target, lambda text: prompt.tokenizer(text_target=text, add_special_tokens=False)["input_ids"])
        if tokens is None:
            check_length(self.model, options["max_new_tokens"], "target")
            sequence, first = generated(self._generate, ids, options), 1
        else:
            before = decoder_start(self.model)
            sequence, first = torch.cat([before, tokens]), len(before)
            check_length(self.model, len(sequence) - 1, "target")
        check_tokens(self.model, sequence, "target with the start of the decoder")
        return sequence[first:], encoder_decoder_rows(self.attr_method, self.model, ids, sequence[None].to(ids), first)


def _kind(model: Any) -> Literal["encoder", "decoder", "encoder-decoder"]:
    """Returns which parts of a model continue a text; "encoder" where the model only reads it."""
    if not isinstance(model, nn.Module):
        return "encoder"
    generates = getattr(model, "can_generate", lambda: False)()
    if not getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return "decoder" if generates else "encoder"
    taken = getattr(model, "main_input_name", "input_ids")
    if not generates or taken != "input_ids":
        why = "has no language-model head" if not generates else f"reads {taken}"
        raise AttentionError(
            f"{type(model).__name__} is an encoder–decoder that {why}; attribute_text needs one that reads and writes text.",
            'Score its encoder: method.score(capture(model, …, reading=ac.Reading(kind="encoder"))).',
        )
    return "encoder-decoder"


def _class_name(model: Any, target: Any, prompt: Prompt) -> str:
    """Returns the label of a target: the name of a class, or the token of a masked language model."""
    while isinstance(target, list | tuple):  # one per example, or indices of which the last is the class
        target = target[0] if isinstance(target, list) else target[-1]
    if target is None or callable(target):
        return "target"
    if getattr(model, "get_output_embeddings", lambda: None)() is not None:
        return prompt.tokenizer.convert_ids_to_tokens([int(target)])[0]
    return str(getattr(getattr(model, "config", None), "id2label", {}).get(int(target), int(target)))
