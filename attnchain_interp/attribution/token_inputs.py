"""The tokens of an input as a model reads them: its embeddings of token numbers, and the patches of an image."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from attnchain_interp.attribution.model_call import Call
from attnchain_interp.attribution.token_attribution import check_places
from attnchain_interp.capture import WrapperAdapter, adapter_of, of_this_thread, uncompiled
from attnchain_interp.capture.reading import checked
from attnchain_interp.capture.source import forward_of, module_of
from attnchain_interp.errors import AttentionError
from attnchain_interp.store import AttentionStore, Role

_ROWS: Final = 4096


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


def embedding_of(model: nn.Module) -> nn.Module:
    """Returns the module that turns token numbers into embeddings."""
    embedding: Any = getattr(model, "get_input_embeddings", lambda: None)()
    if not isinstance(embedding, nn.Module):
        raise AttentionError(
            f"{type(model).__name__} has no get_input_embeddings, so the embeddings of its tokens are not known.",
            "Pass the embeddings (batch, token, width) as inputs, where the model takes them.",
        )
    return embedding


def changed_embeddings(model: nn.Module, change: Callable[[Tensor], Tensor]) -> RemovableHandle:
    """Lets a function change a model's embeddings (batch, token, width) of tokens, in this thread. The handle is a context."""
    return embedding_of(model).register_forward_hook(of_this_thread(lambda _, __, output: change(output)))


def own_call(model: nn.Module, call: Call) -> Call:
    """Returns a call of the model alone: further arguments by their names, without the options of a capture."""
    options = dict(call.options or {})
    arguments = checked(options.pop("reading", None)).arguments
    names = list(inspect.signature(forward_of(model) or model.forward).parameters)[2:]
    by_place = dict(zip(names, call.extra, strict=False))
    return call._replace(extra=(), options={**options, **arguments, **by_place})


def called(model: nn.Module, call: Call, inputs: Tensor, **changed: Any) -> Any:
    """Returns the output of the model for inputs in the place of those of one example: a row for each.

    Args:
        call: of `own_call`. Its arguments are repeated for each row.
        inputs: (row, …).
        changed: other values of arguments, with a row for each.
    """

    def repeated(value: Any) -> Any:
        of_example = isinstance(value, Tensor) and value.ndim > 0 and len(value) == 1
        return value.expand(len(inputs), *value.shape[1:]) if of_example else value

    named = {name: repeated(value) for name, value in (call.options or {}).items()} | changed
    positional, named = call._replace(inputs=inputs, options=named).arguments(model)
    return model(*positional, **named)


@torch.no_grad()
def mean_embedding(embedding: nn.Module, device: torch.device) -> Tensor:
    """Returns the mean embedding (width,) of a vocabulary.

    Args:
        embedding: the module. Its weights may be offloaded, on no device.
        device: where the token numbers of an input lie.
    """
    weight: Any = embedding.weight
    parts = torch.arange(len(weight), device=device).split(_ROWS)
    return torch.stack([embedding(part[None])[0].sum(0) for part in parts]).sum(0) / len(weight)


def by_token(attributions: Tensor, store: AttentionStore) -> Tensor:
    """Returns the sums (batch, token) of attributions over the embedding of each token, or over the pixels of each patch.

    Args:
        attributions: (batch, token, width), or (batch, channel, height, width).
        store: of the same call.
    """
    tokens = store.tokens
    if attributions.ndim == 4 and tokens.grid is not None:
        check_places(store.metadata, attributions)
        pixels = attributions.shape[-2] * attributions.shape[-1] / (tokens.grid[0] * tokens.grid[1])
        scores = attributions.new_zeros(tokens.roles.shape)
        cells = F.adaptive_avg_pool2d(attributions.sum(1), tokens.grid) * pixels
        scores[:, (tokens.roles[0] == Role.PATCH).to(scores.device)] = cells.flatten(1)
        return scores
    if attributions.ndim != 3 or attributions.shape[:2] != tokens.roles.shape:
        raise AttentionError(
            f"the inputs are {tuple(attributions.shape)}, and the model's tokens are {tokens.described}.",
            "Use a model whose tokens are the patches of one image, or those of one text.",
        )
    return attributions.sum(-1) * tokens.mask.to(attributions.device)
