from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnchain_evals.tasks.image_file import open_image, open_mask
from attnchain_interp import AttentionError

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
    with pytest.raises(AttentionError, match="not a readable image"):
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
