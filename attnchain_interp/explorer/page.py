"""The page as one HTML file, which fetches nothing and trusts no string, and its data."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any, final

import numpy as np

from attnchain_interp.explorer.encoding import PACKED, Floats, base64_size, dequantise, spread, squared, unpacked
from attnchain_interp.reprs import visible


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
        codes, n = self.array("maps"), len(self.header["states"])
        if self.header["maps"]["levels"] <= PACKED:
            codes = unpacked(codes, n * (n + 1) // 2 if self.header["triangle"] else n)
        return dequantise(squared(codes, n) if self.header["triangle"] else codes)


@cache
def script() -> str:
    """Returns the front end, which is built from `explorer/` in the repository. It defines `attnchain`."""
    return (files("attnchain_interp.explorer") / "assets" / "page.js").read_text(encoding="utf-8")


def page(payload: Payload, still: str = "") -> str:
    """Returns the HTML of a payload.

    Its policy forbids every request, and every script except the one whose hash it names.

    Args:
        payload: the data.
        still: HTML that is shown where scripts do not run.
    """
    code = f"{script()}attnchain.open(document);"
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )
    title = visible(payload.header["title"])
    sections = "\n".join(
        f'<script type="text/plain" data-section="{name}">{base64.b64encode(data).decode()}</script>'
        for name, data in payload.sections.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n</head>\n<body>\n"
        f'<script type="application/json" id="header">{inert_json(payload.header)}</script>\n{sections}\n'
        f'<main id="explorer"></main>\n<noscript>{still}<p>This page needs JavaScript; it loads nothing.</p></noscript>\n'
        f"<script>{code}</script>\n</body>\n</html>\n"
    )


def inert_json(value: Any) -> str:
    """Returns JSON in ASCII that no HTML parser takes for markup. Every string survives, lone surrogates too.

    >>> inert_json("</script>")
    '"\\\\u003c/script\\\\u003e"'
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
