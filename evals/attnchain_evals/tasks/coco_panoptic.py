"""COCO panoptic: photographs whose every pixel belongs to a thing or to stuff."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from attnchain_evals.tasks.image_folder import files_digest, open_image
from attnchain_evals.tasks.published_files import Record, check_folder, contents, whole_record
from attnchain_interp import AttentionError
from attnchain_interp.reprs import counted, with_fields

WANTED: Final = "the published panoptic_{split}.json: images, annotations with segments_info, categories"
NOBODY: Final = -1
"""The class and the segment of a pixel that nobody labelled."""


class Panoptic(NamedTuple):
    """A photograph (3, height, width), uint8, and what its pixels belong to.

    Attributes:
        image: the photograph.
        mask: (2, height, width) the number of each pixel's class, and of its segment; −1 where nobody labelled it.
    """

    image: Tensor
    mask: Tensor

    def __repr__(self) -> str:
        return with_fields(self)


@final
class CocoPanoptic:
    """The photographs of a split with their classes and segments, read on demand.

    `annotations/panoptic_SPLIT.json` stands beside the folder `annotations/panoptic_SPLIT/` of PNG files, as the published
    archives unpack, and both beside the folder `SPLIT/` of photographs. The classes are the 27 groups of categories that the
    JSON calls supercategories: those of COCO-Stuff-27.

    Args:
        folder: that holds `annotations/` and `SPLIT/`.
        split: "val2017" or "train2017".

    Raises:
        AttentionError: a folder of another layout. On reading a photograph: a map of another size, or segments in it that the
            JSON lacks.

    Source: Kirillov, He, Girshick, Rother & Dollár, *Panoptic Segmentation*, CVPR 2019; Lin et al., COCO, ECCV 2014.
    """

    def __init__(self, folder: str | Path, split: str = "val2017") -> None:
        self._root, self.split = Path(folder), split
        check_folder(self._root, f"Pass the folder that holds annotations/ and {split}/.")
        self._file = self._root / "annotations" / f"panoptic_{split}.json"
        self._maps, self._images = self._file.with_suffix(""), self._root / split
        missing = [path for path in (self._file, self._maps, self._images) if not path.exists()]
        if missing:
            found = ", ".join(f"{each} holds {contents(each)}" for each in (self._root, self._file.parent) if each.is_dir())
            raise AttentionError(
                f"{found}; {missing[0].relative_to(self._root).as_posix()} is wanted.",
                f"Unpack the photographs of {split} there, the panoptic annotations, and the archive of PNG files in these.",
            )
        whole = whole_record(self._file, WANTED.format(split=split))
        groups = {each.field("id", int): each.text("supercategory") for each in whole.parts("categories")}
        self.classes = sorted(set(groups.values()))
        self._class_of = {category: self.classes.index(group) for category, group in groups.items()}
        names = {each.field("id", int): each.text("file_name") for each in whole.parts("images")}
        self._rows = [(names.get(each.field("image_id", int)), each) for each in whole.parts("annotations")]
        if not self._rows:
            raise whole.refusal("has no annotation")
        for name, row in self._rows:
            if name is None:
                raise row.refusal("is of an image that is not listed")

    def __repr__(self) -> str:
        return f"CocoPanoptic({str(self._root)!r}, {self.split}: {counted(len(self), 'image')})"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The sha256 of the JSON, and of the names and contents of the photographs and maps that are there."""
        files = [each for name, row in self._rows for each in (self._images / str(name), self._maps / row.text("file_name"))]
        return {
            "name": "CocoPanoptic",
            "sha256": files_digest((self._file, *filter(Path.is_file, files)), self._root),
            "split": self.split,
            "length": len(self),
        }

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Panoptic:
        name, row = self._rows[index]
        image = np.asarray(open_image(self._images / str(name)))
        found = self._maps / row.text("file_name")
        numbers = np.asarray(open_image(found)).astype(np.int64) @ (1, 256, 256**2)
        if numbers.shape != image.shape[:2]:
            raise AttentionError(
                f"{found} has {numbers.shape[1]} × {numbers.shape[0]} pixels, and its photograph {image.shape[1]} ×"
                f" {image.shape[0]}.",
                "Put the published files there.",
            )
        return Panoptic(torch.from_numpy(image.copy()).permute(2, 0, 1), torch.from_numpy(self._labelled(row, numbers)))

    def _labelled(self, row: Record, numbers: Any) -> Any:
        """Returns the class and the segment (2, height, width) of a map of the numbers of segments; 0 is nobody's."""
        categories = {each.field("id", int): each.field("category_id", int) for each in row.parts("segments_info")}
        there, places = np.unique(numbers, return_inverse=True)
        unknown = [int(number) for number in there if number and categories.get(int(number)) not in self._class_of]
        if unknown:
            raise row.refusal(f"has no category for the segment {unknown[0]} of its map")
        classes = [self._class_of[categories[int(number)]] if number else NOBODY for number in there]
        segments = np.where(there == 0, NOBODY, np.arange(len(there)))
        return np.stack([np.array(classes)[places], segments[places]]).reshape(2, *numbers.shape)
