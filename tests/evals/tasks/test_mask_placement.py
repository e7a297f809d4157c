from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from attnchain_evals.tasks.mask_placement import WholeImage, pixels_of, pixels_seen, placed
from attnchain_interp import AttentionError


def middle(image: Image.Image) -> Tensor:
    """The middle 8 × 8 pixels, normalised."""
    left, top = (image.width - 8) // 2, (image.height - 8) // 2
    pixels = np.array(image.crop((left, top, left + 8, top + 8)))
    return (torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.25


def mask() -> Image.Image:
    return Image.fromarray(np.where(np.arange(16) < 8, 255, 0).astype(np.uint8)[:, None].repeat(16, 1))


def test_a_mask_is_cropped_with_its_image() -> None:
    assert torch.equal(placed(mask(), middle), (torch.arange(8) < 4)[:, None].expand(8, 8))


@pytest.mark.parametrize("result", [middle(mask().convert("RGB"))[0], torch.zeros(2, 3, 8, 8), None, {"pixel_values": 0}])
def test_a_preprocessing_gives_a_batch_of_one_image(result: Any) -> None:
    assert pixels_of(middle, mask().convert("RGB")).shape == (3, 8, 8)
    for use in (lambda: pixels_of(lambda _: result, mask()), lambda: WholeImage(lambda _: result)):
        with pytest.raises(
            AttentionError, match=r"(?s)preprocess returns a .*not pixels \(1, channel, height, width\).*\[None\]"
        ):
            use()


def test_the_whole_image_is_resized_and_normalised() -> None:
    whole = WholeImage(middle)
    assert repr(whole) == "WholeImage(8×8)"
    image = whole(Image.new("RGB", (20, 10), (51, 51, 51)))
    assert image.shape == (1, 3, 8, 8)
    assert torch.allclose(image, torch.tensor((0.2 - 0.5) / 0.25))
    assert torch.equal(placed(mask(), whole), whole.mask(mask()))
    assert whole.mask(mask()).sum(1).tolist() == [8, 8, 8, 8, 0, 0, 0, 0]


def test_pixels_are_where_a_resized_and_cropped_image_shows_them() -> None:
    """481 × 321 pixels, as the photographs of BSDS500: three fifths of the size by bicubic filtering, then cropped."""

    def preprocess(image: Image.Image) -> Tensor:
        small = image.resize((288, 192), Image.Resampling.BICUBIC).crop((40, 20, 200, 180))
        return (torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.25

    rows, columns = pixels_seen((481, 321), preprocess)
    assert (rows - (torch.arange(20, 180) + 0.5)[:, None] * 321 / 192 + 0.5).abs().max() < 1.1
    assert (columns - (torch.arange(40, 200) + 0.5) * 481 / 288 + 0.5).abs().max() < 1.1
    assert torch.equal(pixels_seen((16, 16), middle), torch.stack(torch.meshgrid(*[torch.arange(4, 12)] * 2, indexing="ij")))
