"""Operators of `torch.ops.aten` are known as torch's functions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_adapters.torch_operators import function_of, tensors_in


def test_operators_are_functions_of_torch() -> None:
    aten = torch.ops.aten
    assert function_of(aten.softmax) is torch.softmax
    assert function_of(aten.softmax.int) is torch.softmax
    assert function_of(aten._softmax.default) is torch.softmax
    assert function_of(aten.scaled_dot_product_attention) is F.scaled_dot_product_attention
    assert function_of(aten.bmm.default) is torch.bmm
    assert function_of(aten.div_.Tensor) is Tensor.div_
    assert function_of(aten._unsafe_view) is Tensor.view


def test_other_functions_are_what_they_are() -> None:
    assert function_of(torch.softmax) is torch.softmax
    assert function_of(torch.ops.profiler._record_function_exit) is torch.ops.profiler._record_function_exit


def test_tensors_are_found_in_lists_tuples_and_dictionaries() -> None:
    x = torch.zeros(1)
    assert [each is x for each in tensors_in([1, (x, [x]), {"x": x}, "x"])] == [True] * 3
