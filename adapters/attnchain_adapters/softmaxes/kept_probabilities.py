"""Functions of torch after which probabilities are probabilities still."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

CAST: Final = frozenset((Tensor.to, Tensor.type, Tensor.type_as, Tensor.half, Tensor.bfloat16, Tensor.float, Tensor.double))
KEPT: Final = frozenset((F.dropout, torch.dropout, Tensor.contiguous, Tensor.clone, torch.clone))  # a capture has no dropout
_JOINED: Final = frozenset((torch.cat, torch.concat, torch.concatenate, torch.stack))
_SPREAD: Final = frozenset(
    [
        *(F.pad, torch.scatter, Tensor.scatter, Tensor.scatter_, torch.scatter_add, Tensor.scatter_add, Tensor.scatter_add_),
        *(Tensor.repeat, torch.repeat_interleave, Tensor.repeat_interleave, torch.tile, Tensor.tile, torch.where),
        *(Tensor.index_put, Tensor.index_put_, Tensor.index_copy, Tensor.index_copy_, Tensor.masked_scatter),
    ]
)
_CHOSEN: Final = frozenset((torch.topk, Tensor.topk, torch.gather, Tensor.gather, torch.take_along_dim, Tensor.take_along_dim))
SHAPED: Final = frozenset(
    [
        *(Tensor.view, Tensor.reshape, torch.reshape, Tensor.flatten, torch.flatten, Tensor.unflatten, torch.unflatten),
        *(Tensor.permute, torch.permute, Tensor.transpose, torch.transpose, Tensor.swapaxes, torch.swapaxes, Tensor.movedim),
        *(Tensor.unsqueeze, torch.unsqueeze, Tensor.squeeze, torch.squeeze, Tensor.expand, Tensor.expand_as),
        *(Tensor.narrow, torch.narrow),
        *(Tensor.__getitem__, getattr(Tensor.mT, "__get__"), getattr(Tensor.T, "__get__")),  # noqa: B009
    ]
)


def still_rows(result: Tensor, marked: Tensor, function: Any, keys: int) -> bool:
    """Whether a function of probabilities can have rows of probabilities, or a part of them, that reach values later."""
    if function in SHAPED or function in _CHOSEN:
        return True
    if function in _JOINED or function in _SPREAD:
        return result.shape[-1] == marked.shape[-1] or abs(result.shape[-1] - keys) <= 1
    return result.shape[-1:] == marked.shape[-1:] and result.numel() <= marked.numel()
