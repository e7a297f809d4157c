"""What the model sees of a photograph."""

import pytest
import torch
from PIL import Image

from attnchain_evals.segments.whole_patches import WholePatches
from attnchain_interp import AttentionError

from .scenes import Colours, picture, preprocess


@pytest.mark.parametrize(
    ("side", "size", "seen"),
    [(None, (300, 200), (192, 288)), (64, (300, 200), (64, 96)), (64, (200, 300), (96, 64)), (64, (1000, 3), (8, 512))],
)
def test_the_whole_photograph_in_its_proportions(side: int | None, size: tuple[int, int], seen: tuple[int, int]) -> None:
    reader = WholePatches(Colours(), preprocess, side)
    assert reader.size(Image.new("RGB", size)) == seen
    store = reader.store(Image.new("RGB", size))
    assert store.tokens.grid == (seen[0] // 8, seen[1] // 8)


def test_pixels_are_normalised_as_by_the_preprocessing() -> None:
    seen = []

    def model(images: torch.Tensor):
        seen.append(images)
        return Colours()(images)

    WholePatches(model, preprocess, 64).store(picture(64))
    assert torch.allclose(seen[-1], preprocess(picture(64)), atol=1e-5)


def test_a_rest_that_no_patch_reads() -> None:
    """The model's own 15 pixels hold one patch of 8. A photograph of whole patches is read whole."""
    reader = WholePatches(Colours(), lambda image: preprocess(image, 15), 64)
    assert (reader.patch, reader.size(Image.new("RGB", (300, 200)))) == (8, (64, 96))
    own = WholePatches(Colours((15,)), lambda image: preprocess(image, 15))
    image = Image.new("RGB", (300, 200))
    assert own.covered(own.store(image), image) == (8 / 15, 8 / 15)
    assert reader.covered(reader.store(image), image) == (1, 1)


def test_a_model_of_one_size_sees_the_whole_photograph_squeezed() -> None:
    reader = WholePatches(Colours((64,)), preprocess)
    assert reader.size(Image.new("RGB", (300, 200))) == (64, 64)
    assert repr(reader) == "WholePatches(Colours, 64 × 64 pixels, patches of 8)"
    with pytest.raises(AttentionError, match="takes images of 64 × 64 pixels alone"):
        WholePatches(Colours((64,)), preprocess, 128)
    with pytest.raises(AttentionError, match="side is 4 pixels, and a patch has 8"):
        WholePatches(Colours(), preprocess, 4)
