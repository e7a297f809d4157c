"""Damaged files of stores: each is refused by name, or read whole and used. 5,000 of them: `python -m studies.guarantees`."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from pathlib import Path

import torch
from hypothesis import strategies as st

from attnchain_interp import AttentionError, AttentionStore, Factors, LayerAttention, TokenLayout

from ..fuzzing import fuzzed, refused_or


def files() -> list[bytes]:
    """The contents of three small stores: maps with a grid, factors of a padded text, maps of other queries."""
    query, key, maps = torch.rand(2, 2, 3, 4), torch.rand(2, 1, 3, 4), torch.rand(1, 2, 5, 5).softmax(-1)
    factors = Factors(
        query, key, scale=0.5, mask=torch.ones(3, 3, dtype=torch.bool), causal=True, softcap=2.0, sinks=torch.zeros(2)
    )
    image, text = TokenLayout.image(grid=(2, 2), class_token=True), TokenLayout.text(torch.tensor([[1, 1, 1], [1, 1, 0]]))
    labelled = TokenLayout.text(torch.ones(1, 5), [["a", "é", "\n", "|", "</script>"]])
    stores = (
        AttentionStore([LayerAttention("a", maps, value_norms=torch.rand(1, 2, 5))], image, {"model": "m"}),
        AttentionStore([LayerAttention("a", factors), LayerAttention("b", factors)], text),
        AttentionStore([LayerAttention("a", maps[:, :, :2])], labelled, queries=TokenLayout.text(torch.ones(1, 2))),
    )
    with tempfile.TemporaryDirectory() as folder:
        for number, store in enumerate(stores):
            store.write(Path(folder) / f"{number}")
        return [(Path(folder) / f"{number}").read_bytes() for number in range(len(stores))]


FILES = files()


@fuzzed(150, st.data())
def test_a_damaged_file_is_refused_or_read_whole(data: st.DataObject) -> None:
    """Bytes are changed, cut out and put in, mostly in the header; what is read then answers all questions."""
    contents = bytearray(data.draw(st.sampled_from(FILES)))
    for _ in range(data.draw(st.integers(1, 3))):
        end = data.draw(st.sampled_from([8, len(contents) // 2, len(contents)]))
        place = data.draw(st.integers(0, max(end - 1, 0)))
        contents[place : place + data.draw(st.sampled_from([0, 1, 1, 4, 1000]))] = data.draw(st.binary(max_size=4))
    read_and_used(bytes(contents))


DTYPES = ["F64", "F16", "BF16", "I64", "I32", "I8", "U8", "U64", "BOOL", "C64", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@fuzzed(150, st.data())
def test_a_header_with_another_value_is_refused_or_read_whole(data: st.DataObject) -> None:
    """A value anywhere in the JSON of the header, ours or that of safetensors, is replaced, removed or renamed."""
    contents = data.draw(st.sampled_from(FILES))
    length = int.from_bytes(contents[:8], "little")
    outer = json.loads(contents[8 : 8 + length])
    if data.draw(st.booleans()):
        changed(data, outer)
    else:
        inner = json.loads(outer["__metadata__"]["attnchain_interp"])
        changed(data, inner)
        outer["__metadata__"]["attnchain_interp"] = json.dumps(inner)
    header = json.dumps(outer).encode()
    read_and_used(len(header).to_bytes(8, "little") + header + contents[8 + length :])


def changed(data: st.DataObject, node: dict) -> None:
    while True:
        key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
        if isinstance(node[key], dict | list) and node[key] and data.draw(st.integers(0, 3)):
            node = node[key]
        else:
            break
    value = node.pop(key)
    if data.draw(st.booleans()):
        other = data.draw(JSON | st.just(value) | st.sampled_from(DTYPES) | st.integers(-9, 9))
        node.update({key: other}) if isinstance(node, dict) else node.insert(key, other)


def read_and_used(contents: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.safetensors"
        path.write_bytes(contents)
        store = refused_or(lambda: AttentionStore.read(path), naming=path)
    if store is None:
        return
    assert store._repr_html_().encode()
    assert store.unread == ()
    with suppress(AttentionError):  # numbers that no attention has are refused where they are used
        assert store.kind
        assert all(layer.maps.ndim == 4 for layer in store)
