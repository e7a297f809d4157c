"""The repr of a store."""

from __future__ import annotations

from pathlib import Path

from attnchain_interp.operators import Factors
from attnchain_interp.reprs import counted
from attnchain_interp.store.layers import Layers


def store_repr(store: Layers, mapped: Path | None) -> str:
    """Returns three lines: the model and its layers, the tokens, and how much is held where."""
    held = store.select("all")
    *fewer, most = sorted({layer.heads for layer in held})
    heads = "/".join([*map(str, fewer), counted(most, "head")])
    layers = f"{counted(len(store), 'layer')} ({' … '.join(dict.fromkeys((store.names[0], store.names[-1])))})"
    of = f" of {store.metadata['model']}" if "model" in store.metadata else ""
    queries = f"; from {len(store.queries)} other queries" if store.queries else ""
    kinds = {"factors" if isinstance(layer.attention, Factors) else "maps" for layer in held}
    dtypes = sorted({str(layer.dtype).removeprefix("torch.") for layer in held})
    size = sum(layer.attention.nbytes for layer in held) / 2**20
    where = f"{held[0].device}, {size:.1f} MB{f', mapped from {mapped}' if mapped else ''}"
    return (
        f"AttentionStore{of}: batch {store.tokens.batch}, {layers}, {heads}\n"
        f"  {store.tokens.described}{queries}\n"
        f"  {' and '.join(sorted(kinds))}, {' and '.join(dtypes)} on {where}"
    )
