"""One call of a model: the inputs, the target, and how the inputs are passed."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from torch import Tensor

from attnchain_interp.attribution.images_in_text import pixels_of_examples
from attnchain_interp.capture import WrapperAdapter, adapter_of
from attnchain_interp.capture.reading import cached_tokens, checked, without_empty_caches
from attnchain_interp.capture.source import forward_of, module_of
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients.target import Target

_CACHES: Final = ("cache", "past_key_values")  # arguments of transformers' decoders, which are never tensors


class Call(NamedTuple):
    """Some examples of a batch, as the model is called with them.

    Attributes:
        inputs: the tensor that is attributed.
        target: the score of each example that is explained.
        extra: further positional arguments of the model.
        first: the number of the first example in the whole batch.
        options: keyword arguments of the model and of the capture.
    """

    inputs: Tensor
    target: Target = None
    extra: tuple[Any, ...] = ()
    first: int = 0
    options: Mapping[str, Any] | None = None

    def arguments(self, model: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Returns the positional and keyword arguments of the call: (inputs, *extra), as in Captum, and the options.

        A model whose first argument is `input_ids` and which takes `inputs_embeds` gets a floating-point tensor (batch, token,
        width) as `inputs_embeds`. A model that takes keywords alone gets `inputs` as its first keyword. An empty cache is left
        out, since a method may call the model several times.
        """
        inputs, options = self.inputs, without_empty_caches(self.options or {})
        extra = tuple(None if cached_tokens(each) == 0 else each for each in self.extra)
        if "reading" in options:
            reading = checked(options["reading"])
            options["reading"] = replace(reading, arguments=without_empty_caches(reading.arguments))
            _check_caches((*extra, *reading.arguments.values()))
        source, adapter = model, adapter_of(model) if module_of(model) is None else None
        model = adapter.module(source) if isinstance(adapter, WrapperAdapter) else source
        forward = forward_of(model)
        if forward is None:
            return (inputs, *extra), {**options}
        parameters = list(inspect.signature(forward).parameters.values())[1:]
        names = [parameter.name for parameter in parameters]
        embedded = inputs.is_floating_point() and names[:1] == ["input_ids"]
        if embedded and (inputs.ndim != 3 or "inputs_embeds" not in names):
            fix = (
                "Noise cannot be added to token numbers (NoiseTunnel, sensitivity_max): attribute the embeddings,"
                " model.get_input_embeddings()(input_ids)."
            )
            if inputs.ndim == 4 and "pixel_values" in names:
                fix = (
                    'Pass the images beside the token numbers: attribute(input_ids, model_kwargs={"pixel_values": images},'
                    ' reading=ac.Reading(tower="vision"), output="grid").'
                )
            raise AttentionError(
                f"inputs is {inputs.dtype} of shape {tuple(inputs.shape)}; {_name(model)} takes token numbers"
                " (integers), or embeddings (batch, token, width) where it has inputs_embeds.",
                fix,
            )
        by_place = dict(zip(names[1:], extra, strict=False))
        if cached := [name for name in _CACHES if isinstance(by_place.get(name), Tensor)]:
            raise AttentionError(
                f"additional_forward_args has a tensor in the place of {cached[0]}, which is a cache, of {_name(model)}.",
                'Pass it by its name: attribute(inputs, model_kwargs={"attention_mask": …}).',
            )
        if parameters and parameters[0].kind is inspect.Parameter.VAR_KEYWORD:
            raise AttentionError(
                f"{_name(model)} takes **{names[0]} alone, so the name of the inputs is not known.",
                "Capture by name and score that: score(capture(model, input_ids=…)), or for a class-specific method"
                " score(capture_gradients(model, input_ids=…, target=…)).",
            )
        if parameters and parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
            if extra:
                raise AttentionError(
                    f"additional_forward_args holds {len(extra)}, which are passed by position, and {_name(model)} takes"
                    " keywords alone.",
                    f'Pass them by their names: attribute(inputs, model_kwargs={{"{(names[1:] or names)[0]}": …}}).',
                )
            return (), {"inputs_embeds" if embedded else names[0]: inputs, **options}
        if embedded:
            return (None, *extra) if extra or model is source else (), {"inputs_embeds": inputs, **options}
        return (inputs, *extra), {**options}


