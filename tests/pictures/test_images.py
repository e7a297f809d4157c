"""What normalisation did to an image is undone, whoever holds the mean and the deviation."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from timm.data import resolve_model_data_config  # pyright: ignore[reportPrivateImportUsage]
from torchvision.transforms import Normalize

import attnchain_interp as ac
from attnchain_interp import pictures

from .walks import small_store

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BYTES = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
NORMALIZED = (torch.from_numpy(BYTES) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)


def timm_model() -> Any:
    sizes: dict[str, Any] = {"img_size": 32, "embed_dim": 24, "depth": 1, "num_heads": 3}
    return timm.create_model("vit_tiny_patch16_224", **sizes, pretrained_cfg_overlay={"mean": MEAN, "std": STD})


HOLDERS: dict[str, Any] = {
    "a pair": (MEAN, STD),
    "tensors": [torch.tensor(MEAN), torch.tensor(STD)],
    "a timm model": timm_model(),
    "its data config": resolve_model_data_config(timm_model()),
    "an image processor": transformers.ViTImageProcessor(image_mean=MEAN, image_std=STD),
    "a transform": Normalize(MEAN, STD),
}


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
def test_the_original_comes_back(holder: Any) -> None:
    for image in (NORMALIZED.permute(2, 0, 1), NORMALIZED.numpy(), NORMALIZED.permute(2, 0, 1).requires_grad_()):
        found = pictures.displayable(image, holder)
        assert found.shape == (8, 12, 3)
        assert np.abs(found - BYTES / 255).max() < 1e-6
    assert pictures.displayable(NORMALIZED.bfloat16(), holder) == pytest.approx(BYTES / 255, abs=0.01)


def test_bytes_were_never_normalised() -> None:
    """A photograph beside the model whose input it became: the normalisation made it white."""
    for image in (BYTES, torch.from_numpy(BYTES).permute(2, 0, 1), Image.fromarray(BYTES)):
        assert np.allclose(pictures.displayable(image, (MEAN, STD)), BYTES / 255)


@pytest.mark.parametrize("mode", ["P", "RGBA", "CMYK", "HSV", "YCbCr", "LAB", "L", "1"])
def test_images_of_other_modes_are_shown_as_a_viewer_does(mode: str) -> None:
    """The numbers of a palette were shown as greys."""
    source = Image.fromarray(BYTES)
    if mode == "P":
        image = source.quantize(16)
    elif mode == "LAB":
        image = Image.fromarray(BYTES, "LAB")  # pyright: ignore[reportCallIssue]
    else:
        image = source.convert(mode)
    assert np.allclose(pictures.displayable(image), np.asarray(image.convert("RGB")) / 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_places_are_white(mode: str) -> None:
    black = Image.new("L", (2, 2))
    black.putalpha(Image.fromarray(np.array([[255, 0], [0, 255]], np.uint8)))
    shown = pictures.displayable(black.convert(mode))
    assert shown.tolist() == [[[0] * 3, [1] * 3], [[1] * 3, [0] * 3]]


def test_without_a_normalisation() -> None:
    for image in (BYTES, torch.from_numpy(BYTES).permute(2, 0, 1), Image.fromarray(BYTES), BYTES / 255):
        assert np.allclose(pictures.displayable(image), BYTES / 255)
    stretched = pictures.displayable(NORMALIZED)
    assert (stretched.min(), stretched.max()) == (0, 1)
    assert not pictures.displayable(torch.zeros(3, 4, 4)).any()
    assert np.isfinite(pictures.displayable(torch.full((3, 4, 4), 7.0))).all()


def test_grey_images_have_three_equal_channels() -> None:
    grey = torch.rand(1, 4, 6)
    for image in (grey, grey[0], grey.permute(1, 2, 0).numpy()):
        assert np.allclose(pictures.displayable(image), grey[0, ..., None].expand(-1, -1, 3))
    assert np.allclose(pictures.displayable(grey, (0.5, 0.25)), (grey[0, ..., None] * 0.25 + 0.5).clip(0, 1))


@pytest.mark.parametrize(
    ("image", "normalization", "message"),
    [
        (torch.zeros(2, 3, 4, 4), None, r"(?s)image has shape \(2, 3, 4, 4\).*images\[0\]"),
        (torch.zeros(4, 4, 4), None, "1 or 3 channels"),
        (torch.full((3, 2, 2), torch.nan), None, "image holds 12 values of 12 that are not finite"),
        (torch.zeros(3, 4, 4), SimpleNamespace(mean=MEAN), "SimpleNamespace without mean and std.\nPass"),
        (torch.zeros(3, 4, 4), torch.nn.Linear(1, 1), "Linear without mean and std"),
        (torch.zeros(3, 4, 4), (MEAN,), "tuple without mean and std"),
        (torch.zeros(3, 4, 4), (MEAN, STD[:2]), "one per channel"),
        (torch.zeros(3, 4, 4), (MEAN, (0, 1, 1)), "the std must be positive"),
        ("photo.jpg", None, "image is a str without an array of real numbers"),
    ],
)
def test_what_is_no_image(image: Any, normalization: Any, message: str) -> None:
    with pytest.raises(ac.AttentionError, match=message):
        pictures.displayable(image, normalization)


SHOWN: dict[str, Any] = {
    "layers": lambda store, image, folder: pictures.show_layers(store, image),
    "bounces": lambda store, image, folder: pictures.show_bounces(store, image),
    "a film": lambda store, image, folder: pictures.animate_bounces(store, folder / "walk.gif", image, steps=1),
    "states": lambda store, image, folder: pictures.show_states(store, [image] * store.batch),
    "the explorer": lambda store, image, folder: ac.explore(store, image),
}


@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN)
def test_a_photograph_on_which_patches_are_not_square_gets_a_warning(show: Any, tmp_path: Path) -> None:
    store = small_store()
    rows, columns = store.tokens.grid or (0, 0)
    photograph = Image.new("RGB", (2 * 8 * columns, 8 * rows))
    with pytest.warns(UserWarning, match=f"{rows} × {columns} is stretched.*{16 * columns} × {8 * rows}") as found:
        show(store, photograph, tmp_path)
    assert found[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        show(store, photograph.crop((0, 0, 8 * columns, 8 * rows)), tmp_path)
        show(store, torch.zeros(3, 8 * rows, 16 * columns), tmp_path)  # the model's input: it may have long patches
