"""The tokens of an input as a model reads them: the call of the model alone, and the tokens that attributions lie on."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn

from attnchain_interp.attribution.images_in_text import are_of_images
from attnchain_interp.attribution.model_call import Call, parts_of
from attnchain_interp.capture import WrapperAdapter, adapter_of, uncompiled
from attnchain_interp.capture.reading import checked
from attnchain_interp.capture.source import forward_of, module_of
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients.target import selected_score
from attnchain_interp.store import AttentionStore, Role
from attnchain_interp.store.patches_on_pixels import check_same_image, in_cells

_SAME: Final = 0.05  # of the greatest score: more than the rounding of 16-bit types


def module_inside(source: Any) -> nn.Module:
    """Returns the module that a source is, is a method of, or wraps."""
    source = uncompiled(source)
    module, adapter = module_of(source), adapter_of(source)
    if isinstance(adapter, WrapperAdapter):
        return adapter.module(source)
    if module is None:
        raise AttentionError(
            f"the method needs a model; got {type(source).__name__}.",
            "Pass the module itself. A callable that returns a store has no output to explain.",
        )
    return module


def tower_of(call: Call) -> str | None:
    """Returns the tower that a call reads."""
    return checked((call.options or {}).get("reading")).tower


def own_call(model: nn.Module, call: Call) -> Call:
    """Returns a call of the model alone: further arguments by their names, without the options of a capture.

    Raises:
        AttentionError: further arguments whose names the model does not tell.
    """
    options = dict(call.options or {})
    arguments = checked(options.pop("reading", None)).arguments
    parameters = list(inspect.signature(forward_of(model) or model.forward).parameters.values())[2:]
    names = [each.name for each in parameters if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    if len(call.extra) > len(names):
        raise AttentionError(
            f"additional_forward_args holds {len(call.extra)}; {type(model).__name__} names {len(names)} after its inputs.",
            'Pass them by their names: model_kwargs={"attention_mask": …}.',
        )
    by_place = dict(zip(names, call.extra, strict=False))
    return call._replace(extra=(), options={**options, **arguments, **by_place})


def called(model: nn.Module, call: Call, inputs: Tensor, **changed: Any) -> Any:
    """Returns the output of the model for inputs in the place of those of one example: a row for each.

    Args:
        call: of `own_call`. Its arguments are repeated for each row.
        inputs: (row, …).
        changed: other values of arguments, with a row for each.
    """

    def repeated(name: str, value: Any) -> Any:
        if isinstance(value, Tensor) and are_of_images(model, name):
            return value.repeat(len(inputs) // len(call.inputs), *[1] * (value.ndim - 1))
        of_example = isinstance(value, Tensor) and value.ndim > 0 and len(value) == 1
        return value.expand(len(inputs), *value.shape[1:]) if of_example else value

    named = {name: repeated(name, value) for name, value in (call.options or {}).items()} | changed
    positional, named = call._replace(inputs=inputs, options=named).arguments(model)
    return model(*positional, **named)


def examples_of(source: Any, whole: Call) -> Iterator[Call]:
    """Yields the examples of a batch, one after another, for methods that call the model for each of them alone.

    Raises:
        AttentionError: the target is a function, and its score of an example depends on the rest of the batch; or it is a list
            or a tensor of another length than the batch.
    """
    first, *rest = parts_of(whole, 1)
    yield first  # its capture refuses a model that draws random numbers
    if rest and callable(whole.target):
        _check_own_score(module_inside(source), whole, [first, *rest])
    yield from rest


def _check_own_score(model: nn.Module, whole: Call, parts: list[Call]) -> None:
    scores = list[Tensor]()
    for call in (whole, *parts):
        with torch.no_grad():
            output = called(model, own_call(model, call), call.inputs)
            scores.append(selected_score(output, whole.target, len(call.inputs)))
    if not torch.allclose(torch.cat(scores[1:]), scores[0], 0, _SAME * float(scores[0].abs().max())):
        raise AttentionError(
            "the target is a function whose score of an example depends on the other examples of the batch (it reads a row or"
            " a column of a matrix of all examples), and this method calls the model for one example at a time.",
            "Pass one example at a time, with the arguments that belong to it.",
        )


def check_own_tokens(store: AttentionStore) -> None:
    """Refuses a store of the tokens of another argument than the inputs."""
    if (of := store.metadata.get("input")) is not None:
        raise AttentionError(
            f"the attention that is read is of the tokens of the {of}, and inputs are others.",
            'Read that of the inputs; of an encoder–decoder: reading=ac.Reading(kind="encoder").',
        )


def by_token(attributions: Tensor, store: AttentionStore) -> Tensor:
    """Returns the sums (batch, token) of attributions over the embedding of each token, or over the pixels of each patch.

    Args:
        attributions: (batch, token, width), or (batch, channel, height, width).
        store: of the same call.
    """
    check_own_tokens(store)
    tokens = store.tokens
    if attributions.ndim == 4 and tokens.grid is not None:
        check_same_image(store.metadata, attributions)
        scores = attributions.new_zeros(tokens.roles.shape)
        cells = in_cells(attributions.sum(1), store.metadata, tokens.grid)
        scores[:, (tokens.roles[0] == Role.PATCH).to(scores.device)] = cells.flatten(1)
        return scores
    if attributions.ndim != 3 or attributions.shape[:2] != tokens.roles.shape:
        raise AttentionError(
            f"the inputs are {tuple(attributions.shape)}, and the model's tokens are {tokens.described}.",
            "Use a model whose tokens are the patches of one image, or those of one text.",
        )
    return attributions.sum(-1) * tokens.mask.to(attributions.device)
