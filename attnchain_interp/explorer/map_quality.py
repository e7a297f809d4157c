"""The qualities in which a page can hold maps: every head while it fits, then means of layers, then largest entries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Literal, final

import numpy as np
from numpy.typing import NDArray

from attnchain_interp.explorer.encoding import Floats, base64_size, compressed, dequantise, largest, quantise, spread
from attnchain_interp.explorer.example_chains import ExampleChains, weights

LEVELS: Final = (255, 127, 63, 45, 31, 22)
COUNTS: Final = (128, 64, 32, 16, 8)
_DENSEST: Final = 20  # entries in a byte that no map is compressed to, or it is better given by its largest entries

Scope = Literal["heads", "layers", "all", "none"]


@final
@dataclass(frozen=True)
class EncodedMaps:
    """Maps as a page holds them.

    Attributes:
        error: the greatest difference between a probability and its measured value.
        sections: the arrays of the page, by name.
    """

    error: float
    sections: dict[str, NDArray[Any]]

    @cached_property
    def compressed(self) -> dict[str, bytes]:
        return {name: compressed(array) for name, array in self.sections.items()}

    @property
    def size(self) -> int:
        """Bytes of the sections in base64."""
        return base64_size(self.compressed)


@final
@dataclass(frozen=True)
class MapQuality:
    """One quality in which a page can hold the maps.

    Attributes:
        scope: "heads", the map of every head; "layers", the mean of each layer's heads, once for each weighting; "all", the
            mean over all layers, likewise; or "none".
        levels: number of the greatest code.
        kept: how many entries of each row; 0 for all of them.
        maps: (map, token, state), as measured.
        outside: (map, state, other), the attention of states to tokens that are not states.
    """

    scope: Scope
    levels: int
    kept: int
    maps: Floats
    outside: Floats

    @property
    def name(self) -> str:
        """The name, for the list of qualities that did not fit."""
        whose = {"heads": "every head", "layers": "means of each layer", "all": "means of all layers", "none": "no maps"}
        how = f"the {self.kept} largest entries of each row" if self.kept else f"{self.levels + 1} levels"
        return f"{whose[self.scope]}, {how}"

    def encoded(self) -> EncodedMaps:
        """Returns the maps in this quality."""
        if self.scope == "none":
            return EncodedMaps(0.0, {})
        return self._largest() if self.kept else self._dense()

    def least_size(self) -> int:
        """Returns a low estimate of the bytes in base64, from every 16th row."""
        rows = self.maps.shape[1] if self.maps.ndim == 3 else 0
        if rows < 64:
            return 0
        sample = replace(self, maps=self.maps[:, ::16], outside=self.outside[:0]).encoded()
        return int(0.85 * sample.size * rows / len(range(0, rows, 16)))

    def _dense(self) -> EncodedMaps:
        codes = quantise(self.maps, self.levels)
        error = max(float(np.abs(dequantise(code) - one).max()) for code, one in zip(codes, self.maps, strict=True))
        return EncodedMaps(error, {"maps": codes, "outside": self.outside})

    def _largest(self) -> EncodedMaps:
        places, values, kept = largest(self.maps, self.kept)
        codes = quantise(values, self.levels)
        error = float(np.abs(spread(places, codes, kept, self.maps.shape[-1]) - self.maps).max())
        return EncodedMaps(error, {"places": places, "values": codes, "kept": kept, "outside": self.outside})


@final
class MeasuredMaps:
    """The maps of an example, and every quality in which a page can hold them.

    Attributes:
        second: |λ₂| of every head, layer after layer.
        vectors: (head, state) stationary vectors of every head.
        means: (weighting, layer, token, state) weighted means of the heads.
    """

    def __init__(self, chains: ExampleChains, room: int) -> None:
        """Reads the maps once, and keeps those of the heads only where they might fit into `room` bytes."""
        entries = sum(layer.heads for layer in chains.store) * len(chains.shown) * len(chains.states)
        second, vectors, means, heads, outer = [], [], [], [], []
        for maps, outside in chains.maps():
            own_second, own_vectors = chains.mixing(maps)
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

    def qualities(self) -> Iterator[MapQuality]:
        """Yields the qualities from the best to none, each smaller than the one before."""
        if self._heads:
            maps, outer = (np.concatenate(several) for several in zip(*self._heads, strict=True))
            yield from (MapQuality("heads", levels, 0, maps, outer) for levels in LEVELS)
        layers = np.concatenate(self.means), np.concatenate(self._outer)
        counts = [count for count in COUNTS if count < self.means.shape[-1]]
        means: dict[Scope, tuple[Floats, Floats]] = {"layers": layers, "all": (self.means.mean(1), self._outer.mean(1))}
        for scope, held in means.items():
            yield from (MapQuality(scope, levels, 0, *held) for levels in LEVELS)
            yield from (MapQuality(scope, LEVELS[0], count, *held) for count in counts)
        yield MapQuality("none", 0, 0, np.zeros(0, np.float32), np.zeros(0, np.float32))