def parts_of(whole: Call, size: int | None) -> Iterator[Call]:
    """Yields every `size` examples of a batch.

    Raises:
        AttentionError: the target is a list or a tensor of another length than the batch.
    """
    batch, reading = len(whole.inputs), checked((whole.options or {}).get("reading"))
    size = max(batch, 1) if size is None else size
    if size < batch and isinstance(whole.target, list | Tensor) and len(whole.target) != batch:
        raise AttentionError(
            f"target={whole.target!r} holds {len(whole.target)}, and inputs holds {batch} examples.",
            f"Pass one target for all, or a list of one for each of the {batch} examples.",
        )

    def part(argument: Any, first: int) -> Any:
        divides = isinstance(argument, list) or (isinstance(argument, Tensor) and argument.ndim > 0)
        return argument[first : first + size] if divides and len(argument) == batch else argument

    for first in range(0, max(batch, 1), size):
        further = tuple(part(argument, first) for argument in whole.extra)
        named = {name: part(argument, first) for name, argument in reading.arguments.items()}
        named |= pixels_of_examples(reading.arguments, batch, first, size)
        if (tokens := reading.tokens) is not None:
            tokens = replace(tokens, roles=part(tokens.roles, first), labels=part(tokens.labels, first))
        options = {"reading": replace(reading, arguments=named, tokens=tokens)}
        yield Call(whole.inputs[first : first + size], part(whole.target, first), further, first, options)


def _check_caches(arguments: Iterable[Any]) -> None:
    """Refuses the cache of a decoder alone that holds tokens; an encoder is read beside the cache of its decoder."""
    for cache in arguments:
        if (tokens := cached_tokens(cache)) and not hasattr(cache, "cross_attention_cache"):
            raise AttentionError(
                f"the cache that the model is given holds {tokens} tokens, and only those of inputs have scores.",
                "Pass the whole text as inputs, without the cache.",
            )


def one_tensor(inputs: Any) -> Tensor:
    """Returns the tensor of `inputs`: itself, or the one in a tuple."""
    given = inputs[0] if isinstance(inputs, tuple) and len(inputs) == 1 else inputs
    if isinstance(given, Tensor) and given.ndim and not len(given):
        raise AttentionError("inputs holds no example.", "Pass a batch of one example or more.")
    if isinstance(given, Tensor):
        return given
    if isinstance(given, tuple):
        raise AttentionError(
            f"inputs holds {len(given)} items; attention gives one score per token of one input tensor.",
            'Pass the others through additional_forward_args, or by their names: model_kwargs={"attention_mask": …}.',
        )
    of_image = (
        "Pass a tensor, batch first. An image processor makes one of an image:"
        ' processor(images=image, return_tensors="pt").pixel_values'
    )
    examples = given if isinstance(given, list) and given else [given]
    fixes = {
        "ndarray": f"{of_image}, else torch.from_numpy(inputs).",
        "list": "Pass one tensor, batch first: attribute(torch.stack(inputs)) of tensors, attribute(torch.tensor(inputs)) of"
        " numbers.",
        "str": "Use attribute_text(text, tokenizer=…).",
    }
    if all(isinstance(each, str) for each in examples):
        fixes["list"] = "Use attribute_text(text, tokenizer=…) for each text."
    of_pil = all(type(each).__module__.startswith("PIL.") for each in examples)
    fix = (
        f"{of_image}." if of_pil else fixes.get(type(given).__name__, "Pass the tensor that the model is given, batch first.")
    )
    if isinstance(given, Mapping):
        first, *others = given
        further = f", model_kwargs={{{', '.join(f'{name!r}: inputs[{name!r}]' for name in others)}}}" if others else ""
        fix = (
            f"Pass one tensor and the others by their names: attribute(inputs[{first!r}]{further}). Where the model takes them"
            " as one: score(capture(model, inputs))."
        )
    name = type(given).__name__
    raise AttentionError(f"inputs is of type {name}, and attention gives scores to the tokens of a tensor.", fix)


def _name(model: Any) -> str:
    return type(module_of(model)).__name__
