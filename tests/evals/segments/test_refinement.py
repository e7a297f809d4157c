"""From patches to pixels."""

import numpy as np
import pytest

from attnchain_evals.segments.refinement import Painter, connected, enlarged, interpolated, refined, superpixels, working_size


def test_a_boundary_goes_to_the_edge_of_the_photograph() -> None:
    shares = np.zeros((2, 8, 8), np.float32)
    shares[0, :, :4], shares[1, :, 4:] = 1, 1
    image = np.zeros((160, 240, 3), np.uint8)
    image[:, 127:] = 255
    assert (interpolated(shares, (160, 240)).argmax(0)[:, 119:122] == [0, 1, 1]).all(), "in the middle"
    off = refined(shares, [superpixels(image, 60)]).argmax(0) != (np.arange(240) >= 127)
    assert not off[:, abs(np.arange(240) - 127) > 4].any()
    large = Painter(image.repeat(6, 0).repeat(6, 1), refine=True)
    assert (large.labels(shares) == (np.arange(1440) >= 762)).mean() > 0.99
    assert ((large.unrefined(shares) != (np.arange(1440) >= 720)).mean(0) > 0).sum() < 6


def test_shares_lie_on_the_part_that_was_read() -> None:
    shares = np.array([[[0.0, 1.0]]], np.float32)
    assert interpolated(shares, (1, 5), (1, 0.8)).tolist() == [[[0, 0.25, 0.75, 1, 1]]]
    image = np.zeros((40, 50, 3), np.uint8)
    both = np.concatenate([1 - shares, shares])
    for refine in (True, False):
        painter = Painter(image, refine, scales=(15,), covered=(1, 0.8))
        assert painter.unrefined(both)[0].tolist() == [0] * 20 + [1] * 30


def test_large_superpixels_outvote_a_few_patches() -> None:
    shares = np.zeros((2, 8, 8), np.float32)
    shares[0, :, :4], shares[1, :, 4:] = 1, 1
    shares[:, 3:5, 1:3] = np.array([0.45, 0.55])[:, None, None]  # patches of the left area that are taken for the right one
    tiles = np.random.default_rng(0).integers(0, 70, (40, 40, 3), dtype=np.uint8)  # they are apart in small superpixels
    image = tiles.repeat(6, 0).repeat(6, 1)
    image[:, 120:] += 180
    sides = np.zeros((240, 240), int)
    sides[:, 120:] = 1
    assert (Painter(image, refine=True, scales=(60,)).labels(shares) != sides).any()
    assert (Painter(image, refine=True).labels(shares) == sides).all()


def test_labels_are_made_at_a_working_size() -> None:
    assert working_size((300, 400, 3)) == (300, 400)
    rows, columns = working_size((3000, 4000))
    assert rows / columns == pytest.approx(0.75, abs=0.01)
    assert rows * columns <= 1.01 * 480 * 320
    assert working_size((1, 10**6)) == (1, 391918)
    assert enlarged(np.array([[1, 2]]), (2, 4)).tolist() == [[1, 1, 2, 2]] * 2


def test_connected_pieces_and_crumbs() -> None:
    labels = np.zeros((40, 40), np.int64)
    labels[:, 20:] = 1
    labels[:, 30:] = 0
    labels[5, 5] = 1
    pieces = connected(labels)
    assert pieces[0, 0] == pieces[5, 5], "a crumb goes to its neighbours"
    assert [pieces[0, column] for column in (0, 20, 30)] == [0, 1, 2]
    crumbs = np.arange(10000).reshape(100, 100) % 3
    assert len(np.unique(connected(crumbs))) > 1, "where there are only crumbs, they stay"
