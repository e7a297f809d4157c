from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from attnchain_evals import ClassFolder
from attnchain_evals.bench.data_names import open_data
from attnchain_evals.tasks.class_folder import synset_classes, synset_names
from attnchain_evals.tasks.examples import batches
from attnchain_interp import AttentionError


def preprocess(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.resize((8, 8)))).permute(2, 0, 1)[None].float() / 255


def classes_of(root: Path, *names: str) -> Path:
    for level, name in enumerate(names):
        for place in ("a.png", "deep/b.png"):
            path = root / name / place
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (9, 9), (10 * level,) * 3).save(path)
    return root


def test_labels_are_the_sorted_names(tmp_path: Path) -> None:
    data = ClassFolder(classes_of(tmp_path, "cat", "ant", "bee"), preprocess)
    assert data.labels == [0, 0, 1, 1, 2, 2]
    assert [round(float(data[k].image[0, 0, 0]) * 255) for k in (0, 2, 4)] == [10, 20, 0]
    (batch,) = batches(data, 8, None, lambda *_: True)
    assert batch.masks is None
    assert batch.labels is not None
    assert batch.labels.tolist() == data.labels
    assert ClassFolder(tmp_path, preprocess, ["bee", "cat", "x", "ant"]).labels == [3, 3, 0, 0, 1, 1]


def test_a_part_of_imagenet_keeps_its_numbers(tmp_path: Path) -> None:
    data = open_data(f"classes:{classes_of(tmp_path, 'n01484850', 'n15075141')}", preprocess, None, 0)
    assert data.labels == [2, 2, 999, 999]  # great white shark, toilet tissue


def test_the_identity_knows_the_labels(tmp_path: Path) -> None:
    data = ClassFolder(classes_of(tmp_path, "cat", "ant"), preprocess)
    assert ClassFolder(tmp_path, preprocess).identity == data.identity
    assert ClassFolder(tmp_path, preprocess, ["cat", "ant"]).identity != data.identity


def test_what_is_refused(tmp_path: Path) -> None:
    classes_of(tmp_path, "cat", "ant")
    with pytest.raises(AttentionError, match="has 1 folder of no class; the first is 'ant'"):
        ClassFolder(tmp_path, preprocess, ["cat"])
    Image.new("RGB", (9, 9)).save(tmp_path / "loose.png")
    with pytest.raises(AttentionError, match="loose.png lies in no class's folder"):
        ClassFolder(tmp_path, preprocess)
    pairs = [(torch.rand(3, 2, 2), 1), torch.rand(3, 2, 2)]
    with pytest.raises(AttentionError, match="batch 0 has label for 1 of 2 examples"):
        list(batches(pairs, 2, None, lambda *_: True))


def test_parts_of_the_data_are_no_classes(tmp_path: Path) -> None:
    classes_of(tmp_path, "test/cat", "train/cat", "train/ant")
    with pytest.raises(AttentionError, match=r"(?s)holds test, train, which are parts of the data and no classes.*/train\."):
        ClassFolder(tmp_path, preprocess)
    assert ClassFolder(tmp_path / "train", preprocess).classes == ("ant", "cat")


def test_a_folder_named_images_is_a_class_beside_others_alone(tmp_path: Path) -> None:
    assert ClassFolder(classes_of(tmp_path / "pets", "cat", "dog", "images"), preprocess).classes == ("cat", "dog", "images")
    foods = classes_of(tmp_path / "food-101", "images/apple", "images/bread")
    (foods / "meta").mkdir()
    with pytest.raises(AttentionError, match=rf"{foods} holds images and no classes.*\nPass {foods}/images\."):
        ClassFolder(foods, preprocess)
    assert ClassFolder(foods / "images", preprocess).labels == [0, 0, 1, 1]
    classes_of(foods, "masks/apple", "masks/bread")
    with pytest.raises(AttentionError, match="holds images, masks and no classes"):
        ClassFolder(foods, preprocess)
    published = classes_of(tmp_path / "ecssd", "images", "ground_truth_mask")
    with pytest.raises(AttentionError, match=rf"holds ground_truth_mask, images and no classes.*\nPass {published}/images\."):
        ClassFolder(published, preprocess)


def test_classes_of_imagenet() -> None:
    classes = synset_classes()
    assert (len(classes), classes["n01440764"], classes["n15075141"]) == (1000, 0, 999)
    assert synset_names()["n01440764"] == "tench, Tinca tinca"
    assert len(synset_names()) > 21_000
