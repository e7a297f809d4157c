"""Data as a benchmark reads them: examples by number or in order, cut into batches that are always the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, final

import torch
from torch import Tensor

from attnchain_evals.bench.fingerprint import digest
from attnchain_evals.tasks.mask_placement import placed
from attnchain_interp import AttentionError
from attnchain_interp.reprs import with_fields

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


class Examples(Protocol):
    """Examples by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


Data = Examples | Iterable[Any]


class Picture(NamedTuple):
    """An image (channel, height, width); the mask (height, width) of its object and the number of its class, where known."""

    image: Tensor
    mask: Tensor | None = None
    label: int | None = None


class Passage(NamedTuple):
    """A text (token,), and where they are known the word of each token, −1 where it is not ranked, and the evidence (bool)."""

    input_ids: Tensor
    words: Tensor | None = None
    evidence: Tensor | None = None

    def __repr__(self) -> str:
        return with_fields(self)


class Batch(NamedTuple):
    """Consecutive examples.

    Attributes:
        number: of the batch.
        first: number of its first example.
        inputs: (batch, channel, height, width) images, or (batch, token) texts.
        masks: (batch, height, width) or (batch, token) bool, or None.
        labels: (batch,) classes as the data say, or None.
        words: (batch, token) of texts, or None.
    """

    number: int
    first: int
    inputs: Tensor
    masks: Tensor | None
    labels: Tensor | None = None
    words: Tensor | None = None


class _Example(NamedTuple):
    inputs: Tensor
    mask: Tensor | None = None
    label: Tensor | None = None
    words: Tensor | None = None


@final
class ImageFolder:
    """The images of a folder, read when they are asked for; with masks where the folder holds `images/` and `masks/`.

    A mask is an image of the same relative name, whatever its suffix, white on the object; it goes through the same
    resizing and cropping as the image.

    Args:
        folder: images at any depth, in the order of their names.
        preprocess: a PIL image → the model's input (1, channel, height, width).

    Raises:
        AttentionError: no image, or masks for some of the images only.
    """

    def __init__(self, folder: str | Path, preprocess: Callable[[Any], Tensor]) -> None:
        root = Path(folder)
        self._root = root / "images" if (root / "images").is_dir() else root
        self.files = sorted(file for file in self._root.rglob("*") if file.suffix.lower() in SUFFIXES)
        if not self.files:
            raise AttentionError(f"{self._root} holds no image ({', '.join(sorted(SUFFIXES))}).")
        self._preprocess = preprocess
        self._masks = _by_stem(root / "masks") if self._root != root and (root / "masks").is_dir() else None
        if self._masks is not None:
            bare = [file for file in self.files if self._stem(file) not in self._masks]
            if bare:
                raise AttentionError(f"{len(bare)} of {len(self.files)} images have no mask; the first is {bare[0]}.")

    def __repr__(self) -> str:
        return f"ImageFolder({str(self._root)!r}: {len(self)} images{', with masks' if self._masks is not None else ''})"

    @property
    def identity(self) -> dict[str, Any]:
        """The sha256 of all names and contents, and of the first image as it is preprocessed."""
        found = hashlib.sha256()
        for file in (*self.files, *(self._masks or {}).values()):
            found.update(file.relative_to(self._root.parent).as_posix().encode() + hashlib.sha256(file.read_bytes()).digest())
        return {"name": "ImageFolder", "sha256": found.hexdigest(), "first": digest(self[0].image), "length": len(self)}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Picture:
        file = self.files[index]
        image = self._preprocess(_opened(file))[0]
        if self._masks is None:
            return Picture(image)
        return Picture(image, placed(_opened(self._masks[self._stem(file)]), self._preprocess))

    def _stem(self, file: Path) -> str:
        return file.relative_to(self._root).with_suffix("").as_posix()


def batches(data: Data, batch_size: int, limit: int | None, wanted: Callable[[int, int | None], bool]) -> Iterator[Batch]:
    """The wanted batches. Batch b holds the examples b·batch_size and on, whoever asks for it.

    Args:
        data: a sequence (`len` and numbers), of which only wanted examples are read; or any iterable, read in order. An
            example is an image, a tuple of an image and perhaps its label, or has `image` and perhaps `mask` and `label`, or
            `input_ids` and perhaps `words` and `evidence`, as `Passage`; all texts of a batch are equally long.
        wanted: number of the batch, how many examples it holds (None: not known yet) → whether it is.
    """
    total = size_of(data, limit)
    if total is None:
        stream, number = islice(data, limit), 0  # type: ignore[arg-type] - no sequence, so an iterable
        while rows := list(islice(stream, batch_size)):
            if wanted(number, len(rows)):
                yield _stacked(number, number * batch_size, rows)
            number += 1
        return
    for number, first in enumerate(range(0, total, batch_size)):
        size = min(batch_size, total - first)
        if wanted(number, size):
            yield _stacked(number, first, [data[k] for k in range(first, first + size)])  # type: ignore[index]


def size_of(data: Any, limit: int | None) -> int | None:
    """How many examples there are, within the limit; None of data that are read in order."""
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        return None
    return len(data) if limit is None else min(limit, len(data))


def data_identity(data: Any) -> dict[str, Any]:
    """What the data say of themselves.

    Raises:
        AttentionError: they say nothing, so that rows could not be told from those of other data.
    """
    found = getattr(data, "identity", None)
    if found is None:
        raise AttentionError(
            f"the data ({type(data).__name__}) have no `identity`, so kept rows could not be told from those of other data."
            " Give them one: anything JSON can hold that changes whenever the examples do, such as a digest of the files."
        )
    return found


def _stacked(number: int, first: int, rows: list[Any]) -> Batch:
    parts = [_example(row) for row in rows]
    lengths = {tuple(part.inputs.shape) for part in parts}
    if len(lengths) > 1:
        raise AttentionError(
            f"batch {number} has inputs of the shapes {sorted(lengths)}; give them one shape, or batch_size=1."
        )
    fields = (_all_or_none(number, what, [getattr(part, what) for part in parts]) for what in ("mask", "label", "words"))
    return Batch(number, first, torch.stack([part.inputs for part in parts]), *fields)


def _all_or_none(number: int, what: str, fields: list[Tensor | None]) -> Tensor | None:
    there = [field for field in fields if field is not None]
    if there and len(there) < len(fields):
        raise AttentionError(
            f"batch {number} has {what} for {len(there)} of {len(fields)} examples; give all of them, or none."
        )
    return torch.stack(there) if there else None


def _example(row: Any) -> _Example:
    if hasattr(row, "image"):
        return _Example(row.image, getattr(row, "mask", None), _label(getattr(row, "label", None)))
    if hasattr(row, "input_ids"):
        return _Example(row.input_ids, getattr(row, "evidence", None), words=getattr(row, "words", None))
    image, *rest = row if isinstance(row, tuple | list) and row else (row,)
    if not isinstance(image, Tensor) or image.ndim != 3:
        raise AttentionError(
            f"an example is {type(row).__name__}; it must be an image (channel, height, width), begin with one, or have"
            " `image` or `input_ids`."
        )
    return _Example(image, label=_label(rest[0]) if rest and isinstance(rest[0], int) else None)


def _label(number: Any) -> Tensor | None:
    return None if number is None else torch.as_tensor(number, dtype=torch.long)


def _by_stem(folder: Path) -> dict[str, Path]:
    files = (file for file in sorted(folder.rglob("*")) if file.suffix.lower() in SUFFIXES)
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def _opened(path: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise AttentionError(f"{path} is not a readable image ({error}).") from error
