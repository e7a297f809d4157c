"""Collects maps or factors into an `AttentionStore`."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, final

import torch

from attnchain_interp.capture.collector import Expected, Shown, told
from attnchain_interp.checks import check_one_of, check_whole_number
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import Factors
from attnchain_interp.reprs import counted
from attnchain_interp.store import AttentionStore, LayerAttention

MAX_BYTES: Final = 2**31
_MEMORY: Final = Path("/proc/meminfo")

log = logging.getLogger("attnchain_interp")


@final
class StoreCollector:
    """Keeps every layer's maps, or its queries and keys.

    Args:
        keep: "maps", "factors", or "auto": maps while they fit into `max_bytes`, factors from there on.
        max_bytes: the limit for "auto".

    Raises:
        AttentionError: another `keep`.
    """

    def __init__(self, keep: Literal["auto", "maps", "factors"] = "maps", max_bytes: int = MAX_BYTES) -> None:
        check_one_of("keep", keep, ("auto", "maps", "factors"))
        check_whole_number("max_bytes", max_bytes, "the greatest size of all maps in bytes", 0)
        self._keep, self._max_bytes = keep, max_bytes
        self._expected: Expected | None = None
        self._layers: dict[str, LayerAttention] = {}
        self._note = ""

    def __repr__(self) -> str:
        return f"StoreCollector({self._keep!r}, {counted(len(self._layers), 'layer')} taken)"

    def expect(self, expected: Expected) -> None:
        """Decides between maps and factors. See `Collector.expect`."""
        self._expected, size = expected, bytes_in_words(expected.map_bytes)
        eager = "this model computes attention without the fused call, so there are no factors to keep"
        if self._keep == "factors" and not expected.fused:
            raise AttentionError(
                f'keep="factors": {eager}.', 'Load it with the "sdpa" implementation, or keep maps or reducers.'
            )
        if self._keep == "auto":
            fits = expected.map_bytes <= self._max_bytes
            if not fits and not expected.fused:
                raise AttentionError(
                    f"the maps of {expected.layers} layers × {expected.heads} heads × {len(expected.tokens)} tokens take"
                    f" {size}, over max_bytes={self._max_bytes:,}, and {eager}.",
                    'Load it with the "sdpa" implementation, choose layers=…, raise max_bytes, or keep reducers:'
                    " capture(model, …, keep=[attnchain_interp.StationaryVectors()]).",
                )
            self._keep = "maps" if fits else "factors"
            self._note = f"{self._keep}: the maps take {size}" if fits else f"factors: maps would take {size}"
            log.info("keep='auto' keeps %s", self._note)

    def take(self, name: str, shown: Shown) -> None:
        """Keeps one layer. See `Collector.take`."""
        attention, sink = shown.attention, shown.sink
        told(self._expected).check_layer(name, attention, self._layers)
        if isinstance(attention, Factors):
            if self._keep == "maps":
                attention, sink = attention.maps(), attention.sinks is not None
            else:
                self._check_memory(attention)
                attention = attention.owned()
        elif self._keep == "factors":
            raise AttentionError(f"layer {name!r} showed its map but no factors.", 'Use keep="maps" or reducers.')
        norms = None if shown.value_norms is None else shown.value_norms()
        self._layers[name] = LayerAttention(name, attention, sink, norms)

    def _check_memory(self, factors: Factors) -> None:
        """Refuses at the first layer, where "auto" chose factors, queries and keys of all layers that do not fit."""
        expected = told(self._expected)
        size = (factors.query.nbytes + factors.key.nbytes) * expected.layers
        free = None if self._layers or not self._note else free_bytes(factors.device)
        if free is not None and size > free:
            raise AttentionError(
                f"the queries and keys of {expected.layers} layers × {len(expected.tokens)} tokens take"
                f" {bytes_in_words(size)}, and {bytes_in_words(free)} of memory are free. Their maps would take"
                f" {bytes_in_words(expected.map_bytes)}, over max_bytes={self._max_bytes:,}.",
                "Keep reducers, which need the least: capture(model, …, keep=[attnchain_interp.StationaryVectors()]) holds one"
                " layer at a time. Or choose layers=….",
            )

    def result(self, names: Sequence[str], metadata: Mapping[str, str]) -> AttentionStore:
        """Returns the store. See `Collector.result`."""
        expected, note = told(self._expected), {"kept": self._note} if self._note else {}
        kept = [layer for name, layer in self._layers.items() if name in names]
        return AttentionStore(kept, expected.tokens, {**metadata, **note}, expected.queries)


def bytes_in_words(size: int) -> str:
    """Returns "2.0 GB" for 2³¹."""
    power = min(3, int(math.log(max(size, 1), 1024)))
    return f"{size / 1024**power:.1f} {('B', 'KB', 'MB', 'GB')[power]}"


def free_bytes(device: torch.device) -> int | None:
    """Returns the memory of a device that is free; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu" or not _MEMORY.exists():
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMORY.read_text(encoding="ascii"), re.MULTILINE)
    return None if found is None else int(found[1]) * 1024
