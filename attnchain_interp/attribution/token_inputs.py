"""The tokens of an input as a model reads them: its embeddings of token numbers, and the patches of an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from attnchain_interp.capture import WrapperAdapter, adapter_of, uncompiled
from attnchain_interp.capture.source import module_of
from attnchain_interp.errors import AttentionError
from attnchain_interp.store import Role, TokenLayout


def module_inside(source: Any) -> nn.Module:
    """Returns the module that a source is, is a method of, or wraps.

    Raises:
        AttentionError: a source without a module.
    """
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
    """Returns the module that turns token numbers into embeddings.

    Raises:
        AttentionError: the model does not say which one it is.
    """
    embedding: Any = getattr(model, "get_input_embeddings", lambda: None)()
    if not isinstance(embedding, nn.Module):
        raise AttentionError(
            f"{type(model).__name__} has no get_input_embeddings, so the embeddings of its tokens are not known.",
            "Pass the embeddings (batch, token, width) as inputs, where the model takes them.",
        )
    return embedding


@contextmanager
def changed_embeddings(model: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Lets a function change the embeddings (batch, token, width) of a model's tokens while open."""

    def changed(_: nn.Module, __: Any, output: Any) -> Tensor:
        return change(output)

    handle = embedding_of(model).register_forward_hook(changed)
    try:
        yield
    finally:
        handle.remove()


def on_patches(tokens: TokenLayout, cells: Tensor) -> Tensor:
    """Returns scores (batch, token): those of a grid (batch, rows, columns) at the patches, and zero at the other tokens."""
    scores = cells.new_zeros(tokens.roles.shape)
    scores[:, (tokens.roles[0] == Role.PATCH).to(cells.device)] = cells.flatten(1)
    return scores
