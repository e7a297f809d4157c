"""The embeddings of a model's token numbers: the module that makes them, its mean, and its output changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import torch
from torch import Tensor, nn

from attnchain_interp.capture import of_this_thread
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import float32_or_wider

_ROWS: Final = 4096


def embedding_of(model: nn.Module, tower: str | None = None) -> nn.Module:
    """Returns the module that turns token numbers into embeddings; the encoder's in an encoder–decoder and in its encoder.

    Args:
        model: its module, or that of the tower, names it by `get_input_embeddings`, as models of transformers do.
        tower: see `Reading`.
    """
    part: Any = model
    if tower is not None:
        ends = (f".{tower}", f".{tower}_model")
        part = next((part for path, part in model.named_modules() if f".{path}".endswith(ends)), model)
    encoder = part.get_encoder() if hasattr(part, "main_input_name") and hasattr(part, "get_encoder") else part
    if getattr(getattr(part, "config", None), "is_encoder_decoder", False):
        part = encoder
    embedding, own = _input_embeddings(part), _input_embeddings(encoder)
    if own is not None and getattr(own, "weight", own) is getattr(embedding, "weight", None):
        embedding = own  # T5EncoderModel names a module that shares its weight with the one that runs
    if not isinstance(embedding, nn.Module):
        raise AttentionError(
            f"{type(part).__name__} has no get_input_embeddings of token numbers, so the embeddings of its tokens are not"
            " known.",
            "Pass the embeddings (batch, token, width) as inputs, where the model takes them; of several towers, name that of"
            ' the text: reading=ac.Reading(tower="text").',
        )
    return embedding


def _input_embeddings(part: Any) -> Any:
    if getattr(part, "main_input_name", "input_ids") == "input_ids":
        with suppress(AttributeError, NotImplementedError):
            return part.get_input_embeddings()
    return None


@contextmanager
def changed_embeddings(embedding: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Lets a function change the embeddings (batch, token, width) of tokens in one forward, in this thread, while open.

    An encoder–decoder may embed the tokens of its decoder by the same module, after those of its encoder. They stay.
    """
    ran: list[None] = []

    def changed(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        ran.append(None)
        return change(output) if len(ran) == 1 else output

    with embedding.register_forward_hook(of_this_thread(changed)):
        yield
    if not ran:
        raise AttentionError(
            f"the model ran no {type(embedding).__name__} of its get_input_embeddings in the thread that called it, so no"
            " embedding was changed.",
            "Pass the module that other threads run (model.module of nn.DataParallel), or a model that embeds its inputs so.",
        )


@torch.no_grad()
def mean_embedding(embedding: nn.Module, device: torch.device) -> Tensor:
    """Returns the mean embedding (width,) of a vocabulary, summed in float32 at least.

    Args:
        embedding: the module. Its weights may be offloaded, on no device.
        device: where the token numbers of an input lie.
    """
    weight: Any = embedding.weight
    parts = (embedding(part) for part in torch.arange(len(weight), device=device)[None].split(_ROWS, 1))
    sums = torch.cat([float32_or_wider(part).sum(1) for part in parts])
    return (sums.sum(0) / len(weight)).to(weight.dtype)
