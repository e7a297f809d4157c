"""Functions that put entries at other places are known by what they do to the numbers of the places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from attnchain_adapters.torch_models.moves import moved_lengths, moves
from attnchain_adapters.torch_operators import function_of

X = torch.randn(2, 5, 7)
ORDER = torch.tensor([3, 1, 0, 4, 2])
EACH = ORDER[None, :, None].expand(2, 5, 7)


@pytest.mark.parametrize(
    ("function", "given", "lengths"),
    [
        (torch.flip, ([1],), {5}),
        (Tensor.flip, (0, 1), {2, 5}),
        (torch.fliplr, (), {5}),
        (torch.roll, (1, 1), {5}),
        (torch.roll, (5, 1), set()),
        (torch.roll, (1, 2), set()),
        (torch.index_select, (1, ORDER), {5}),
        (torch.index_select, (1, ORDER[:3]), {3}),
        (torch.index_select, (1, torch.arange(5)), set()),
        (torch.gather, (1, EACH), {5}),
        (torch.take_along_dim, (EACH, 1), {5}),
        (Tensor.__getitem__, ((slice(None), ORDER),), {5}),
        (Tensor.__getitem__, ((slice(None), ORDER.tolist()),), {5}),
        (Tensor.__getitem__, ((slice(None), ORDER.numpy()),), {5}),
        (Tensor.__getitem__, ((Ellipsis, ORDER, slice(None)),), {5}),
        (Tensor.__getitem__, (torch.tensor([1, 0]),), {2}),
        (Tensor.__getitem__, ((torch.arange(2)[:, None], ORDER),), {5}),
        (Tensor.__getitem__, ((slice(None), np.arange(5)),), set()),
        (Tensor.__getitem__, ((slice(None), [0]),), set()),
        (function_of(torch.ops.aten.index.Tensor), ([None, ORDER],), {5}),
    ],
)
def test_lengths_of_what_is_moved(function: Callable[..., Any], given: tuple[Any, ...], lengths: set[int]) -> None:
    assert moves(function, (X, *given))
    assert moved_lengths(function, (X, *given), {}) == lengths


@pytest.mark.parametrize("index", [slice(1, None), 0, (slice(None), slice(2)), None, (Ellipsis, 0), torch.ones(2).bool()])
def test_slices_and_masks_keep_the_order(index: Any) -> None:
    assert not moves(Tensor.__getitem__, (X, index))


def test_the_last_of_two_axes_may_be_tokens() -> None:
    ids = torch.arange(10).view(2, 5)
    assert moved_lengths(torch.flip, (ids, [1]), {}) == {5}
    assert moved_lengths(torch.flip, (ids,), {"dims": [0]}) == {2}


def test_the_result_of_the_model_is_left_as_it_is() -> None:
    out = torch.empty(2, 5, 7)
    torch.index_select(X, 1, ORDER, out=out)
    assert moved_lengths(torch.index_select, (X, 1, ORDER), {"out": out}) == {5}
    assert torch.equal(out, X[:, ORDER])


def test_tensors_of_other_classes_and_nested_ones_are_left_alone() -> None:
    class Other(Tensor):
        pass

    nested = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)], layout=torch.jagged)
    assert not moves(torch.flip, (X.as_subclass(Other), [1]))
    assert not moves(torch.index_select, (nested, 0, torch.tensor([1, 0])))
