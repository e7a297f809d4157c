"""The functions of torch that operators of `torch.ops.aten` are, as exported programs call them, and the tensors they take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket
from torch.nn import functional as F

_OF_ANOTHER_NAME: Final[dict[str, Any]] = {
    "scaled_dot_product_attention": F.scaled_dot_product_attention,
    "linear": F.linear,
    "_softmax": torch.softmax,
    "_safe_softmax": torch.softmax,
    "_log_softmax": torch.log_softmax,
    "special_softmax": torch.special.softmax,
    "special_log_softmax": torch.special.log_softmax,
    "special_logsumexp": torch.special.logsumexp,
    "_to_copy": Tensor.to,
    "_unsafe_view": Tensor.view,
    "index": torch.ops.aten.index,  # torch.Tensor.index is another function
}


_OPERATORS: Final = OpOverload, OpOverloadPacket


def function_of(function: Any) -> Any:
    """Returns the function of torch that an operator of `torch.ops.aten` is, and anything else as it is.

    Their first arguments are the same.
    """
    return _found(function) if isinstance(function, _OPERATORS) else function


@cache
def _found(operator: Any) -> Any:
    packet = operator.overloadpacket if isinstance(operator, OpOverload) else operator
    space, _, name = packet._qualified_op_name.partition("::")
    if space != "aten":
        return operator
    return _OF_ANOTHER_NAME.get(name) or getattr(torch, name, None) or getattr(Tensor, name, None) or operator


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yields the tensors among some values, also those in lists, tuples and dictionaries."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping):
            yield from tensors_in(value.values())
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)
