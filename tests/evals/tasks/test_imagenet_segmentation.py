from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional, v2

from attnchain_evals import ImageFolder, ImageNetSegmentation, WholeImage
from attnchain_evals.bench.data_names import open_data
from attnchain_interp import AttentionError

from ..miniatures import write_gtsegs

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def preprocess(image: Image.Image) -> Tensor:
    """As timm has it: the shorter side to 20, the middle 16 × 16, normalised."""
    steps = [v2.Resize(20), v2.CenterCrop(16), v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    return v2.Compose(steps)(image)[None]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_gtsegs(tmp_path / "gtsegs_ijcv.mat", 4)
    return tmp_path / "gtsegs_ijcv.mat"


def test_what_the_file_holds(tmp_path: Path) -> None:
    made = write_gtsegs(tmp_path / "small.mat", 4)
    data = ImageNetSegmentation(tmp_path / "small.mat", preprocess)
    assert len(data) == 4
    for index, (pixels, mask) in enumerate(made):
        found = data.arrays(index)
        assert np.array_equal(found[0], pixels)
        assert np.array_equal(found[1], mask > 0)
    assert np.array_equal(data.arrays(-1)[0], made[3][0])
    assert [data.synset(index) for index in range(2)] == ["n01440764", "n02084071"]
    assert data.class_name(0) == "tench, Tinca tinca"
    assert str(data.class_name(1)).startswith("dog")
    with pytest.raises(IndexError, match="image 4 of 4"):
        data[4]


def test_as_chefers_code_prepares_it(tmp_path: Path) -> None:
    """Resize((224, 224)) of the image, the same by nearest neighbour of the mask, ToTensor, Normalize."""
    made = write_gtsegs(tmp_path / "small.mat")
    data = ImageNetSegmentation(tmp_path / "small.mat", WholeImage(preprocess))
    for picture, (pixels, mask) in zip(map(data.__getitem__, range(3)), made, strict=True):
        image = functional.to_tensor(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BILINEAR))
        assert torch.allclose(picture.image, functional.normalize(image, list(MEAN), list(STD)), atol=1e-6)
        assert picture.mask is not None
        nearest = np.array(Image.fromarray(mask).resize((16, 16), Image.Resampling.NEAREST)) > 0
        assert np.array_equal(picture.mask.numpy(), nearest)


def test_a_mask_goes_where_a_cropping_preprocess_puts_its_image(file: Path) -> None:
    picture = ImageNetSegmentation(file, preprocess)[0]
    assert picture.mask is not None
    assert picture.mask.shape == picture.image.shape[1:] == (16, 16)
    bright = picture.image.mean(0) > picture.image.mean()
    assert (bright == picture.mask).float().mean() > 0.9  # objects are bright in the miniature


def test_a_folder_of_the_same_images_gives_the_same(file: Path, tmp_path: Path) -> None:
    data = ImageNetSegmentation(file, WholeImage(preprocess))
    for kind, place in (("images", 0), ("masks", 1)):
        (tmp_path / kind).mkdir()
        for index in range(4):
            array = data.arrays(index)[place]
            Image.fromarray(np.uint8(255) * array if place else array).save(tmp_path / kind / f"{index}.png")
    folder = ImageFolder(tmp_path, WholeImage(preprocess))
    for index in range(4):
        left, right = data[index], folder[index]
        assert left.mask is not None
        assert right.mask is not None
        assert torch.equal(left.image, right.image)
        assert torch.equal(left.mask, right.mask)


def test_the_identity_is_of_contents_and_preprocessing(file: Path, tmp_path: Path) -> None:
    identity = ImageNetSegmentation(file, preprocess).identity
    shutil.copy(file, tmp_path / "copy.mat")
    assert ImageNetSegmentation(tmp_path / "copy.mat", preprocess).identity == identity
    assert ImageNetSegmentation(file, WholeImage(preprocess)).identity != identity
    write_gtsegs(file, 4, seed=1)
    assert ImageNetSegmentation(file, preprocess).identity != identity


def test_the_name_of_the_command_line(file: Path) -> None:
    data = open_data(f"imagenet-segmentation:{file}", preprocess, None, 0)
    assert torch.equal(data[0].image, ImageNetSegmentation(file, WholeImage(preprocess))[0].image)
    with pytest.raises(AttentionError, match="takes no images"):
        open_data(f"imagenet-segmentation:{file}", None, None, 0)


def test_what_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(AttentionError, match=r"(?s)no file .*none.mat.*Download gtsegs_ijcv.mat from http"):
        ImageNetSegmentation(tmp_path / "none.mat", preprocess)
    (tmp_path / "text.mat").write_text("no data")
    with pytest.raises(AttentionError, match="text.mat is not an HDF5 file"):
        ImageNetSegmentation(tmp_path / "text.mat", preprocess)
    with h5py.File(tmp_path / "other.mat", "w") as other:
        other["value/img"] = np.zeros((2, 1))
    with pytest.raises(AttentionError, match="no value/img and value/gt of one length"):
        ImageNetSegmentation(tmp_path / "other.mat", preprocess)
    with h5py.File(file, "r+") as damaged:
        del damaged["value/target"]
        images: Any = damaged["value/img"]
        images[0, 0] = images[1, 0]
    with pytest.raises(AttentionError, match=r"image 0 .* with a mask"):
        ImageNetSegmentation(file, preprocess)[0]
    assert ImageNetSegmentation(file, preprocess).synset(0) is None
    assert ImageNetSegmentation(file, preprocess).class_name(0) is None
