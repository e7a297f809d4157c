"""The factors of products of matrices, in the torch functions that multiply them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnchain_adapters.softmaxes.einsum_labels import einsum_labels

MATRIX_PRODUCT: Final = frozenset(
    (torch.matmul, Tensor.matmul, torch.linalg.matmul, torch.bmm, Tensor.bmm, torch.mm, Tensor.mm)
)
OTHER_PRODUCT: Final = frozenset(
    [
        *(torch.baddbmm, Tensor.baddbmm, torch.addmm, Tensor.addmm, torch.addbmm, Tensor.addbmm, torch.tensordot),
        *(torch.mv, Tensor.mv, torch.addmv, Tensor.addmv, torch.inner, Tensor.inner, Tensor.__rmatmul__, torch.sparse.mm),
        *(torch.linalg.multi_dot, torch.chain_matmul, torch.linalg.vecdot),
    ]
)
PRODUCT: Final = MATRIX_PRODUCT | OTHER_PRODUCT | {torch.einsum, F.linear}


def factors(function: Any, args: Sequence[Any], given: list[Tensor]) -> Iterator[tuple[Tensor, int, Tensor | None]]:
    """Yields each factor of a product, the axis over which it is multiplied, and, of the first one, the other factor."""
    if function is torch.einsum and len(given) == 2:
        *both, out = einsum_labels(args[0], given)
        for factor, labels in zip(given, both, strict=True):
            over = [place for place, each in enumerate(labels) if each not in out and all(each in other for other in both)]
            if len(over) == 1:
                yield factor, over[0], None
    elif function is F.linear:
        if not is_learnt(given[1]) and len(given) == given[0].ndim == 2:
            yield given[0], -1, given[1].mT
    elif function is not torch.einsum:
        first, second = given[-2:]
        yield first, -1, second if function in MATRIX_PRODUCT else None
        if second.ndim > 1:
            yield second, -2, None


def by_place(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the arguments of a product, with the factors that were given by name at their places.

    >>> args, kwargs = by_place((), {"other": torch.ones(2), "input": torch.zeros(2)})
    >>> args
    (tensor([0., 0.]), tensor([1., 1.]))
    """
    named = [name for name, value in kwargs.items() if isinstance(value, Tensor) and name != "out"]
    named.sort(key=lambda name: (name == "bias", name != "input", name))
    return (*args, *(kwargs[name] for name in named)), {name: kwargs[name] for name in kwargs if name not in named}


def is_learnt(tensor: Any) -> bool:
    """Says whether a factor is a learnt weight, or a view of one. The product then makes another map, or reads a memory."""
    return isinstance(tensor, nn.Parameter) or (isinstance(tensor, Tensor) and isinstance(tensor._base, nn.Parameter))
