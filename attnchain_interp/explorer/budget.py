"""The best page within a number of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from attnchain_interp.explorer.contents import Contents
from attnchain_interp.explorer.map_quality import MapQuality, MeasuredMaps
from attnchain_interp.explorer.page import Payload, page

_SHARES = ((1_500_000, 0.1), (0, 0.4))  # bytes of a page, and from there on the part of it that contributions may take


@final
class Budget:
    """Contents and maps of a page, which it fits into a number of bytes.

    Args:
        found: everything but the maps.
        measured: the maps of attention.
        contributions: the qualities of the contributions, from the best to the smallest; none if the page has none.
        still: HTML of what the page shows first, without a script.
    """

    def __init__(self, found: Contents, measured: MeasuredMaps, contributions: Sequence[MapQuality], still: str) -> None:
        self._found, self._measured, self._contributions, self.still = found, measured, contributions, still

    def best(self, room: int) -> tuple[Payload, int]:
        """Returns the best payload whose page has at most `room` bytes, else the smallest, and the bytes of its page."""
        contributions = self._chosen(room)
        *larger, smallest = self._measured.qualities()
        for quality in larger:
            if quality.least_size() <= room:
                payload, size = self._sized(quality, contributions, room)
                if size <= room:
                    return payload, size
        return self._sized(smallest, contributions, room)

    def _sized(self, quality: MapQuality, contributions: MapQuality | None, room: int) -> tuple[Payload, int]:
        payload = self._found.with_maps(quality, contributions, room)
        return payload, len(page(payload, self.still).encode())

    def _chosen(self, room: int) -> MapQuality | None:
        share = next(share for least, share in _SHARES if room >= least)
        most = share * room
        small = (one for one in self._contributions if one.least_size() <= most and one.encoded().size <= most)
        return next(small, self._contributions[-1] if self._contributions else None)
