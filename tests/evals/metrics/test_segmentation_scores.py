from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, jaccard_score

import attnchain_interp as ac
from attnchain_evals import segmentation_scores
from attnchain_evals.metrics.segmentation_scores import above, acc_and_miou, counts, matched


def test_by_hand() -> None:
    """One of two object pixels found, nothing else: 15 of 16 right, IoU 1/2 and 14/15."""
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 0, :2] = True
    scores = torch.zeros(1, 4, 4)
    scores[0, 0, 0] = 1
    found = segmentation_scores(scores, mask)
    assert found["acc"] == pytest.approx(15 / 16)
    assert found["miou"] == pytest.approx((1 / 2 + 14 / 15) / 2)


def test_against_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(5, 8, 8, generator=generator)
    masks = torch.rand(5, 8, 8, generator=generator) + 0.5 * scores > 0.8
    found = segmentation_scores(scores, masks)
    binary = (scores > scores.mean((1, 2), keepdim=True)).numpy().ravel()
    truth = masks.numpy().ravel()
    assert found["acc"] == pytest.approx(accuracy_score(truth, binary))
    assert found["miou"] == pytest.approx(jaccard_score(truth, binary, average="macro"))
    scaled = [(grid - grid.min()) / (grid.max() - grid.min()) for grid in scores.numpy()]
    precision = [
        average_precision_score(np.r_[~mask.ravel(), mask.ravel()], np.r_[1 - grid.ravel(), grid.ravel()])
        for grid, mask in zip(scaled, masks.numpy(), strict=True)
    ]
    assert found["map"] == pytest.approx(np.mean(precision))


def test_the_mask_itself_is_perfect_at_its_own_size() -> None:
    mask = torch.zeros(2, 8, 8, dtype=torch.bool)
    mask[:, 2:5, 3:6] = True
    assert segmentation_scores(mask.float(), mask) == {"acc": 1, "miou": 1, "map": 1}
    assert segmentation_scores(1 - mask.float(), mask)["acc"] == 0


def test_small_maps_are_enlarged_smoothly() -> None:
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, :4] = True
    assert segmentation_scores(torch.tensor([[[1.0, 1.0], [0.0, 0.0]]]), mask)["acc"] == 1


def test_a_store_says_where_patches_lie() -> None:
    """Two patches of 9 pixels, the lower one on the object, and a rest of 6 rows that no patch reads."""
    mask = torch.zeros(1, 24, 9, dtype=torch.bool)
    mask[0, 9:] = True
    layer = ac.LayerAttention("layer", torch.full((1, 1, 2, 2), 0.5))
    metadata = {"patches": "2×1 patches of 9×9 pixels in 24×9"}
    store = ac.AttentionStore([layer], ac.TokenLayout.image(1, (2, 1)), metadata=metadata)
    cells = torch.tensor([[[0.0], [1.0]]])
    assert segmentation_scores(cells, mask, read=store)["map"] == 1
    assert segmentation_scores(cells, mask, read=store)["acc"] > segmentation_scores(cells, mask)["acc"]
    with pytest.raises(ac.AttentionError, match="(?s)read is of type str.*Pass the store"):
        segmentation_scores(cells, mask, read="store")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0.1, 1 / 196, 1.0])
def test_a_constant_map_is_all_background(value: float) -> None:
    mask = torch.zeros(1, 56, 56, dtype=torch.bool)
    mask[0, :14] = True
    constant = torch.full((1, 14, 14), value)
    precision = 3 / 4 * 3 / 4 + 1 / 4 * 1 / 2  # at the two values of the channels
    assert segmentation_scores(constant, mask) == pytest.approx({"acc": 3 / 4, "miou": 3 / 8, "map": precision})
    assert not above(constant, 1, mask).any()


def test_bad_calls() -> None:
    mask = torch.eye(4, dtype=torch.bool)[None]
    with pytest.raises(ac.AttentionError, match="do not fit"):
        segmentation_scores(torch.ones(2, 4, 4), mask)
    with pytest.raises(ac.AttentionError, match="attributions is of type ndarray; it must be a tensor .batch, rows, columns."):
        segmentation_scores(np.ones((1, 4, 4)), mask)  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="masks is of type ndarray; it must be a tensor .batch, height, width."):
        segmentation_scores(torch.rand(1, 4, 4), mask.numpy())  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="NaN"):
        segmentation_scores(torch.full((1, 4, 4), torch.nan), mask)
    with pytest.raises(ac.AttentionError, match="1 attributions hold NaN or infinity"):
        segmentation_scores(torch.eye(4)[None].masked_fill(mask, torch.inf), mask)
    with pytest.raises(ac.AttentionError, match="empty or full"):
        segmentation_scores(torch.rand(1, 4, 4), mask & False)


def test_a_mask_of_numbers_is_not_guessed() -> None:
    mask, maps = torch.eye(4, dtype=torch.bool)[None], torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(0))
    for same in (mask.long(), mask * 255, mask * 0.5):
        assert segmentation_scores(maps, same) == segmentation_scores(maps, mask)
    classes, soft = mask.long(), mask * 0.9
    classes[0, 0, 1] = 255
    soft[0, 0, 1] = 0.1
    for wrong in (classes, soft):
        with pytest.raises(ac.AttentionError, match=r"(?s)masks\[0\] holds 0, .*not known where the object is.*masks > 0\.5"):
            segmentation_scores(maps, wrong)
    both = torch.cat([mask * 3, mask * 7])
    assert segmentation_scores(maps.expand(2, 4, 4), both) == segmentation_scores(maps, mask), "each image has its number"
    with pytest.raises(ac.AttentionError, match=r"masks\[0\] holds NaN"):
        segmentation_scores(maps, torch.where(mask, torch.nan, 0.0))


def test_segments_are_matched_so_that_the_most_pixels_are_right() -> None:
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[:, 1:3, 1:3] = True
    halves = torch.tensor([[[7, 7], [7, 3]]])  # enlarged: a quarter of the image is segment 3
    found = matched(halves, mask)
    assert found.tolist() == [[[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]]
    assert matched(torch.arange(3)[None, None].repeat(1, 4, 1).repeat_interleave(2, 2)[..., :4], mask).unique().tolist() == [
        0,
        1,
    ]
    three = torch.tensor([[[0, 1, 1, 2]] * 4])
    assert matched(three, mask)[0, 0].tolist() in ([0, 1, 1, -1], [-1, 1, 1, 0])


def test_counts_are_those_of_the_pixels() -> None:
    mask = torch.tensor([[[True, True], [False, False]]])
    found = torch.tensor([[[1, -1], [1, 0]]])
    assert counts(found, mask).tolist() == [[0.5, 0.25, 0.5, 0.25, 0.75]]
    acc, miou = acc_and_miou(counts(found, mask).mean(0))
    assert (float(acc), float(miou)) == (0.5, pytest.approx((1 / 2 + 1 / 3) / 2))
    acc, miou = acc_and_miou(counts(mask.long(), mask).mean(0))
    assert (float(acc), float(miou)) == (1, 1)


def test_maps_are_cut_at_a_multiple_of_their_mean() -> None:
    maps, mask = torch.tensor([[[1.0, 3.0]]]), torch.zeros(1, 1, 2, dtype=torch.bool)
    assert above(maps, 1, mask).tolist() == [[[0, 1]]]
    assert above(maps, 0.4, mask).tolist() == [[[1, 1]]]
    assert above(maps, 2, mask).tolist() == [[[0, 0]]]
