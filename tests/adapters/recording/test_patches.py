"""Patches that do not divide an image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from attnchain_adapters.recording.patches import Patches
from attnchain_interp.store import covered_size


def seen(image: Tensor, kernel: int, pad: tuple[int, ...] = (), **options: Any) -> dict[str, str]:
    patches, weight = Patches(), torch.ones(1, 1, kernel, kernel)
    if pad:
        before, image = image, F.pad(image, pad)
        patches.see(F.pad, (before, pad), {}, image)
    patches.see(F.conv2d, (image, weight), options, F.conv2d(image, weight, **options))
    return patches.metadata


def test_a_rest_is_noted() -> None:
    image = torch.ones(1, 1, 83, 70)
    assert seen(image, 14, stride=14) == {"patches": "5×5 patches of 14×14 pixels in 83×70"}
    assert seen(image, 14, stride=(14, 14), padding="valid") == {"patches": "5×5 patches of 14×14 pixels in 83×70"}


def test_patches_that_overlap_are_as_large_as_a_step() -> None:
    """Kernels of 16 pixels move by 12: those of the last of 18 rows are 204 to 220, and their middle is 212 of 230."""
    image = torch.ones(1, 1, 230, 230)
    assert seen(image, 16, stride=12) == {"patches": "18×18 patches of 12×12 pixels in 230×230"}


def test_pixels_that_a_model_adds() -> None:
    image = torch.ones(1, 1, 50, 64)
    patches, satellite = Patches(), torch.ones(1, 12, 50, 64)
    padded, weight = F.pad(satellite, (0, 0, 0, 14)), torch.ones(1, 12, 16, 16)
    patches.see(F.pad, (satellite, (0, 0, 0, 14)), {}, padded)
    patches.see(F.conv2d, (padded, weight), {"stride": 16}, F.conv2d(padded, weight, stride=16))
    assert patches.metadata == {"patches": "4×4 patches of 16×16 pixels in 50×64"}, "channels of any number"
    assert seen(image, 16, (0, 0, 0, 14), stride=16) == {"patches": "4×4 patches of 16×16 pixels in 50×64"}
    unknown = {"patches": "4×4 patches in 38×64, at places that are unknown"}
    assert seen(image[:, :, :38], 16, (0, 0, 13, 13), stride=16) == unknown, "the first row begins 13 pixels above the image"
    assert not seen(image, 16, (0, 0, 7, 7), stride=16), "half a patch at most, if the rows divide the image"


@pytest.mark.parametrize("length", [64, 65, 66, 67])
@pytest.mark.parametrize(("kernel", "step"), [(3, 2), (7, 4)])
def test_a_kernel_around_each_step_divides_the_image(length: int, kernel: int, step: int) -> None:
    """The middles of patches, on image and cells, are less than half a step apart."""
    options: Any = {"stride": step, "padding": kernel // 2}
    image = torch.ones(1, 1, length, length)
    assert not seen(image, kernel, **options)
    cells = F.conv2d(image, torch.ones(1, 1, kernel, kernel), **options).shape[-1]
    middles = [(step * cell + 0.5, (cell + 0.5) * length / cells) for cell in range(cells)]
    assert max(abs(one - other) for one, other in middles) <= step / 2


STEMS: dict[str, Any] = {
    "dilated": nn.Conv2d(3, 2, 8, 8, dilation=2),
    "far dilated": nn.Conv2d(3, 2, 4, 4, dilation=3),
    "dilated and padded": nn.Conv2d(3, 2, 3, 4, padding=4, dilation=4),
    "pooled": nn.Sequential(nn.Conv2d(3, 2, 4, 4), nn.AvgPool2d(2)),
    "pooled before": nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 2, 4, 4)),
    "overlapping pool": nn.Sequential(nn.Conv2d(3, 2, 1), nn.AvgPool2d(9, 4)),
    "pooled by steps": nn.Sequential(nn.Conv2d(3, 2, 5), nn.AvgPool2d(8)),
    "pooled as in ResNet": nn.Sequential(nn.Conv2d(3, 2, 7, 2, 3), nn.Tanh(), nn.AvgPool2d(3, 2, 1)),
    "two convolutions": nn.Sequential(nn.Conv2d(3, 2, 3, 2), nn.Tanh(), nn.Conv2d(2, 2, 3, 2)),
    "padded between": nn.Sequential(nn.Conv2d(3, 20, 4, 4), nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(20, 2, 2, 2)),
    "four convolutions": nn.Sequential(*(nn.Conv2d(3, 3, 3, 2, 1) for _ in range(4))),
    "the strongest of each pool": nn.Sequential(nn.Conv2d(3, 2, 4, 4), nn.MaxPool2d(2)),
}


class Watched(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.patches = Patches()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.patches.see(func, args, kwargs or {}, result)
        return result


@pytest.mark.parametrize("length", [64, 70, 75, 85])
@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.filterwarnings("ignore:The model reads:UserWarning")
def test_cells_lie_where_they_read(stem: str, length: int) -> None:
    """Or a warning says so. The middle of what a cell reads is that of its gradient, on an image wide enough to hold it."""
    wide = 64  # pixels on either side
    image = torch.rand(1, 3, length, length)
    with Watched() as watched:
        cells = STEMS[stem](image).shape[-1]
    said = watched.patches.metadata
    around = torch.rand(1, 3, length + 2 * wide, length + 2 * wide, requires_grad=True)
    read = STEMS[stem](around)
    step = (wide * 2) // (read.shape[-1] - cells)
    begin, middles = wide // step, []
    for cell in range(begin, begin + cells):
        (gradient,) = torch.autograd.grad(read[0, :, cell, begin].sum(), around, retain_graph=True)
        rows = gradient.abs().sum((0, 1, 3)).nonzero()[:, 0].double()
        middles.append(float(rows.min() + rows.max() + 1) / 2 - wide)
    if "at places that are unknown" in said.get("patches", ""):
        return
    height, _ = covered_size(said, (cells, cells), (length, length))
    away = max(abs((cell + 0.5) * height / cells - middle) for cell, middle in enumerate(middles))
    assert away <= step / 2


def test_steps_far_smaller_than_a_kernel_have_unknown_places() -> None:
    assert seen(torch.ones(1, 1, 40, 40), 16, stride=4) == {"patches": "7×7 patches in 40×40, at places that are unknown"}


def test_other_convolutions_cut_no_patches() -> None:
    assert not seen(torch.ones(1, 1, 83, 70), 14)
    assert not seen(torch.ones(1, 1, 84, 70), 13, (1, 1, 1, 1), padding="same")


def test_patches_that_divide_an_image_are_not_noted() -> None:
    assert not seen(torch.ones(1, 1, 28, 70), 14, stride=14)
    assert not seen(torch.ones(1, 1, 28, 70), 1, stride=1)


def test_each_kind_of_patch_is_noted_once() -> None:
    patches, weight = Patches(), torch.ones(1, 1, 4, 4)
    for size in (9, 9, 10):
        image = torch.ones(1, 1, size, 8)
        patches.see(F.conv2d, (image, weight, None, 4), {}, F.conv2d(image, weight, None, 4))
    assert patches.metadata["patches"] == "2×2 patches of 4×4 pixels in 9×8; 2×2 patches of 4×4 pixels in 10×8"
