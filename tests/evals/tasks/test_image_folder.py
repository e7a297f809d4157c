from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from attnchain_evals import ImageFolder
from attnchain_evals.tasks.examples import batches
from attnchain_evals.tasks.image_folder import open_image, open_mask
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


def test_hidden_files_are_no_images(folder: Path) -> None:
    whole = ImageFolder(folder, preprocess)
    for name in (
        "images/._a.jpg",
        "images/.thumbnails/a.jpg",
        "images/__MACOSX/a.jpg",
        "masks/._b.png",
        "masks/__MACOSX/b.png",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"no image")
    assert ImageFolder(folder, preprocess).files == whole.files
    assert ImageFolder(folder, preprocess).identity == whole.identity
    inside = folder.parent / ".cache"
    folder.rename(inside)
    assert len(ImageFolder(inside, preprocess)) == 3, "the folder itself may be hidden"


def test_the_identity_follows_contents_names_and_preprocessing(folder: Path) -> None:
    identity = ImageFolder(folder, preprocess).identity
    assert ImageFolder(folder, preprocess).identity == identity
    assert ImageFolder(folder, lambda image: preprocess(image) + 1).identity != identity
    mask = folder / "masks" / "a.png"
    Image.new("RGB", (32, 32)).save(mask)
    assert ImageFolder(folder, preprocess).identity != identity


def test_what_is_refused(folder: Path) -> None:
    with pytest.raises(AttentionError, match=r"preprocess returns a tensor \(3, .*not pixels"):
        ImageFolder(folder, lambda image: preprocess(image)[0])[0]
    with pytest.raises(AttentionError, match="there is no folder .*nothing"):
        ImageFolder(folder / "nothing", preprocess)
    with pytest.raises(AttentionError, match="(?s)is a file, not a folder.*An archive must be unpacked"):
        ImageFolder(__file__, preprocess)
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


NOISE = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)


def test_a_photo_is_upright_and_sixteen_bits_keep_their_levels(tmp_path: Path) -> None:
    upright = Image.new("RGB", (40, 80))
    exif = upright.getexif()
    exif[0x0112] = 6
    upright.rotate(90, expand=True).save(tmp_path / "photo.jpg", exif=exif)
    assert open_image(tmp_path / "photo.jpg").size == (40, 80)
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "grey.png")
    read = np.asarray(open_image(str(tmp_path / "grey.png")))
    assert len(np.unique(read)) == 256
    assert (read == 255).mean() < 0.01


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tif", "webp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
def test_a_file_that_is_cut_off_is_refused(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(NOISE).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(AttentionError, match=rf"image\.{suffix} is not a readable image"):
        open_image(path)


def test_what_is_refused_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(AttentionError, match="there is no file .*none.png"):
        open_image(tmp_path / "none.png")
    with pytest.raises(AttentionError, match=r"(?s)is a folder.*Pass its image files: .*\*\.jpg"):
        open_image(tmp_path)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(AttentionError, match=r"text\.png is not a readable image"):
        open_image(tmp_path / "text.png")
    Image.fromarray(NOISE[..., 0].astype(np.float32)).save(tmp_path / "depth.tif")
    with pytest.raises(AttentionError, match=r"(?s)depth\.tif: the image holds floating-point numbers.*\nScale it"):
        open_image(tmp_path / "depth.tif")


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (100, 100)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(AttentionError, match="not a readable image .*decompression bomb"):
        open_image(tmp_path / "bomb.png")


def test_a_transparent_mask_is_refused(tmp_path: Path) -> None:
    mask = Image.new("L", (4, 4), 255)
    mask.putalpha(Image.fromarray(np.eye(4, dtype=np.uint8) * 255))
    mask.save(tmp_path / "mask.png")
    with pytest.raises(AttentionError, match=r"mask\.png: the mask is transparent in places"):
        open_mask(tmp_path / "mask.png")
    mask.putalpha(255)
    mask.save(tmp_path / "mask.png")
    assert np.asarray(open_mask(tmp_path / "mask.png")).min() == 255


def halved(level: int, dtype: type = np.uint8) -> np.ndarray:
    return np.where(np.arange(8) < 4, level, 0).astype(dtype)[None].repeat(8, 0)


def test_a_mask_whose_object_is_not_white_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    for mask, said in (
        (Image.fromarray(halved(1)), "areas of the level 1 and no level from 128 to 254"),
        (Image.fromarray(halved(127)), "areas of the level 127 and no level from 128 to 254"),
        (Image.fromarray(halved(255, np.uint16)), "areas of the level 1 and no level from 128 to 254"),
        (
            Image.fromarray(np.concatenate([halved(15), halved(255)])),
            "areas of the level 15 and no level from 128 to 254",
        ),  # PASCAL VOC
        (Image.fromarray(halved(3, np.uint16)), "levels from 0 to 3, which are all black in 8 bits"),
    ):
        mask.save(path)
        with pytest.raises(AttentionError, match=rf"mask\.png: the mask has {said}.*\nSave it with 255 on the object"):
            open_mask(path)
    for number, colour in ((1, (128, 0, 0)), (2, (0, 128, 0)), (15, (192, 128, 128))):
        mask = Image.fromarray(halved(number)).convert("P")
        mask.putpalette([0] * 3 * number + list(colour))
        for saved in (mask, mask.convert("RGB")):
            saved.save(path)
            with pytest.raises(
                AttentionError, match=rf"the mask has colours, such as \({colour[0]}, {colour[1]}, {colour[2]}\)"
            ):
                open_mask(path)


def test_a_mask_of_any_mode_that_is_white_on_the_object(tmp_path: Path) -> None:
    grey = Image.fromarray(halved(255))
    for mask in (grey, grey.convert("1"), grey.convert("P"), grey.convert("RGB"), Image.fromarray(halved(65535, np.uint16))):
        mask.save(tmp_path / "mask.png")
        assert np.array_equal(np.asarray(open_mask(tmp_path / "mask.png"))[..., 0], halved(255)), mask.mode
    grey.resize((90, 90)).convert("RGB").save(tmp_path / "mask.jpg")
    soft = np.pad(np.full((6, 6), 255, dtype=np.uint8), 1, constant_values=90)
    Image.fromarray(np.pad(soft, 8)).save(tmp_path / "soft.png")
    Image.fromarray(halved(0)).save(tmp_path / "empty.png")
    for name in ("mask.jpg", "soft.png", "empty.png"):
        open_mask(tmp_path / name)


@pytest.mark.parametrize("name", ["images/a.png", "masks/a.bmp"])
def test_two_files_of_one_name_are_refused(name: str, folder: Path) -> None:
    Image.new("L", (32, 32), 255).save(folder / name)
    with pytest.raises(AttentionError, match=r"/a\.(jpg|bmp) and .*/a\.png have one name but for the suffix"):
        ImageFolder(folder, preprocess)
    assert len(ImageFolder(folder / "images", preprocess)) > 2, "without masks, both are images"


def test_a_link_to_nothing_is_refused_and_a_folder_is_no_image(folder: Path) -> None:
    (folder / "images" / "frames.png").mkdir()
    assert len(ImageFolder(folder, preprocess)) == 3
    (folder / "images" / "d.jpg").symlink_to(folder / "none.jpg")
    with pytest.raises(AttentionError, match=r"d\.jpg is a link to a file that is not there"):
        ImageFolder(folder, preprocess)
