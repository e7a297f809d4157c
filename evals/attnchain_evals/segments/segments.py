"""The segments of one photograph, and their files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from attnchain_evals.segments.legend import Entry, with_legend
from attnchain_interp import AttentionError
from attnchain_interp.files import whole, write_text
from attnchain_interp.reprs import counted

ENDINGS: Final = ("-labels.png", "-overlay.jpg", ".npz", ".json")
"""The names of an image's files end so."""


@final
@dataclass(frozen=True, eq=False)
class Segments:
    """The segments of one photograph.

    Attributes:
        image: (height, width, 3) the photograph, uint8.
        labels: (height, width) the number of each pixel's segment, from 1; 0 is the background of an object.
        unrefined: (height, width) the same without refinement.
        memberships: (segment, row, column) shares of each patch, from 0 to 1; of pieces, those of the regions that were cut.
        weights: (segment,) stationary weights: the share of time that an endless walk spends in each; of pieces as
            `memberships`. Empty for objects.
        facts: what else is known, by name: how k was found, eigenvalues, states that were left out.
        scales: number of regions → labels (height, width), where several were asked for.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.int64]
    unrefined: NDArray[np.int64]
    memberships: NDArray[np.float32]
    weights: NDArray[np.float64]
    facts: Mapping[str, Any] = field(default_factory=dict)
    scales: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)

    def __repr__(self) -> str:
        height, width = self.labels.shape
        return f"Segments({counted(sum(label > 0 for label in self.areas), 'segment')} of {width} × {height} pixels)"

    @property
    def areas(self) -> dict[int, float]:
        """The share of the pixels of each label that occurs."""
        labels, counts = np.unique(self.labels, return_counts=True)
        return {int(label): float(count / self.labels.size) for label, count in zip(labels, counts, strict=True)}

    @property
    def overlay(self) -> NDArray[np.uint8]:
        """The photograph under its segments' colours, with white outlines: (height, width, 3)."""
        from PIL import Image

        colours = np.array([_colour(number) for number in range(11)], np.uint8)
        numbers = np.where(self.labels > 0, 1 + (self.labels - 1) % 10, 0)
        mixed = np.array(Image.blend(Image.fromarray(self.image), Image.fromarray(colours[numbers]), 0.4))
        mixed[:-1][self.labels[:-1] != self.labels[1:]] = 255
        mixed[:, :-1][self.labels[:, :-1] != self.labels[:, 1:]] = 255
        return mixed

    @property
    def picture(self) -> NDArray[np.uint8]:
        """The overlay, and below it the name, the colour and the share of the pixels of each segment: (more, width, 3)."""
        names = {0: "background", 1: self.facts.get("segment", "segment 1")}
        areas = sorted(self.areas.items(), key=lambda area: (area[0] == 0, area[0]))
        entries = [Entry(_colour(label), f"{names.get(label, label)}: {share:.0%} of the pixels") for label, share in areas]
        return with_legend(self.overlay, entries, self.facts.get("from", ()))

    def write(self, folder: str | Path, name: str, told: Mapping[str, Any] | None = None) -> list[Path]:
        """Writes NAME-labels.png, NAME-overlay.jpg, NAME.npz and NAME.json into a folder.

        The NPZ holds `memberships`, `unrefined` and, of each of the scales, `labels_K`. Each file is written whole or not at
        all, and the JSON last, so where it stands the others do.

        Args:
            folder: made if it is not there.
            name: the beginning of the files' names.
            told: further entries of the JSON.

        Raises:
            AttentionError: the disk is full or fails.
        """
        from PIL import Image

        folder = Path(folder)
        files = [folder / f"{name}{ending}" for ending in ENDINGS]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with whole(files[0]) as path:
                Image.fromarray(self.labels.astype(np.uint8 if self.labels.max() < 256 else np.uint16)).save(path)
            with whole(files[1]) as path:
                Image.fromarray(self.picture).save(path, quality=90)
            with whole(files[2]) as path:
                scales: dict[str, Any] = {f"labels_{k}": labels.astype(np.uint16) for k, labels in self.scales.items()}
                unrefined = self.unrefined.astype(np.uint16)
                np.savez_compressed(path, memberships=self.memberships, unrefined=unrefined, **scales)
        except OSError as error:
            raise AttentionError(
                f"{folder} cannot be written ({error}).", "Free some space, or name another folder."
            ) from error
        text = {**(told or {}), **self.facts, "areas": self.areas, "weights": self.weights.tolist()}
        write_text(files[3], json.dumps(text, indent=1, ensure_ascii=False))
        return files


def _colour(label: int) -> tuple[int, int, int]:
    """Returns the colour of a label: grey for the background, and ten others in turn."""
    from matplotlib.colors import TABLEAU_COLORS, to_rgb

    red, green, blue = to_rgb([*TABLEAU_COLORS.values()][(label - 1) % 10] if label else "0.2")
    return round(255 * red), round(255 * green), round(255 * blue)
