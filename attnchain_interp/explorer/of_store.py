"""What a notebook shows of a store."""

from __future__ import annotations

from html import escape
from typing import Final

from attnchain_interp.errors import AttentionError
from attnchain_interp.explorer.explorer import explore
from attnchain_interp.store.attention_store import AttentionStore

ROOM: Final = 2.0  # 10⁶ bytes of the page
MOST: Final = 6_000_000  # entries of the maps of an example, some seconds' work; a ViT-B/16 has 5.6 million


def store_html(store: AttentionStore) -> str:
    """The explorer of the first example in a frame; the text of `repr` of what has none.

    A store has one if its maps are square, and few enough to be read within seconds, and its tokens are known by a grid or
    by labels.
    """
    entries = sum(layer.heads for layer in store) * len(store.tokens) ** 2
    if entries <= MOST and (store.tokens.grid is not None or store.tokens.labels is not None):
        try:
            return explore(store, max_mb=ROOM)._repr_html_()
        except AttentionError:
            pass
    return f"<pre>{escape(repr(store))}</pre>"
