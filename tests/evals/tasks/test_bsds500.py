from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat
from torch import Tensor

from attnchain_evals import BSDS500
from attnchain_evals.tasks.bsds500 import segmentations
from attnchain_evals.tasks.examples import batches
from attnchain_interp import AttentionError


def preprocess(image: Image.Image) -> Tensor:
    """Half the size, the left 12 columns, normalised."""
    small = image.resize((image.width // 2, image.height // 2), Image.Resampling.BILINEAR).crop((0, 0, 12, image.height // 2))
    return (torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() / 255 - 0.4) / 0.2


def write_mat(path: Path, *people: NDArray[np.uint16]) -> None:
    """As the published files: a cell (1, person) of structs of a segmentation and its boundaries."""
    cells = np.empty((1, len(people)), object)
    for number, labels in enumerate(people):
        cells[0, number] = {"Segmentation": labels, "Boundaries": np.zeros(labels.shape, np.uint8)}
    savemat(path, {"groundTruth": cells})


LEFT = np.where(np.arange(32) < 16, 7, 3).astype(np.uint16) * np.ones((24, 1), np.uint16)
TOP = np.ascontiguousarray(np.where(np.arange(24) < 8, 1, 2).astype(np.uint16)[:, None] * np.ones((1, 32), np.uint16))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("val", "test"):
        for kind in ("images", "groundTruth"):
            (tmp_path / "data" / kind / part).mkdir(parents=True)
        for name, people in (("10", (LEFT, TOP)), ("9", (TOP,))):
            Image.new("RGB", (32, 24), "red").save(tmp_path / "data" / "images" / part / f"{name}.jpg")
            write_mat(tmp_path / "data" / "groundTruth" / part / f"{name}.mat", *people)
    return tmp_path


def test_segmentations_go_where_their_image_goes(folder: Path) -> None:
    data = BSDS500(folder, preprocess, "validation")
    assert [file.name for file in data.files] == ["10.jpg", "9.jpg"]
    image, people = data[0]
    assert image.shape == (3, 12, 12)
    assert people.shape == (2, 12, 12)
    assert torch.equal(people[0], torch.where(torch.arange(12) < 8, 7, 3).expand(12, 12))
    assert torch.equal(people[1], torch.where(torch.arange(12) < 4, 1, 2)[:, None].expand(12, 12))
    assert data[1].segmentations.shape == (1, 12, 12), "one person is a person"
    (batch,) = batches(data, 2, None, lambda *_: True)
    assert batch.inputs.shape == (2, 3, 12, 12)
    assert len(BSDS500(folder / "data", preprocess)) == 2
    assert "BSDS500(" in repr(data)
    assert "validation: 2 images" in repr(data)


def test_the_identity_follows_images_and_segmentations(folder: Path) -> None:
    identity = BSDS500(folder, preprocess).identity
    assert BSDS500(folder, preprocess).identity == identity
    write_mat(folder / "data" / "groundTruth" / "test" / "9.mat", LEFT)
    assert BSDS500(folder, preprocess).identity != identity


def test_what_is_refused(folder: Path) -> None:
    with pytest.raises(AttentionError, match="(?s)is a file, not a folder.*An archive must be unpacked"):
        BSDS500(__file__, preprocess)
    with pytest.raises(AttentionError, match=r"(?s)holds val/, test/|holds test/, val/; images/test/ and groundTruth/test/"):
        BSDS500(folder / "data" / "images", preprocess)
    with pytest.raises(AttentionError, match=r"images/train/ and groundTruth/train/ are wanted"):
        BSDS500(folder, preprocess, "train")
    with pytest.raises(AttentionError, match="split='val' is unknown"):
        BSDS500(folder, preprocess, "val")  # type: ignore[arg-type]
    mat = folder / "data" / "groundTruth" / "test" / "9.mat"
    write_mat(mat, LEFT.T)
    with pytest.raises(AttentionError, match=r"9\.mat has segmentations of 24 × 32 pixels, and .*9\.jpg has 32 × 24"):
        BSDS500(folder, preprocess)[1]
    write_mat(mat, LEFT, LEFT.T)
    with pytest.raises(AttentionError, match=r"has segmentations of the shapes \[\(24, 32\), \(32, 24\)\]"):
        segmentations(mat)
    for value in ({"truth": 1}, {"groundTruth": LEFT}, {"groundTruth": {"Boundaries": LEFT}}):
        savemat(mat, value)
        with pytest.raises(AttentionError, match=r"(?s)9\.mat (holds no segmentations|has segmentations of the shapes)"):
            segmentations(mat)
    whole = (folder / "data" / "groundTruth" / "test" / "10.mat").read_bytes()
    for contents in (b"no file of MATLAB", whole[:200], whole[:-20], b"\0" * 400):
        mat.write_bytes(contents)
        with pytest.raises(AttentionError, match="holds no segmentations of BSDS500"):
            segmentations(mat)
    mat.unlink()
    with pytest.raises(AttentionError, match=r"1 of 2 images have no segmentations; the first is .*9\.jpg"):
        BSDS500(folder, preprocess)
    (folder / "data" / "images" / "val" / "10.jpg").unlink()
    (folder / "data" / "images" / "val" / "9.jpg").rename(folder / "data" / "images" / "val" / "notes.txt")
    with pytest.raises(AttentionError, match=r"holds no image .*, but notes\.txt"):
        BSDS500(folder, preprocess, "validation")
