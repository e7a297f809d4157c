"""What a page holds of the maps: every head while it fits, then means of layers, then their largest entries."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
        error: the greatest difference of a probability from what was measured.
        sections: the arrays of the page, by name.
    """

    error: float
    sections: dict[str, NDArray[Any]]

    @cached_property
    def packed(self) -> dict[str, bytes]:
        return {name: zlib.compress(np.ascontiguousarray(array).tobytes(), 6) for name, array in self.sections.items()}

    @property
    def size(self) -> int:
        """Bytes of the sections in base64."""
        return sum(4 * -(-len(data) // 3) for data in self.packed.values())


@final
@dataclass(frozen=True)
class Rung:
    """What a page may hold of the maps.

    Attributes:
        what: of every "heads"; the mean of the heads of "layers", once for each weighting; the mean of "all" layers, likewise;
            or "none".
        levels: of the codes.
        kept: how many entries of each row; 0 for all of them.
        maps: (map, token, state), as measured.
        outside: (map, state, other), what states send to tokens that are none.
    """

    what: What
    levels: int
    kept: int
    maps: Floats
    outside: Floats

    @property
    def name(self) -> str:
        """What this is, for the list of those that did not fit."""
        whose = {"heads": "every head", "layers": "means of each layer", "all": "means of all layers", "none": "no maps"}
        how = f"the {self.kept} largest entries of each row" if self.kept else f"{self.levels + 1} levels"
        return f"{whose[self.what]}, {how}"

    def described(self) -> dict[str, Any]:
        return {"what": self.what, "levels": self.levels, "kept": self.kept}

    def held(self) -> Held:
        if self.what == "none":
            return Held(0.0, {})
        return self._largest() if self.kept else self._dense()

    def least_size(self) -> int:
        """About how many bytes it takes in base64, by every 16th row, and rather less."""
        rows = self.maps.shape[1] if self.maps.ndim == 3 else 0
        if rows < 64:
            return 0
        sample = replace(self, maps=self.maps[:, ::16], outside=self.outside[:0]).held()
        return int(0.85 * sample.size * rows / len(range(0, rows, 16)))

    def _dense(self) -> Held:
        codes = quantise(self.maps, self.levels)
        error = max(float(np.abs(dequantise(code) - one).max()) for code, one in zip(codes, self.maps, strict=True))
        return Held(error, {"maps": codes, "outside": self.outside})

    def _largest(self) -> Held:
        places, values, kept = largest(self.maps, self.kept)
        codes, states = quantise(values, self.levels), self.maps.shape[-1]
        found = spread(places, codes, kept, states)
        error = float(np.abs(found - self.maps).max())
        return Held(error, {"places": places, "values": codes, "kept": kept, "outside": self.outside})


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

    def rungs(self) -> Iterator[Rung]:
        """What a page may hold, each smaller than the one before."""
        if self._heads:
            maps, outer = (np.concatenate(several) for several in zip(*self._heads, strict=True))
            yield from (Rung("heads", levels, 0, maps, outer) for levels in LEVELS)
        layers = np.concatenate(self.means), np.concatenate(self._outer)
        counts = [count for count in COUNTS if count < self.means.shape[-1]]
        means: dict[What, tuple[Floats, Floats]] = {"layers": layers, "all": (self.means.mean(1), self._outer.mean(1))}
        for what, held in means.items():
            yield from (Rung(what, levels, 0, *held) for levels in LEVELS)
            yield from (Rung(what, LEVELS[0], count, *held) for count in counts)
        yield Rung("none", 0, 0, np.zeros(0, np.float32), np.zeros(0, np.float32))
