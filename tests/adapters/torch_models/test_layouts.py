"""Layouts of text and images, and calls whose tokens cannot be the model's."""

import pytest
import torch
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_adapters.torch_models.layouts import check_tokens, image_layout, text_layout


@pytest.mark.parametrize(
    ("shape", "batch_first", "sizes"), [((5, 8), True, (1, 5)), ((2, 5, 8), True, (2, 5)), ((5, 2, 8), False, (2, 5))]
)
def test_the_axes_of_a_call(shape: tuple[int, ...], batch_first: bool, sizes: tuple[int, int]) -> None:
    layout = text_layout(torch.zeros(shape), batch_first)
    assert (layout.batch, len(layout)) == sizes
    assert bool(layout.mask.all())


def test_padding_is_true_or_minus_infinity() -> None:
    absent = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    for padding in (absent, torch.zeros(2, 5).masked_fill(absent, float("-inf"))):
        assert torch.equal(text_layout(torch.zeros(2, 5, 8), True, padding).mask, ~absent)


def test_only_torchvisions_model_sees_images() -> None:
    assert image_layout(nn.Linear(2, 2), (torch.zeros(1, 3, 8, 8),), {}) is None


@pytest.mark.parametrize(
    ("query", "key", "given", "message"),
    [
        (torch.ones(2, 5, 8), torch.zeros(2, 5, 8), None, "that are not its keys"),
        (torch.zeros(4, 2, 8), torch.zeros(4, 2, 8), torch.zeros(2, 4, 8), r"(?s)within a batch of 4.*of batch 4"),
    ],
)
def test_calls_that_are_not_a_chain_over_the_models_tokens(
    query: Tensor, key: Tensor, given: Tensor | None, message: str
) -> None:
    with pytest.raises(ac.AttentionError, match=message):
        check_tokens({"query": query, "key": key}, True, "encoder", given)
    check_tokens({"query": query, "key": query}, True, "encoder", query)
