"""The data of a page: a header that JSON can hold, and arrays as compressed bytes."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from attnchain_interp.explorer.encoding import Floats, base64_size, dequantise, spread


@final
@dataclass(frozen=True)
class Payload:
    """Header and sections of a page; the front end's `mount` takes both.

    Attributes:
        header: strings, numbers, lists and dicts. Its entry "sections" gives the type and shape of each section.
        sections: name → bytes of an array, little-endian, compressed by zlib.
    """

    header: dict[str, Any]
    sections: dict[str, bytes]

    @property
    def size(self) -> int:
        """Bytes of the sections in base64."""
        return base64_size(self.sections)

    def array(self, name: str) -> Any:
        """Returns the array of a section."""
        known = self.header["sections"][name]
        return np.frombuffer(zlib.decompress(self.sections[name]), known["type"]).reshape(known["shape"])

    def maps(self) -> Floats:
        """Returns the maps (map, token, state) with which the page computes, dequantised."""
        if self.header["maps"]["kept"]:
            places, values, kept = (self.array(name) for name in ("places", "values", "kept"))
            return spread(places, values, kept, len(self.header["states"]))
        return dequantise(self.array("maps"))
