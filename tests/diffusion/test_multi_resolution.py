"""Several resolutions as one chain, beside the map written out patch by patch."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import attnchain_interp as ac
from attnchain_interp import diffusion


def store(rows: int, columns: int, seed: int = 0) -> ac.AttentionStore:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, 3, rows * columns, rows * columns, generator=generator).softmax(-1)
    roles = torch.full((2, rows * columns), int(ac.Role.PATCH), dtype=torch.uint8)
    return ac.AttentionStore.from_maps([maps], ac.TokenLayout(roles, (rows, columns)))


def test_beside_a_map_written_out() -> None:
    fine, coarse = store(4, 6), store(2, 3, 1)
    found = diffusion.aggregated_attention([coarse, fine])
    assert (found.tokens.grid, found[0].heads) == ((4, 6), 1)
    for image in range(2):
        large, small = fine[0].maps[image].mean(0), coarse[0].maps[image].mean(0)
        for row in range(4):
            for column in range(6):
                spread = F.interpolate(small[row // 2 * 3 + column // 2].view(1, 1, 2, 3), (4, 6), mode="bilinear").flatten()
                expected = 4 / 6 * large[row * 6 + column] + 2 / 6 * spread / spread.sum()
                torch.testing.assert_close(found[0].maps[image, 0, row * 6 + column], expected)


def test_one_resolution_stays_as_it_is() -> None:
    fine = store(4, 4)
    torch.testing.assert_close(diffusion.aggregated_attention([fine])[0].maps[:, 0], fine[0].maps.mean(1))


def test_what_is_refused_says_why() -> None:
    text = ac.AttentionStore.from_maps([torch.full((1, 1, 4, 4), 0.25)])
    for stores, message in (
        ([], "stores is empty"),
        ([text], "not the patches of an image alone"),
        ([store(4, 4), store(3, 3)], r"\(3, 3\) does not fit into \(4, 4\)"),
    ):
        with pytest.raises(ac.AttentionError, match=message):
            diffusion.aggregated_attention(stores)
