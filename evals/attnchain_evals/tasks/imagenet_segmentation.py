"""ImageNet-Segmentation: 4,276 images of ImageNet with the masks of their objects, in one published file."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attnchain_evals.tasks.class_folder import synset_names
from attnchain_evals.tasks.digest import digest, sha256
from attnchain_evals.tasks.examples import Picture
from attnchain_evals.tasks.mask_placement import pixels_of, placed
from attnchain_interp import AttentionError

SOURCE = "http://calvin-vision.net/bigstuff/proj-imagenet/data/gtsegs_ijcv.mat"


@final
class ImageNetSegmentation:
    """The images and masks of `gtsegs_ijcv.mat`, read on demand.

    The file is a MATLAB 7.3 file, that is HDF5. The group `value` has one row of references per image: `img` to pixels
    (3, width, height), `gt` to a cell whose first entry refers to a mask (width, height) that is 1 on the object, `target` to
    the WordNet id of the class, `id` to the image's name. Only the first mask is read, like in every published evaluation.

    Args:
        path: of the file.
        preprocess: a PIL image → the model's input (1, channel, height, width). The mask is resized and cropped like the image
            (see `placed`). `WholeImage(preprocess)` is the published protocol: nothing is cropped, and the mask is resized by
            nearest neighbour.

    Raises:
        AttentionError: no such file, or a file of another layout.

    Source: Guillaumin, Küttel & Ferrari, *ImageNet Auto-Annotation with Segmentation Propagation*, IJCV 2014; the code of
    Chefer, Gur & Wolf, CVPR 2021, reads the file in the same way.
    """

    def __init__(self, path: str | Path, preprocess: Callable[[Any], Tensor]) -> None:
        self._path, self._preprocess = Path(path), preprocess
        if not self._path.is_file():
            raise AttentionError(f"there is no file {self._path}.", f"Download gtsegs_ijcv.mat from {SOURCE}.")
        with self._opened() as file:
            rows = {name: file.get(f"value/{name}") for name in ("img", "gt")}
            if any(row is None for row in rows.values()) or len(rows["img"]) != len(rows["gt"]):
                raise AttentionError(
                    f"{self._path} has no value/img and value/gt of one length.", f"Download gtsegs_ijcv.mat from {SOURCE}."
                )
            self._length = len(rows["img"])

    def __repr__(self) -> str:
        return f"ImageNetSegmentation({str(self._path)!r}: {len(self)} images)"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The sha256 of the file, and of the first image after preprocessing."""
        first = digest(self[0].image)
        return {"name": "ImageNetSegmentation", "sha256": sha256(self._path), "first": first, "length": self._length}

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Picture:
        from PIL import Image

        pixels, mask = self.arrays(index)
        image = pixels_of(self._preprocess, Image.fromarray(pixels).convert("RGB"))
        return Picture(image, placed(Image.fromarray(np.uint8(255) * mask), self._preprocess))

    def arrays(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Returns the image (height, width, 3) and the mask (height, width) of the file."""
        row = self._row(index)
        with self._opened() as file:
            pixels = np.asarray(file[file["value/img"][row, 0]])
            mask = np.asarray(file[file[file["value/gt"][row, 0]][0, 0]])
        if pixels.ndim != 3 or pixels.dtype != np.uint8 or mask.shape != pixels.shape[1:]:
            raise AttentionError(
                f"image {index} of {self._path} is {pixels.dtype} {pixels.shape} with a mask {mask.shape}; (3, width, height)"
                " bytes and (width, height) are needed.",
                f"Download gtsegs_ijcv.mat from {SOURCE}.",
            )
        return np.ascontiguousarray(pixels.transpose(2, 1, 0)), np.ascontiguousarray(mask.T > 0)

    def synset(self, index: int) -> str | None:
        """Returns the WordNet id of the image's class ("n01440764"). None if the file names none."""
        row = self._row(index)
        with self._opened() as file:
            targets = file.get("value/target")
            return None if targets is None else "".join(map(chr, np.asarray(file[targets[row, 0]]).ravel()))

    def class_name(self, index: int) -> str | None:
        """Returns the image's class in words ("tench, Tinca tinca"). None if the file names none of ImageNet-22k."""
        return synset_names().get(self.synset(index) or "")

    def _row(self, index: int) -> int:
        if not -self._length <= index < self._length:
            raise IndexError(f"image {index} of {self._length}")
        return index % self._length

    def _opened(self) -> Any:
        """Opens the file anew at each call, because handles of HDF5 do not survive a fork."""
        import h5py

        try:
            return h5py.File(self._path, "r")
        except OSError as error:
            raise AttentionError(
                f"{self._path} is not an HDF5 file of MATLAB 7.3 ({error}).", f"Download gtsegs_ijcv.mat from {SOURCE}."
            ) from error
