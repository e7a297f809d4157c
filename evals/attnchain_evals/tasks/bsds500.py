"""BSDS500: photographs, each with the segmentations of several people."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, final, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnchain_evals.tasks.digest import digest
from attnchain_evals.tasks.image_folder import images_in, open_image
from attnchain_evals.tasks.mask_placement import pixels_of, pixels_seen
from attnchain_evals.tasks.published_files import check_folder, contents
from attnchain_interp import AttentionError
from attnchain_interp.checks import check_one_of
from attnchain_interp.reprs import counted, with_fields

Part = Literal["train", "validation", "test"]
_FOLDERS: Final[dict[Part, str]] = {"train": "train", "validation": "val", "test": "test"}


class Segmented(NamedTuple):
    """An image (channel, height, width) with its segmentations (person, height, width): the number of each pixel's segment."""

    image: Tensor
    segmentations: Tensor

    def __repr__(self) -> str:
        return with_fields(self)


@final
class BSDS500:
    """The photographs and segmentations of one split, read on demand.

    `images/{train,val,test}/NAME.jpg` stand beside `groundTruth/{train,val,test}/NAME.mat`, as published. A file of MATLAB
    holds one cell for each person, with the segment of each pixel in `Segmentation`.

    Args:
        folder: that holds `images/` and `groundTruth/`, or the published folder above it, whose `data/` does.
        preprocess: a PIL image → the model's input (1, channel, height, width). Segmentations are resized and cropped like the
            image.
        split: "train", "validation" (the folder `val`) or "test".

    Raises:
        AttentionError: a folder of another layout, or an image without its segmentations. On reading an image: a file of
            another structure, or segmentations of another size than the image.

    Source: Arbeláez, Maire, Fowlkes & Malik, *Contour Detection and Hierarchical Image Segmentation*, TPAMI 2011.
    """

    def __init__(self, folder: str | Path, preprocess: Callable[[Any], Tensor], split: Part = "test") -> None:
        check_one_of("split", split, get_args(Part))
        root = Path(folder)
        check_folder(root, "Pass the folder BSDS500/data.")
        root = root / "data" if (root / "data" / "images").is_dir() else root
        images, self._truth = root / "images" / _FOLDERS[split], root / "groundTruth" / _FOLDERS[split]
        if not images.is_dir() or not self._truth.is_dir():
            wanted = f"images/{_FOLDERS[split]}/ and groundTruth/{_FOLDERS[split]}/"
            raise AttentionError(f"{root} holds {contents(root)}; {wanted} are wanted.", "Pass the folder BSDS500/data.")
        self.files = images_in(images)
        bare = [file for file in self.files if not self._mat(file).is_file()]
        if bare:
            raise AttentionError(
                f"{len(bare)} of {len(self.files)} images have no segmentations; the first is {bare[0]}.",
                f"Add {self._mat(bare[0])}.",
            )
        self.split, self._folder, self._preprocess = split, folder, preprocess
        self._seen: dict[tuple[int, int], Tensor] = {}  # size of a photograph → `pixels_seen`; the set has two sizes

    def __repr__(self) -> str:
        return f"BSDS500({str(self._folder)!r}, {self.split}: {counted(len(self), 'image')})"

    @property
    def identity(self) -> dict[str, Any]:
        """The sha256 of all names and contents, and of the first image after preprocessing."""
        found = hashlib.sha256()
        for file in (*self.files, *map(self._mat, self.files)):
            found.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
        return {"name": "BSDS500", "sha256": found.hexdigest(), "first": digest(self[0].image), "length": len(self)}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Segmented:
        file = self.files[index]
        opened = open_image(file)
        truth = segmentations(self._mat(file))
        if truth.shape[1:] != opened.size[::-1]:
            raise AttentionError(
                f"{self._mat(file)} has segmentations of {truth.shape[2]} × {truth.shape[1]} pixels, and {file} has"
                f" {opened.width} × {opened.height}.",
                "Replace one of them by the published file.",
            )
        if opened.size not in self._seen:
            self._seen[opened.size] = pixels_seen(opened.size, self._preprocess)
        rows, columns = self._seen[opened.size]
        return Segmented(pixels_of(self._preprocess, opened), torch.from_numpy(truth)[:, rows, columns])

    def _mat(self, file: Path) -> Path:
        return self._truth / f"{file.stem}.mat"


def segmentations(path: Path) -> NDArray[np.int64]:
    """Returns the segmentations (person, height, width) in a file of BSDS500."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    fix = "Replace it by the published file: a cell groundTruth, each with a Segmentation (height, width)."
    try:
        cells = loadmat(path, simplify_cells=True)["groundTruth"]
        cells = list(cells) if isinstance(cells, np.ndarray | list) else [cells]
        found = [np.asarray(cell["Segmentation"]) for cell in cells]
    except (OSError, MatReadError, zlib.error, ValueError, KeyError, TypeError, IndexError, NotImplementedError) as error:
        raise AttentionError(f"{path} holds no segmentations of BSDS500 ({type(error).__name__}: {error}).", fix) from error
    shapes = {labels.shape for labels in found}
    if (
        len(shapes) != 1
        or len(next(iter(shapes))) != 2
        or not all(np.issubdtype(labels.dtype, np.integer) for labels in found)
    ):
        raise AttentionError(f"{path} has segmentations of the shapes {sorted(shapes)}.", fix)
    return np.stack(found).astype(np.int64)
