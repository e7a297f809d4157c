"""What a page holds of the maps: every head while it fits, then means of layers, then their largest entries."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, final

import numpy as np
from numpy.typing import NDArray

from attnchain_interp.explorer.quantising import dequantise, largest, quantise, spread
from attnchain_interp.explorer.reading import Floats, Reading, weights

LEVELS: Final = (255, 127, 63, 45, 31, 22)
COUNTS: Final = (128, 64, 32, 16, 8)
_DENSEST: Final = 20  # entries in a byte that no map is compressed to, or it is better given by its largest entries

What = Literal["heads", "layers", "all", "none"]


@final
@dataclass(frozen=True)
class Held:
    """Maps as a page holds them.

    Attributes:
        what: of every "heads"; the mean of the heads of "layers", once for each weighting; the mean of "all" layers, likewise;
            or "none".
        levels: of the codes; 0 without maps.
        kept: how many entries of each row; 0 for all of them.
        error: the greatest difference of a probability from what was measured.
        sections: the arrays of the page, by name.
    """

    what: What
    levels: int
    kept: int
    error: float
    sections: dict[str, NDArray[Any]]

    @cached_property
    def packed(self) -> dict[str, bytes]:
        return {name: zlib.compress(np.ascontiguousarray(array).tobytes(), 6) for name, array in self.sections.items()}

    @classmethod
    def nothing(cls) -> Held:
        return cls("none", 0, 0, 0.0, {})

    @property
    def name(self) -> str:
        """What this rung holds, for the list of those that did not fit."""
        whose = {"heads": "every head", "layers": "means of each layer", "all": "means of all layers", "none": "no maps"}
        how = f"the {self.kept} largest entries of each row" if self.kept else f"{self.levels + 1} levels"
        return f"{whose[self.what]}, {how}"

    def described(self) -> dict[str, Any]:
        return {"what": self.what, "levels": self.levels, "kept": self.kept, "error": self.error}


@final
class Ladder:
    """The rungs from the fullest page to the sparest, over the maps of a reading.

    Attributes:
        second: |λ₂| of every head, layer after layer.
        vectors: (head, state) stationary vectors of every head.
        means: (weighting, layer, token, state) weighted means of the heads.
    """

    def __init__(self, reading: Reading, room: int) -> None:
        """Reads the maps once, and keeps those of the heads only where they might fit into `room` bytes."""
        entries = sum(layer.heads for layer in reading.store) * len(reading.shown) * len(reading.states)
        second, vectors, means, heads, outer = [], [], [], [], []
        for maps, outside in reading.maps():
            own_second, own_vectors = reading.mixing(maps)
            by = weights(own_second)
            second.append(own_second)
            vectors.append(own_vectors)
            means.append(np.tensordot(by, maps, 1))
            outer.append(np.tensordot(by, outside, 1))
            if entries <= room * _DENSEST:
                heads.append((maps, outside))
        self.second, self.vectors = np.concatenate(second), np.concatenate(vectors)
        self.means, self._outer = np.stack(means, 1), np.stack(outer, 1)
        self._heads = heads

    def rungs(self) -> Iterator[Held]:
        """What a page may hold, each smaller than the one before."""
        if self._heads:
            maps, outer = (np.concatenate(several) for several in zip(*self._heads, strict=True))
            yield from (_dense("heads", maps, outer, levels) for levels in LEVELS)
        layers = np.concatenate(self.means), np.concatenate(self._outer)
        everything = self.means.mean(1), self._outer.mean(1)
        yield from (_dense("layers", *layers, levels) for levels in LEVELS)
        yield from (_sparse("layers", *layers, count) for count in COUNTS if count < layers[0].shape[-1])
        yield from (_dense("all", *everything, levels) for levels in LEVELS)
        yield from (_sparse("all", *everything, count) for count in COUNTS if count < layers[0].shape[-1])
        yield Held.nothing()


def _dense(what: What, maps: Floats, outer: Floats, levels: int) -> Held:
    codes = quantise(maps, levels)
    error = max(float(np.abs(dequantise(code) - one).max()) for code, one in zip(codes, maps, strict=True))
    return Held(what, levels, 0, error, {"maps": codes, "outside": outer})


def _sparse(what: What, maps: Floats, outer: Floats, count: int) -> Held:
    places, values, kept = largest(maps, count)
    codes, kept = quantise(values, LEVELS[0]), kept.astype(np.float32)
    several = zip(places, codes, kept, maps, strict=True)
    error = max(
        float(np.abs(spread(place, code, sums, whole.shape[-1]) - whole).max()) for place, code, sums, whole in several
    )
    sections = {"places": places, "values": codes, "kept": kept, "outside": outer}
    return Held(what, LEVELS[0], count, error, sections)
