"""A folder with one folder for each class: the layout of torchvision's `ImageFolder` and of ImageNet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import Tensor

from attnchain_evals.tasks.digest import digest
from attnchain_evals.tasks.examples import Picture
from attnchain_evals.tasks.image_folder import MASKS, files_digest, images_in, open_image
from attnchain_evals.tasks.mask_placement import pixels_of
from attnchain_interp import AttentionError
from attnchain_interp.reprs import counted

_PARTS: Final = {"train", "val", "validation", "test"}


@final
class ClassFolder:
    """The images of `folder/CLASS/…`, read on demand, with the numbers of their classes.

    Args:
        folder: of the classes' folders, which hold images at any depth, in the order of their paths.
        preprocess: a PIL image → the model's input (1, channel, height, width).
        classes: the folders' names in the order of the model's classes. If None and every name is the WordNet id of a class of
            ImageNet-1k: those 1,000 in their order, so a part of ImageNet keeps its numbers. If None otherwise: the sorted
            names.

    Attributes:
        files: of the images.
        classes: the names in the order of their numbers.
        folders: the names of those that hold images, sorted.
        of_imagenet: whether the numbers are those of ImageNet-1k.
        labels: the number of each image's class.

    Raises:
        AttentionError: no image, an image outside the folders of classes, folders that are no classes (parts of the data, or
            `images` alone), or a folder that `classes` lacks.
    """

    def __init__(self, folder: str | Path, preprocess: Callable[[Any], Tensor], classes: Sequence[str] | None = None) -> None:
        self.files = images_in(Path(folder))
        self._preprocess = preprocess
        names = [file.relative_to(folder).parts for file in self.files]
        loose = [file for file, name in zip(self.files, names, strict=True) if len(name) < 2]
        if loose:
            raise AttentionError(f"{loose[0]} lies in no class's folder.", f"Use the layout {folder}/CLASS/….")
        found = sorted({name[0] for name in names})
        if _PARTS.issuperset(found):
            raise AttentionError(
                f"{folder} holds {', '.join(found)}, which are parts of the data and no classes.",
                f"Pass one of them: {Path(folder) / found[-1]}.",
            )
        if "images" in found and {"images", *MASKS}.issuperset(found):
            raise AttentionError(f"{folder} holds {', '.join(found)} and no classes.", f"Pass {Path(folder) / 'images'}.")
        self.folders = tuple(found)
        self.of_imagenet = classes is None and all(name in synset_classes() for name in found)
        if classes is not None:
            numbers = {name: number for number, name in enumerate(classes)}
        elif self.of_imagenet:
            numbers = synset_classes()
        else:
            numbers = {name: number for number, name in enumerate(found)}
        lacking = [name for name in found if name not in numbers]
        if lacking:
            raise AttentionError(
                f"{folder} has {counted(len(lacking), 'folder')} of no class; the first is {lacking[0]!r}. The classes are"
                f" {', '.join([*numbers][:5])}{' …' if len(numbers) > 5 else ''}.",
                "Remove these folders, or pass the names of all classes in the order of the model: classes=….",
            )
        self.classes = tuple(sorted(numbers, key=lambda name: numbers[name]))
        self.labels = [numbers[name[0]] for name in names]
        self._folder = folder

    def __repr__(self) -> str:
        return f"ClassFolder({str(self._folder)!r}: {counted(len(self), 'image')} of {len(set(self.labels))} classes)"

    @property
    def identity(self) -> dict[str, Any]:
        """The sha256 of all names and contents, of the first image after preprocessing, and of the labels."""
        sha256, labels = files_digest(self.files, Path(self._folder).parent), digest(torch.tensor(self.labels))
        first = digest(self[0].image)
        return {"name": "ClassFolder", "sha256": sha256, "first": first, "length": len(self), "labels": labels}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Picture:
        return Picture(pixels_of(self._preprocess, open_image(self.files[index])), label=self.labels[index])


@cache
def synset_names() -> dict[str, str]:
    """Returns the words of the 21,841 classes of ImageNet-22k, by WordNet id."""
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo("imagenet-22k")
    return {synset: info.label_name_to_description(synset) for synset in info.label_names()}


@cache
def synset_classes() -> dict[str, int]:
    """Returns the number that models give each of the 1,000 classes of ImageNet-1k, by WordNet id."""
    from timm.data.imagenet_info import ImageNetInfo

    return {synset: index for index, synset in enumerate(ImageNetInfo("imagenet-1k").label_names())}
