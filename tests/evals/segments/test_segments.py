"""The files of segments."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnchain_evals.segments import Segments
from attnchain_interp import AttentionError


def made() -> Segments:
    labels = np.array([[1, 1, 2], [1, 1, 2]])
    shares = np.full((2, 1, 2), 0.5, np.float32)
    image = np.full((2, 3, 3), 100, np.uint8)
    return Segments(image, labels, labels, shares, np.array([0.75, 0.25]), {"k": 2}, {2: labels})


def test_files(tmp_path: Path) -> None:
    found = made()
    files = found.write(tmp_path / "new", "cat", {"image": "cat.jpg"})
    assert [file.name for file in files] == ["cat-labels.png", "cat-overlay.jpg", "cat.npz", "cat.json"]
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == sorted(file.name for file in files)
    assert np.array_equal(np.asarray(Image.open(files[0])), found.labels)
    assert np.asarray(Image.open(files[1])).shape == found.picture.shape
    held = np.load(files[2])
    assert np.array_equal(held["memberships"], found.memberships)
    assert np.array_equal(held["unrefined"], found.unrefined)
    assert np.array_equal(held["labels_2"], found.labels)
    told = json.loads(files[3].read_text())
    assert told == {"image": "cat.jpg", "k": 2, "areas": {"1": 4 / 6, "2": 2 / 6}, "weights": [0.75, 0.25]}
    assert repr(found) == "Segments(2 segments of 3 × 2 pixels)"


def test_outlines_are_white() -> None:
    overlay = made().overlay
    assert (overlay[:, 1] == 255).all()
    assert not (overlay[:, [0, 2]] == 255).all(-1).any()


def test_the_picture_names_the_segments() -> None:
    """Below the overlay stand the colours of the segments, the background last."""
    labels = np.kron([[0, 1], [1, 1]], np.ones((300, 300), int))
    thing = replace(made(), image=np.full((600, 600, 3), 100, np.uint8), labels=labels, facts={"segment": "cup"})
    picture = thing.picture
    assert np.array_equal(picture[:600], thing.overlay)
    blue, grey = ((picture[600:] == colour).all(-1) for colour in ((31, 119, 180), (51, 51, 51)))
    assert blue.sum() > 100, "a square; single grey pixels are of letters"
    assert np.argwhere(blue)[:, 1].mean() < np.median(np.argwhere(grey)[:, 1])
    without = replace(thing, labels=np.ones_like(labels)).picture[600:]
    assert (without == (51, 51, 51)).all(-1).sum() < grey.sum() / 2


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AttentionError, match="cannot be written"):
        made().write(tmp_path / "file", "cat")
