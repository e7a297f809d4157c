from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from attnchain_evals import ImageFolder
from attnchain_evals.tasks.examples import batches
from attnchain_interp import AttentionError


def preprocess(image: Image.Image) -> Tensor:
    """Half the size, the middle cropped, normalised."""
    small = image.resize((image.width // 2, image.height // 2), Image.Resampling.BILINEAR).crop((2, 2, 14, 14))
    return (torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() / 255 - 0.4) / 0.2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("b", "a", "inner/c"):
        for kind, suffix in (("images", "jpg"), ("masks", "png")):
            path = tmp_path / kind / f"{name}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            if kind == "masks":
                pixels[:] = np.where(np.arange(32) < 16, 255, 0)[None, :, None]
            Image.fromarray(pixels).save(path)
    return tmp_path


def test_a_mask_goes_where_its_image_goes(folder: Path) -> None:
    data = ImageFolder(folder, preprocess)
    assert len(data) == 3
    picture = data[0]
    assert picture.image.shape == (3, 12, 12)
    assert picture.mask is not None
    assert torch.equal(picture.mask, (torch.arange(12) < 6).expand(12, 12))
    (batch,) = batches(data, 8, None, lambda *_: True)
    assert batch.masks is not None
    assert batch.masks.shape == (3, 12, 12)
    assert ImageFolder(folder / "images" / "inner", preprocess)[0].mask is None


def test_the_identity_follows_contents_names_and_preprocessing(folder: Path) -> None:
    identity = ImageFolder(folder, preprocess).identity
    assert ImageFolder(folder, preprocess).identity == identity
    assert ImageFolder(folder, lambda image: preprocess(image) + 1).identity != identity
    mask = folder / "masks" / "a.png"
    Image.new("RGB", (32, 32)).save(mask)
    assert ImageFolder(folder, preprocess).identity != identity


def test_what_is_refused(folder: Path) -> None:
    with pytest.raises(AttentionError, match="there is no folder .*nothing"):
        ImageFolder(folder / "nothing", preprocess)
    turned = Image.new("RGB", (48, 32))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "images" / "a.jpg", exif=exif)
    Image.new("RGB", (48, 32)).save(folder / "masks" / "a.png")
    with pytest.raises(AttentionError, match=r"(?s)a\.png is 48 × 32 and its image 32 × 48.*EXIF"):
        ImageFolder(folder, preprocess)[0]
    (folder / "masks" / "a.png").unlink()
    with pytest.raises(AttentionError, match="1 of 3 images have no mask; the first is"):
        ImageFolder(folder, preprocess)
    (folder / "images" / "inner" / "c.jpg").write_text("no image")
    with pytest.raises(AttentionError, match="c.jpg is not a readable image"):
        ImageFolder(folder / "images" / "inner", preprocess)[0]


def test_the_layout_of_ecssd_as_published(folder: Path) -> None:
    (folder / "masks").rename(folder / "ground_truth_mask")
    assert ImageFolder(folder, preprocess)[0].mask is not None
    (folder / "test").mkdir()
    for kind in ("images", "ground_truth_mask"):
        (folder / kind).rename(folder / "test" / kind)
    with pytest.raises(AttentionError, match=r"(?s)holds images and masks in (\S+/test)\..*Pass one of them: \1"):
        ImageFolder(folder, preprocess)


def test_a_mask_of_another_image_is_refused(folder: Path) -> None:
    Image.new("RGB", (48, 40)).save(folder / "masks" / "a.png")
    with pytest.raises(AttentionError, match=r"a\.png is 48 × 40 and its image 32 × 32, so it is not the image's"):
        ImageFolder(folder, preprocess)[0]
    Image.new("RGB", (16, 16), "white").save(folder / "masks" / "a.png")
    mask = ImageFolder(folder, lambda image: preprocess(image.resize((32, 32))))[0].mask
    assert mask is not None
    assert mask.all(), "a mask of half the size has the image's proportions"
