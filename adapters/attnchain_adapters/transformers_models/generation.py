"""A generation of a transformers model: the tokens that its decoder reads, and their attention."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from attnchain_adapters.checks import arguments_of, check_text
from attnchain_adapters.transformers_models.generation_modes import check_one_text
from attnchain_adapters.transformers_models.stacks import Stack
from attnchain_adapters.transformers_models.steps import Steps
from attnchain_interp import AttentionError
from attnchain_interp.capture import of_this_thread

_OF_STRINGS: Final = ("stop_strings", "token_healing")


@final
class Generation:
    """While open, follows a call of `model.generate`: each forward of the part that writes the text.

    The layout comes from the tokens that this part read, since `generate` may cut its prompt off the text that it returns,
    repeat examples, or read embeddings. A layer that is not of this part (an encoder, a tower of images) runs once, and the
    arguments of `generate` give its layout.

    Args:
        source: the bound method.
        stack: the layers that are meant.
        inputs, kwargs: the arguments of `generate`.

    Attributes:
        steps: takes the attention of the layers.

    Raises:
        AttentionError: at once, beams, guidance, drafted tokens, or an encoder that will not run. During the generation: a
            text that is read several times from its start, tokens that are taken back, or a cache with tokens that were read
            before.
    """

    def __init__(self, source: Any, stack: Stack, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._model: Any = source.__self__
        self._stack = stack
        self._named = _by_name(source, inputs, kwargs)
        if (prompt := self._named.get("input_ids")) is not None:
            check_text(type(self._model).__name__, prompt)
        beside = self._model.config.is_encoder_decoder
        self._writes = stack.kind in ("decoder", "cross") or (stack.family.sequence == "text" and not beside)
        if self._writes:
            check_one_text(self._setting, self._instead())
        elif beside and self._named.get("encoder_outputs") is not None:
            raise AttentionError(
                "encoder_outputs=… is given to generate, so the encoder does not run.",
                f"Pass {self._main}=… instead.",
            )
        self.steps = Steps(stack.heads, stack.kind != "cross", self._writes)
        self._text: list[Tensor] = []
        self._first, self._mask, self._of_places, self._name = 0, None, False, "input_ids"
        self._depth = 0
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Generation:
        for module in self._around() if self._writes else ():
            self._handles.append(module.register_forward_pre_hook(of_this_thread(self._enter), with_kwargs=True))
            self._handles.append(module.register_forward_hook(of_this_thread(self._leave), always_call=True))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def options(self, kwargs: Mapping[str, Any], tokenizer: Any) -> Mapping[str, Any]:
        """Returns the keyword arguments of `generate`, with the tokenizer that finds strings which end a text, or heals it."""
        return kwargs if tokenizer is None or not any(map(self._setting, _OF_STRINGS)) else {**kwargs, "tokenizer": tokenizer}

    def arguments(self, output: Any) -> dict[str, Any]:
        """Returns the arguments of one forward of all that was read: of the finished text without its last token.

        Raises:
            AttentionError: the text that was read is not the text that was returned.
        """
        named = self._named if self._stack.kind == "decoder" else self._sampled()
        if not self._writes:
            return named
        text = torch.cat(self._text, 1)
        self._check_output(text, output)
        prompt = self._named.get("input_ids") if self._name == "input_ids" else None
        start = max(self._first, prompt.shape[1] if isinstance(prompt, Tensor) else 0)
        name = self._name.replace("input_ids", "attention_mask")
        mask, given = ended(text, start, self._setting("eos_token_id")), self._mask
        if given is None and self._of_places:  # the masks of a static cache are of queries and places
            given = self._sampled().get(name)
            given = self._padding(text[:, :start]) if given is None else given
        if given is not None:
            mask[:, : given.shape[1]] *= given.to(mask)
        return named | {self._name: text, name: mask}

    def _padding(self, prompt: Tensor) -> Tensor | None:
        """The mask that `generate` makes where it is given none: without the padding, unless a text also ends with it."""
        pad, ends = self._setting("pad_token_id"), self._setting("eos_token_id")
        ends = ends if isinstance(ends, list) else [ends]
        return None if pad is None or pad in ends or self._name != "input_ids" else prompt != pad

    def _sampled(self) -> dict[str, Any]:
        """The arguments of `generate`, each example as often as its attention is there: once for each text of it."""
        times, seen, main = self._setting("num_return_sequences") or 1, self.steps.batch, self._named.get(self._main)
        if times == 1 or not isinstance(main, Tensor) or seen != times * len(main):
            return self._named

        def repeated(value: Any) -> Any:
            divides = isinstance(value, Tensor) and value.ndim > 0 and len(value) == len(main)
            return value.repeat_interleave(times, 0) if divides else value

        return {name: repeated(value) for name, value in self._named.items()}

    @property
    def _main(self) -> str:
        return self._model.main_input_name

    def _around(self) -> list[nn.Module]:
        """The modules that may be called to read the text, from the whole model to the owner of the layers."""
        name = next(name for name, module in self._model.named_modules() if module is self._stack.owner)
        parts = name.split(".") if name else []
        around = [self._model.get_submodule(".".join(parts[:k])) for k in range(len(parts) + 1)]
        return [module for module in around if hasattr(module, "main_input_name")]

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._depth += 1
        if self._depth == 1:
            self._read(module, arguments_of(module, inputs, kwargs))

    def _leave(self, *_: Any) -> None:
        self._depth -= 1

    def _read(self, module: Any, given: Mapping[str, Any]) -> None:
        """Notes one forward: its tokens (batch, token), −1 where it was given embeddings, and the mask."""
        taken = inspect.signature(type(module).forward).parameters
        beside = self._stack.kind in ("decoder", "cross") and "decoder_input_ids" in taken
        prefix = "decoder_" if beside else ""
        ids: Any = given.get(f"{prefix}input_ids")
        embeddings: Any = given.get(f"{prefix}inputs_embeds")
        mask = given.get(f"{prefix}attention_mask")
        if ids is None:
            ids = torch.full(embeddings.shape[:2], -1, device=embeddings.device)
        cache = given.get("cache", given.get("past_key_values"))
        known = 0 if cache is None else int(cache.get_seq_length())
        self.steps.slides = _slides(cache)
        if known == 0 and self._text:
            self._check_again(ids)
        if known == 0:
            self.steps.restart()
            self._text = []
        self._first = self._first or ids.shape[1]
        read = sum(part.shape[1] for part in self._text)
        if known > read:
            raise AttentionError(
                f"the cache holds {known - read} tokens that were read before this generation, and their attention with them.",
                f"{self._instead()} Or generate without a cache, from the whole text.",
            )
        if known < read:
            raise AttentionError(
                f"{read - known} of the tokens that the decoder read were taken back (drafted tokens), so its steps are not"
                " those of the finished text.",
                self._instead(),
            )
        self._text.append(ids.detach().clone())
        whole = isinstance(mask, Tensor) and mask.shape == (len(ids), known + ids.shape[1])
        self._mask = mask if whole else self._mask
        self._of_places |= mask is not None and not whole
        names = inspect.signature(type(self._model).forward).parameters
        self._name = "decoder_input_ids" if beside and "decoder_input_ids" in names else "input_ids"

    def _check_again(self, ids: Tensor) -> None:
        """Lets a text be read again where all of it is: without a cache, and after Whisper has looked at the language."""
        before = torch.cat(self._text, 1)
        longer = ids.shape[0] == before.shape[0] and ids.shape[1] > before.shape[1]
        if len(self._text) > 1 or not longer or not torch.equal(ids[:, : before.shape[1]], before):
            raise AttentionError(
                f"{type(self._model).__name__}.generate begins several texts: one for each window of a long sound, or for each"
                " temperature that it falls back to.",
                "Generate for one window (at most 30 seconds of sound), without time stamps, and with one temperature.",
            )

    def _check_output(self, text: Tensor, output: Any) -> None:
        returned = output if isinstance(output, Tensor) else output["sequences"] if isinstance(output, Mapping) else None
        if returned is None or returned.shape[1] != text.shape[1] + 1:  # its prompt, or a part of it, was cut off
            return
        told = text >= 0
        if len(returned) != len(text) or not torch.equal(returned[:, :-1][told], text[told].to(returned)):
            raise AttentionError(
                "the text that the decoder read is not the text that generate returned: it was changed on the way.",
                self._instead(),
            )

    def _setting(self, name: str) -> Any:
        """The value by which `generate` goes: given to it, in the configuration given to it, or in the model's."""
        given, own = self._named.get("generation_config"), self._model.generation_config
        values = [self._named.get(name), getattr(given, name, None), getattr(own, name, None)]
        return next((value for value in values if value is not None), None)

    def _instead(self) -> str:
        """The line that reads the finished text, as the beginning of a fix."""
        arguments, text, reading = "", "text", ""
        if self._model.config.is_encoder_decoder:
            arguments, text = f"{self._main}=…, ", "decoder_input_ids=text"
            reading = f', reading=ac.Reading(kind="{self._stack.kind}")'
        whole = "force_unique_generate_call" in inspect.signature(type(self._model).generate).parameters
        given = "…, force_unique_generate_call=True" if whole else "…"  # with its prompt
        return (
            f"Capture one forward of the finished text: text = model.generate({given});"
            f" ac.capture(model, {arguments}{text}{reading})."
        )


def ended(text: Tensor, start: int, eos_token_id: Any) -> Tensor:
    """Returns (batch, token): 1 up to the end of each example, 0 after it. No example ends before `start`."""
    stops = torch.as_tensor([] if eos_token_id is None else eos_token_id, device=text.device).flatten()
    stopped = torch.isin(text, stops.to(text.dtype))
    stopped[:, :start] = False
    return (stopped.cumsum(1) - stopped.long() == 0).long()


def _by_name(source: Callable[..., Any], inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `generate`, by the names that the model's forward has for them."""
    model: Any = source.__self__  # type: ignore[attr-defined]
    named = dict(inspect.signature(type(model).generate).bind_partial(model, *inputs, **kwargs).arguments) | dict(kwargs)
    if "inputs" in named:
        named[model.main_input_name] = named.pop("inputs")
    return named


def _slides(cache: Any) -> bool:
    """Returns whether a cache keeps the newest keys alone, in some of its layers: one of transformers' own does."""
    layers = getattr(getattr(cache, "self_attention_cache", cache), "layers", ())
    own = all(type(layer).__module__.split(".")[0] == "transformers" for layer in layers)
    return own and any(getattr(layer, "is_sliding", False) for layer in layers)
