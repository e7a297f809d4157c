"""The qualities in which a page can hold maps: every head while it fits, then means of layers, then largest entries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from typing import Any, Final, Literal, final

import numpy as np
from numpy.typing import NDArray

from attnchain_interp.errors import AttentionError
from attnchain_interp.explorer.encoding import (
    PACKED,
    Floats,
    base64_size,
    compressed,
    dequantise,
    largest,
    packed,
    quantise,
    spread,
    triangle,
)
from attnchain_interp.explorer.example_chains import ExampleChains, weights
from attnchain_interp.store import AttentionStore

LEVELS: Final = (255, 127, 63, 31, 15, 11, 7)
COUNTS: Final = (128, 64, 32, 16, 8)
_DENSEST: Final = 20  # entries in a byte that no map is compressed to, or it is better given by its largest entries

Scope = Literal["heads", "layers", "means", "all", "none"]


@final
@dataclass(frozen=True, eq=False)
class EncodedMaps:
    """Maps as a page holds them.

    Attributes:
        error: the greatest difference between a probability and its measured value.
        misplaced: the share of a row that is at another place than measured, on average.
        sections: the arrays of the page, by name.
    """

    error: float
    misplaced: float
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
        scope: "heads", the map of every head; "layers", the mean of each layer's heads, once for each weighting; "means", the
            same for equal weights alone; "all", the mean over all layers, once for each weighting; or "none".
        levels: number of the greatest code.
        kept: how many entries of each row; 0 for all of them.
        maps: (map, token, state), as measured.
        outside: (map, state, other), the attention of states to tokens that are not states.
        triangle: whether the maps are a decoder's, over all tokens, of which only the lower triangle is held.
    """

    scope: Scope
    levels: int
    kept: int
    maps: Floats
    outside: Floats
    triangle: bool = False

    def encoded(self) -> EncodedMaps:
        """Returns the maps in this quality."""
        if self.scope == "none":
            return EncodedMaps(0.0, 0.0, {})
        return self._largest() if self.kept else self._dense()

    def least_size(self) -> int:
        """Returns a low estimate of the bytes in base64, from every 16th row."""
        rows = self.maps.shape[1] if self.maps.ndim == 3 else 0
        if rows < 64:
            return 0
        sample = replace(self, maps=self.maps[:, ::16], outside=self.outside[:0], triangle=False).encoded()
        return int((0.65 if self.triangle else 0.85) * sample.size * rows / len(range(0, rows, 16)))

    def _dense(self) -> EncodedMaps:
        codes = quantise(self.maps, self.levels)
        held = triangle(codes) if self.triangle else codes
        sections = {"maps": packed(held) if self.levels <= PACKED else held, "outside": self.outside}
        return EncodedMaps(*self._errors(map(dequantise, codes)), sections)

    def _largest(self) -> EncodedMaps:
        places, values, kept = largest(self.maps, self.kept)
        codes = quantise(values, self.levels)
        found = map(spread, places, codes, kept, repeat(self.maps.shape[-1]))
        return EncodedMaps(*self._errors(found), {"places": places, "values": codes, "kept": kept, "outside": self.outside})

    def _errors(self, found: Iterable[Floats]) -> tuple[float, float]:
        """Returns `EncodedMaps.error` and `EncodedMaps.misplaced` of maps (token, state), one after the other."""
        off = [np.abs(held - one) for held, one in zip(found, self.maps, strict=True)]
        return max(float(one.max()) for one in off), float(np.mean([one.sum(-1).mean() for one in off])) / 2


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
        self._heads, self._triangle = heads, chains.triangle

    def qualities(self) -> Iterator[MapQuality]:
        """Yields the qualities from the best to none, each smaller than the one before."""
        if self._heads:
            maps, outer = (np.concatenate(several) for several in zip(*self._heads, strict=True))
            yield from (MapQuality("heads", levels, 0, maps, outer, self._triangle) for levels in LEVELS)
        counts = [count for count in COUNTS if count < self.means.shape[-1]]
        every = np.concatenate(self.means), np.concatenate(self._outer)
        yield from (MapQuality("layers", levels, 0, *every, self._triangle) for levels in LEVELS[:4])
        means: dict[Scope, tuple[Floats, Floats]] = {
            "means": (self.means[0], self._outer[0]),
            "all": (self.means.mean(1), self._outer.mean(1)),
        }
        for scope, held in means.items():
            yield from (MapQuality(scope, levels, 0, *held, self._triangle) for levels in LEVELS[:5])
            yield from (MapQuality(scope, LEVELS[0], count, *held) for count in counts)
        yield MapQuality("none", 0, 0, np.zeros(0, np.float32), np.zeros(0, np.float32))


def contribution_qualities(contributions: AttentionStore, chains: ExampleChains) -> list[MapQuality]:
    """Returns the qualities in which a page can hold contributions, from the best to the smallest.

    Args:
        contributions: one map a layer, of the layers and tokens of the store of `chains`.
        chains: the example.

    Raises:
        AttentionError: other layers or tokens, or several maps a layer.
    """
    store = chains.store
    if contributions.names != store.names or contributions.tokens.roles.shape != store.tokens.roles.shape:
        raise AttentionError(
            f"contributions has {len(contributions)} layers × {len(contributions.tokens)} tokens, and the store has"
            f" {len(store)} × {len(store.tokens)}; both must be of the same forward.",
            'Capture both with the same arguments: capture(model, …, maps="alti").',
        )
    if several := [layer.name for layer in contributions if layer.heads > 1]:
        raise AttentionError(
            f"contributions has several maps in layer {several[0]!r}; contributions are one map a layer.",
            'Capture them: capture(model, …, maps="alti").',
        )
    both = list(ExampleChains(contributions, chains.example, chains.selected).maps())
    maps, outside = (np.concatenate(parts) for parts in zip(*both, strict=True))
    return [MapQuality("means", levels, 0, maps, outside, chains.triangle) for levels in LEVELS]
