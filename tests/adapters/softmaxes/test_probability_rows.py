"""Probabilities are known by their numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnchain_adapters.softmaxes.probability_rows import even_rows, excess, is_negative, rows_of

LOGITS = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
MAPS = LOGITS.softmax(-1)
PADDED = MAPS.masked_fill(torch.arange(4)[:, None] == 2, 0)
ONE_OFF = MAPS * torch.tensor([1.0, 0, 1])[:, None, None]


@pytest.mark.parametrize("weights", [MAPS, PADDED, ONE_OFF, MAPS.to(torch.bfloat16), MAPS[0, 0], MAPS.double()])
def test_rows_that_sum_to_one(weights: Tensor) -> None:
    assert rows_of(weights) == "probabilities"


@pytest.mark.parametrize(
    ("weights", "rows"),
    [
        (LOGITS, None),
        (LOGITS.exp(), "positive"),
        (torch.cat([MAPS[:1], 2 * MAPS[1:]]), "positive"),
        (MAPS - 0.2, None),
        (torch.zeros(2, 3), None),
        (F.one_hot(torch.tensor([[0, 2, 1]]), 4).float(), None),
        (torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 1.0, 0]]), None),
        (torch.tensor([[1.0, 0, 0], [3e-4, 1, 0], [2e-9, 4e-5, 1]]), None),
        (torch.full((2, 3), torch.nan), None),
        (torch.ones(2, 1), None),
        (torch.ones(3), None),
        (torch.ones(2, 3, dtype=torch.long), None),
        (torch.ones(0, 3), None),
        (MAPS.to("meta"), None),
        (nn.Parameter(MAPS), None),
        (None, None),
    ],
)
def test_others(weights: Tensor | None, rows: str | None) -> None:
    assert rows_of(weights) == rows


def test_a_tensor_of_a_transform_is_not_looked_at() -> None:
    seen: list[str | None] = []

    def row(x: Tensor) -> Tensor:
        seen.append(rows_of(x))
        return x

    torch.vmap(row)(MAPS)
    assert seen == [None]


def test_how_far_a_factor_is_from_probabilities() -> None:
    maps = torch.rand(2, 3, 4).softmax(-1)
    assert [excess(each) for each in (maps, maps.mT, torch.full((2, 4, 4), 0.25))] == [0, 0, 0], "equal rows are rows"
    assert [excess(each) for each in (maps[..., 1:], maps * torch.tensor([1.0, 0])[:, None, None])] == [1, 1]
    assert [excess(each) for each in (maps - 0.5, maps + 1, torch.zeros(3), maps.to("meta"))] == [2, 2, 2, 2]
    assert (is_negative(maps), is_negative(maps - 0.5), is_negative((maps - 0.5).to("meta"))) == (False, True, False)


def test_rows_that_sum_to_one_number_may_be_signed() -> None:
    signed = 1.5 * MAPS - 0.5 * MAPS.flip(1)
    assert all(even_rows(each) for each in (MAPS, -3 * MAPS, signed, signed.to(torch.bfloat16)))
    assert not any(even_rows(each) for each in (LOGITS, PADDED, MAPS.mT, MAPS - MAPS.flip(1), nn.Parameter(MAPS)))
