"""A walk over an image as a strip of maps. A walk over an image as a film."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.animation import FFMpegWriter
from PIL import Image

import attnchain_interp as ac
from attnchain_interp import pictures
from attnchain_interp.store.starts import Start

from .walks import GRID, power, shown, small_store


@pytest.mark.parametrize(("start", "row"), [("center", 5), ("class", 0), (-1, 6)])
def test_the_strip_is_powers_of_the_matrix(start: Start, row: int) -> None:
    store = small_store()
    axes = pictures.show_bounces(store, torch.rand(3, 8, 12), start=start, steps=(1, 3, 2)).get_axes()
    assert [axis.get_title() for axis in axes] == ["input", "n = 1", "n = 3", "n = 2", "n = ∞"]
    patches = store.maps()[0].double()[..., 1:]
    matrix = (patches / patches.sum(-1, keepdim=True)).mean((0, 1))
    for axis, n in zip(axes[1:4], (1, 3, 2), strict=True):
        assert np.allclose(shown(axis), (matrix[row] @ power(matrix[1:], n - 1)).view(GRID), atol=1e-6)
    assert np.allclose(shown(axes[4]), power(0.99 * matrix[1:] + 0.01 / 6, 5000)[0].view(GRID), atol=1e-6)
    frames = axes[0].patches
    assert [frame.get_xy() for frame in frames] == ([] if start == "class" else [{5: (3.5, 3.5), 6: (7.5, 3.5)}[row]])  # type: ignore[attr-defined]


def test_a_walk_over_a_balanced_chain_of_weighted_layers() -> None:
    store = small_store()
    axes = pictures.show_bounces(store, start="class", steps=(2,), layer_weights=[1, 3], balanced=True).get_axes()
    chain = store.chain(layer_weights=[1, 3], balanced=True)
    for axis, scores in zip(axes, (ac.bounce(chain, 0, 2), ac.stationary(chain)), strict=True):
        assert np.allclose(shown(axis), scores[0, 1:].view(GRID), atol=1e-6)
    assert not np.allclose(
        shown(axes[0]), shown(pictures.show_bounces(store, start="class", steps=(2,)).get_axes()[0]), atol=1e-3
    )


def test_what_show_bounces_refuses() -> None:
    store = small_store()
    for steps in ((), (-1, 2), 3, (0.5,), "12", [None]):
        with pytest.raises(ac.AttentionError, match=r"(?s)steps is .*from 0 on.\nName at least one.*steps=\(1, 2\)"):
            pictures.show_bounces(store, steps=steps)  # type: ignore[arg-type]
    assert len(pictures.show_bounces(store, steps=np.arange(2)).axes) == 3  # type: ignore[arg-type]
    with pytest.raises(
        ac.AttentionError, match=r'heads="each" gives a walk for every head; one walk is drawn.\nName the head: heads=\[0\]'
    ):
        pictures.show_bounces(store, heads="each")


def test_a_film_begins_at_the_token_and_is_the_same_when_it_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attnchain_interp.pictures.bounces._HELD", 2)
    monkeypatch.setattr("attnchain_interp.pictures.bounces._BETWEEN", 1)
    store = small_store()
    path, again = (pictures.animate_bounces(store, tmp_path / f"{k}.gif", steps=1) for k in "ab")
    assert path.read_bytes() == again.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.gif", "b.gif"]
    with Image.open(path) as film:
        first, durations = np.asarray(film.convert("L"), float), []
        for k in range(film.n_frames):  # type: ignore[attr-defined]
            film.seek(k)
            durations.append(film.info["duration"])
    assert durations == [100, 50, 100, 50, 200], "PIL joins frames that are equal"
    map_of = first[40:, 10:-10]  # without the title
    rows, columns = np.nonzero(map_of > 200)
    assert (rows.mean() / map_of.shape[0], columns.mean() / map_of.shape[1]) == pytest.approx((0.7, 0.5), abs=0.15)


def test_what_animate_bounces_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = small_store()
    with pytest.raises(ac.AttentionError, match="ends in .gif, .mp4"):
        pictures.animate_bounces(store, tmp_path / "film.avi")
    monkeypatch.setattr(FFMpegWriter, "isAvailable", lambda: False)
    with pytest.raises(ac.AttentionError, match=r"(?s)needs the program ffmpeg, .*apt install ffmpeg.*or write .*film.gif"):
        pictures.animate_bounces(store, tmp_path / "film.mp4")


@pytest.mark.skipif(not FFMpegWriter.isAvailable(), reason="needs the program ffmpeg")
def test_an_mp4(tmp_path: Path) -> None:
    written = pictures.animate_bounces(small_store(), tmp_path / "film.mp4", torch.rand(3, 8, 12), steps=1)
    assert written.read_bytes()[4:8] == b"ftyp"
