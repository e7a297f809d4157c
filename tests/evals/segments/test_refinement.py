"""From patches to pixels."""

import numpy as np

from attnchain_evals.segments.refinement import connected, interpolated, refined, superpixels


def test_a_boundary_goes_to_the_edge_of_the_photograph() -> None:
    shares = np.zeros((2, 8, 8), np.float32)
    shares[0, :, :4], shares[1, :, 4:] = 1, 1
    image = np.zeros((160, 240, 3), np.uint8)
    image[:, 127:] = 255
    assert (interpolated(shares, (160, 240)).argmax(0)[:, 119:122] == [0, 1, 1]).all(), "in the middle"
    off = refined(shares, superpixels(image), (160, 240)) != (np.arange(240) >= 127)
    assert not off[:, abs(np.arange(240) - 127) > 4].any()
    large = image.repeat(6, 0).repeat(6, 1)
    assert superpixels(large).size <= 480 * 320
    assert (refined(shares, superpixels(large), (960, 1440)) == (np.arange(1440) >= 762)).mean() > 0.99


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
