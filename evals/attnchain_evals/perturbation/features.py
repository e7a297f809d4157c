"""Features are removed as a whole: patches, pixels or superpixels of an image, tokens or words of a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_evals.perturbation.label_map import label_map
from attnchain_evals.perturbation.patches import Patches, enlarged, extent, fitted, pooled
from attnchain_interp import AttentionError
from attnchain_interp.checks import check_whole_number

Features = Literal["auto", "patch", "pixel", "token", "word"] | tuple[int, int] | Tensor | Callable[[Tensor], Tensor]
"""The model's patches or tokens, cells of the attributions' grid, pixels, tokens, words (only in a `Trial`), a grid (rows,
columns), a label map (batch, height, width) or (batch, token), or a callable inputs → label map."""


class Ranked(NamedTuple):
    """The features of a batch, with their scores.

    Attributes:
        scores: (batch, feature). Entries beyond the example's own number of features have no meaning.
        labels: (batch, height, width) the feature of each pixel, or (batch, token) the feature of each token. A token with −1
            belongs to no feature and is never removed.
        sizes: (batch,) the number of features of each example.
        named: the features in words: "14 × 14 patches".
    """

    scores: Tensor
    labels: Tensor
    sizes: Tensor
    named: str

    @property
    def present(self) -> Tensor:
        """(batch, feature) bool: true for the features that an example has."""
        return torch.arange(self.scores.shape[1], device=self.sizes.device) < self.sizes[:, None]

    def ranks(self, order: Literal["morf", "lerf"]) -> Tensor:
        """Returns the place of each feature in the order (batch, feature). Equal scores keep raster order."""
        descending = order == "morf"
        scores = self.scores.masked_fill(~self.present, -torch.inf if descending else torch.inf)
        return scores.argsort(dim=1, descending=descending, stable=True).argsort(1)

    @property
    def tied(self) -> Tensor:
        """(batch,) bool: true where two features of an example have the same score."""
        return (self.scores.masked_fill(~self.present, torch.inf).sort(1).values.diff(dim=1) == 0).any(1)

    def shuffled(self, seed: int, first: int) -> Ranked:
        """Returns the features with random scores. Those of an example depend on the seed and its number, from `first` on."""
        count, features = self.scores.shape
        rows = [np.random.default_rng([seed, first + example]).random(features) for example in range(count)]
        return self._replace(scores=torch.from_numpy(np.stack(rows)).to(self.scores.device))


def ranked(attributions: Tensor, inputs: Tensor, features: Features = "patch", patches: Patches | None = None) -> Ranked:
    """Returns the features of images or texts, with the scores that the attributions give them.

    "patch": each cell of the attributions is a feature, and owns the pixels nearest to it. Cells of the model's grid lie where
    its patches do; others are spread over the image. "pixel": each pixel is a feature, scored by the attributions enlarged
    bilinearly. A cell of a grid (rows, columns), and a region of a label map of images, have the mean score of their pixels.
    "token": each token is a feature. A word of a label map of texts has the sum of the scores of its tokens.

    Args:
        attributions: (batch, rows, columns) for images, (batch, token) for texts.
        inputs: (batch, channel, height, width), or token numbers (batch, token).
        features: "patch", "pixel" or "token", a grid (rows, columns), a label map of integers, or a callable inputs → label
            map. A label map is (batch, height, width), or (batch, token) with −1 for tokens that are never removed.
        patches: of the model; None where they are not known.
    """
    if inputs.ndim == 2:
        return _ranked_text(attributions, inputs, features)
    images = inputs
    if images.ndim != 4 or attributions.ndim != 3 or len(attributions) != len(images):
        raise AttentionError(
            f"attributions has shape {tuple(attributions.shape)} for {len(images)} inputs of shape {tuple(images.shape[1:])};"
            " images need attributions (batch, rows, columns), one per patch.",
            'Ask the method for output="grid".',
        )
    attributions = _finite(attributions).to(images.device)
    size = images.shape[-2:]
    if isinstance(features, str | tuple):
        if isinstance(features, str) and features not in ("patch", "pixel"):
            raise AttentionError(
                f"features={features!r} are not features of an image.",
                'Use "patch", "pixel", a grid (rows, columns), a label map or a callable.',
            )
        cells = attributions if features == "patch" else enlarged(attributions, size, patches)
        if isinstance(features, tuple):
            check_grid(features, size)
            cells = pooled(cells, features, patches)
        rows, columns = cells.shape[1:]
        if rows > size[0] or columns > size[1]:
            raise AttentionError(
                f"attributions of {rows} × {columns} cells are finer than images of {size[0]} × {size[1]} pixels.",
                "Pass attributions with at most one score per pixel.",
            )
        numbers = torch.arange(rows * columns, dtype=torch.float64, device=images.device).view(1, 1, rows, columns)
        spread = F.interpolate(numbers, extent((rows, columns), size, patches))[0].long()
        labels = fitted(spread, size).expand(len(images), -1, -1)
        unit = "pixels" if (rows, columns) == tuple(size) else "patches"
        if unit == "patches" and tuple(attributions.shape[1:]) == tuple(size):
            unit = f"patches, the means of {size[0]} × {size[1]} pixels"
        sizes = torch.full((len(images),), rows * columns, device=images.device)
        return Ranked(cells.flatten(1), labels, sizes, f"{rows} × {columns} {unit}")
    labels = label_map(features, images)
    found = _summed(enlarged(attributions, size, patches), labels, "regions of a label map")
    areas = _summed(torch.ones_like(attributions[:, :1, :1]).expand(labels.shape), labels, "").scores
    return found._replace(scores=found.scores / areas.clamp_min(1))


def _ranked_text(attributions: Tensor, texts: Tensor, features: Features) -> Ranked:
    if attributions.shape != texts.shape:
        raise AttentionError(
            f"attributions has shape {tuple(attributions.shape)} for texts {tuple(texts.shape)}, not one score per token.",
            'Ask the method for output="tokens".',
        )
    attributions = _finite(attributions).to(texts.device)
    if isinstance(features, tuple) or (isinstance(features, str) and features != "token"):
        raise AttentionError(
            f"features={features!r} are not features of a text.",
            'Use "token", or a label map (batch, token) of words: `words_of(encoding)`.',
        )
    if isinstance(features, str):
        labels = torch.arange(texts.shape[1], device=texts.device).expand(texts.shape)
    else:
        labels = label_map(features, texts)
    named = "tokens" if isinstance(features, str) else "groups of tokens"
    return _summed(attributions, labels, named)


def words_of(encoding: Any) -> Tensor:
    """Returns the word of each token (batch, token), numbered from 0. Special tokens and padding have −1.

    Args:
        encoding: of a text, or of texts of one length, by a fast tokenizer of transformers.

    Raises:
        AttentionError: the encoding does not know its words, or its texts differ in length.
    """
    try:
        rows = [text.word_ids for text in encoding.encodings]
    except (AttributeError, TypeError, ValueError) as error:
        raise AttentionError(
            f"{type(encoding).__name__} knows no words ({error}).", "Encode the texts with a fast tokenizer."
        ) from error
    if len(lengths := {len(row) for row in rows}) > 1:
        raise AttentionError(f"encoding has texts of {sorted(lengths)} tokens.", "Encode with padding=True, or one by one.")
    numbers = [{word: k for k, word in enumerate(dict.fromkeys(word for word in row if word is not None))} for row in rows]
    return torch.tensor([[found.get(word, -1) for word in row] for row, found in zip(rows, numbers, strict=True)])


def each_token(words: Tensor) -> Tensor:
    """Returns a label map (batch, token) in which each token of a word is a feature. The other tokens have −1.

    >>> each_token(torch.tensor([[-1, 0, 0, 1, -1]]))
    tensor([[-1,  0,  1,  2, -1]])
    """
    there = words >= 0
    return (there.cumsum(1) - 1).masked_fill(~there, -1)


@final
@dataclass(frozen=True)
class Superpixels:
    """A callable that turns images into label maps (batch, height, width) of SLIC superpixels, numbered from 0.

    Attributes:
        count: the approximate number per image; images differ.
        compactness: the weight of nearness against colour.

    Source: Achanta et al., *SLIC Superpixels*, TPAMI 2012, by scikit-image.
    """

    count: int = 50
    compactness: float = 10.0

    def __post_init__(self) -> None:
        check_whole_number("count", self.count, "the approximate number of superpixels of an image")

    def __call__(self, images: Tensor) -> Tensor:
        from skimage.segmentation import slic

        maps = []
        for image in images.cpu().double().permute(0, 2, 3, 1).numpy():
            low, high = image.min(), image.max()
            scaled = (image - low) / max(high - low, np.finfo(float).tiny)  # SLIC's compactness is meant for colours in [0, 1]
            found = slic(
                scaled, self.count, self.compactness, start_label=0, convert2lab=image.shape[-1] == 3, channel_axis=-1
            )
            maps.append(np.unique(found, return_inverse=True)[1].reshape(found.shape))
        return torch.from_numpy(np.stack(maps)).to(images.device)


def _finite(attributions: Tensor) -> Tensor:
    if not bool(attributions.isfinite().all()):
        bad = int((~attributions.isfinite()).flatten(1).any(1).sum())
        raise AttentionError(f"{bad} attributions hold NaN or infinity.", "Leave these examples out.")
    return attributions


def check_grid(grid: tuple[int, int], size: Sequence[int]) -> None:
    """Refuses a grid (rows, columns) that is finer than images of `size` (height, width)."""
    if len(grid) != 2 or not all(isinstance(n, int) and 0 < n <= pixels for n, pixels in zip(grid, size, strict=True)):
        raise AttentionError(
            f"features={grid!r} is not a grid of images of {size[0]} × {size[1]} pixels.",
            "Pass (rows, columns), at most one cell for each pixel: features=(14, 14).",
        )


def _summed(attributions: Tensor, labels: Tensor, named: str) -> Ranked:
    """Returns features, each scored by the sum of the attributions at its places."""
    flat = labels.flatten(1)
    sizes = flat.amax(1) + 1
    zeros = attributions.new_zeros(len(labels), int(sizes.max()), dtype=torch.float64)
    values = attributions.flatten(1).double().masked_fill(flat < 0, 0)
    return Ranked(zeros.scatter_add(1, flat.clamp_min(0), values), labels, sizes, named)
