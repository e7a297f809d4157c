"""A still picture of what a page shows first, for where scripts do not run."""

from __future__ import annotations

from html import escape
from typing import Final

from attnchain_interp.explorer.contents import Contents
from attnchain_interp.explorer.encoding import Floats, data_url, jpeg
from attnchain_interp.explorer.example_chains import ExampleChains
from attnchain_interp.explorer.first_view import first_values
from attnchain_interp.reprs import visible
from attnchain_interp.store.label_texts import label_texts

SIDE: Final = 336  # pixels


def still(chains: ExampleChains, maps: Floats, found: Contents) -> str:
    """Returns HTML without a script: two bounces from the token where the page opens, over the picture or the text.

    Args:
        chains: the example.
        maps: the maps (layer, token, state) with which the page opens.
        found: the contents of the page.
    """
    from attnchain_interp.pictures.stills import overlaid, shaded  # loads matplotlib

    header = found.header
    values, start = first_values(chains, maps, header["first"]), header["first"]["from"]
    if header["grid"] is None:
        text = label_texts(header["labels"])[start]
        told = _escaped(f"2 bounces from “{text.strip() or text.replace(chr(10), '↵')}”")
        shown = shaded(header["labels"], values, chains.sinks)
        return f"<p>{told}:</p><p style='white-space:pre-wrap;unicode-bidi:plaintext'>{shown}</p>"
    told = _escaped(f"2 bounces from {header['labels'][start]}")
    patches = values[[role == "patch" for role in header["roles"]]].reshape(header["grid"])
    source = data_url(jpeg(overlaid(patches, found.pixels, SIDE), SIDE))
    return f'<figure><img alt="{told}" src="{source}"><figcaption>{told}</figcaption></figure>'


def _escaped(text: str) -> str:
    return escape(visible(text))
