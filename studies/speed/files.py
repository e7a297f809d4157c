"""Rows of the files of stores: read as a copy, against read as a map."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import torch

from attnchain_interp import AttentionStore, Factors, LayerAttention, TokenLayout
from studies.speed.measurement import paired
from studies.speed.rows import Figure, Row

LAYERS, HEADS, WIDTH = 12, 12, 64


def written(megabytes: int, path: Path) -> None:
    """Writes queries and keys of the shape of ViT-B, of as many tokens as fill the file."""
    tokens = megabytes * 10**6 // (2 * 4 * LAYERS * HEADS * WIDTH)
    factors = (Factors(torch.randn(1, HEADS, tokens, WIDTH), torch.randn(1, HEADS, tokens, WIDTH)) for _ in range(LAYERS))
    layers = [LayerAttention(str(number), each) for number, each in enumerate(factors)]
    AttentionStore(layers, TokenLayout.text(torch.ones(1, tokens))).write(path)


def read_and_used(path: Path, mmap: bool) -> None:
    """Reads a store, and every value of it once."""
    for layer in AttentionStore.read(path, mmap=mmap):
        for tensor in layer.attention.tensors.values() if isinstance(layer.attention, Factors) else ():
            tensor.sum(-1)


def files(megabytes: int) -> list[Figure]:
    """The time of a copy against that of a map, with every value used once: a map that nobody uses costs nothing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        written(megabytes, path)
        copy, mapped = (partial(read_and_used, path, mmap) for mmap in (False, True))
        return [paired(copy, mapped).times_as_long("read as a copy and used once, map = 1")]


def _row(megabytes: int) -> Row:
    measure: Callable[[], list[Figure]] = partial(files, megabytes)
    return Row(
        f"read-{megabytes}", f"`AttentionStore.read` of {megabytes} MB of queries and keys, whose file is in memory", measure
    )


ROWS: Final = [_row(megabytes) for megabytes in (10, 200, 1000)]
