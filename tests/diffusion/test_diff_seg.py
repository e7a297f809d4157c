"""Several resolutions as one chain, beside the map written out patch by patch.

DiffSeg beside a replica in loops, planted segments, and what is refused.
"""

from __future__ import annotations

import math

import pytest
import torch
from scipy.special import rel_entr
from torch.nn import functional as F

import attnchain_interp as ac
from attnchain_interp import diffusion

from ..chains import vit_like


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


def test_what_aggregated_attention_refuses() -> None:
    text = ac.AttentionStore.from_maps([torch.full((1, 1, 4, 4), 0.25)])
    for stores, message in (
        ([], "stores is empty"),
        ([text], "not the patches of an image alone"),
        ([store(4, 4), store(3, 3)], r"\(3, 3\) does not fit into \(4, 4\)"),
    ):
        with pytest.raises(ac.AttentionError, match=message):
            diffusion.aggregated_attention(stores)


def planted(noise: float = 0.01) -> torch.Tensor:
    """Three groups of tokens that attend inside their group."""
    groups = torch.tensor([0, 0, 1, 1, 1, 0, 2, 2])
    inside = (groups[:, None] == groups).double()
    matrix = inside + noise * torch.rand(8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return matrix / matrix.sum(-1, keepdim=True)


def replica(matrix: torch.Tensor, anchors: list[int], threshold: float, rounds: int) -> list[int]:
    rows = matrix.double().numpy()

    def distance(p: object, q: object) -> float:
        return float((rel_entr(p, q).sum() + rel_entr(q, p).sum()) / 2)  # type: ignore[operator]

    proposals = []
    for anchor in anchors:
        near = [row for row in rows if distance(rows[anchor], row) < threshold]
        proposals.append(sum(near) / len(near))
    for _ in range(rounds - 1):
        merged = []
        while proposals:
            first = proposals[0]
            near = [each for each in proposals if distance(first, each) < threshold]
            proposals = [each for each in proposals if distance(first, each) >= threshold]
            merged.append(sum(near) / len(near))
        proposals = merged
    labels = [max(range(len(proposals)), key=lambda k: round(proposals[k][token], 9)) for token in range(len(rows))]
    numbers = {label: k for k, label in enumerate(sorted(set(labels)))}
    return [numbers[label] for label in labels]


@pytest.mark.parametrize("rounds", [1, 2, 3])
@pytest.mark.parametrize("threshold", [0.02, 0.1, 0.5])
def test_beside_the_replica(rounds: int, threshold: float) -> None:
    matrix = vit_like(9, 3).double()
    found = diffusion.diff_seg(matrix, [1, 4, 8], threshold=threshold, rounds=rounds)
    assert found.tolist() == [replica(each, [1, 4, 8], threshold, rounds) for each in matrix]


@pytest.mark.parametrize("anchors", [[0, 2, 6], [0, 1, 2, 3, 4, 5, 6, 7]])
def test_planted_segments_are_found(anchors: list[int]) -> None:
    assert diffusion.diff_seg(planted(), anchors).tolist() == [0, 0, 1, 1, 1, 0, 2, 2]


def test_segments_of_exact_blocks_with_zeros() -> None:
    assert diffusion.diff_seg(planted(0.0), [6, 0, 3]).tolist() == [1, 1, 2, 2, 2, 1, 0, 0]


def test_tokens_that_are_no_states_have_no_segment() -> None:
    states = torch.tensor([True, True, True, False, True, True, False, True])
    chain = ac.restrict(planted(), states)
    assert diffusion.diff_seg(chain, [0, 2, 7]).tolist() == [0, 0, 1, -1, 1, 0, -1, 2]


def test_anchors() -> None:
    assert diffusion.uniform_anchors((6, 4), 2) == [1 * 4 + 1, 1 * 4 + 3, 4 * 4 + 1, 4 * 4 + 3]
    scores = torch.tensor([[0.1, 0.5, 0.1, 0.3], [0.4, 0.1, 0.4, 0.1]])
    assert diffusion.ranked_anchors(scores, 2).tolist() == [[1, 3], [0, 2]]
    assert diffusion.diff_seg(planted(), torch.tensor([0, 2, 6], dtype=torch.uint8)).tolist() == [0, 0, 1, 1, 1, 0, 2, 2]
    own = diffusion.diff_seg(torch.stack([planted(), planted()]), torch.tensor([[0, 2, 6], [5, 4, 7]]))
    assert torch.equal(own[0], own[1])


def test_what_diff_seg_refuses() -> None:
    matrix = planted()
    for options, message in (
        ({"anchors": [8]}, "from 0 to 7"),
        ({"anchors": []}, "a list of positions of tokens"),
        ({"anchors": [True] * 8}, "a list of positions of tokens"),
        ({"anchors": torch.tensor(3)}, r"anchors has shape \(\); with this chain it must be \(anchor,\)"),
        ({"anchors": [0], "threshold": 0.0}, "threshold is 0.0; it is a distance between rows, above 0"),
        ({"anchors": [0], "threshold": math.nan}, "threshold is nan"),
        ({"anchors": [0], "rounds": 0}, "rounds is 0; it is the number of rounds"),
    ):
        with pytest.raises(ac.AttentionError, match=message):
            diffusion.diff_seg(matrix, **options)  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match=r"anchors has shape \(3, 1\); with this chain it must be .* \(2, 'anchor'\)"):
        diffusion.diff_seg(torch.stack([matrix, matrix]), torch.tensor([[0], [2], [6]]))
    with pytest.raises(ac.AttentionError, match="not a state of the chain"):
        diffusion.diff_seg(ac.restrict(matrix, torch.arange(8) < 6), [7])
    with pytest.raises(ac.AttentionError, match="side is 5"):
        diffusion.uniform_anchors((4, 6), 5)
    with pytest.raises(ac.AttentionError, match="side is 1.5"):
        diffusion.uniform_anchors((4, 6), 1.5)  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="count is 0"):
        diffusion.ranked_anchors(torch.ones(4), 0)


def test_stores_of_other_images_are_refused() -> None:
    stores = [ac.AttentionStore.from_maps([torch.eye(4).expand(n, 1, 4, 4)], ac.TokenLayout.image(n, (2, 2))) for n in (2, 3)]
    with pytest.raises(ac.AttentionError, match=r"hold batches of \[2, 3\] images"):
        diffusion.aggregated_attention(stores)
