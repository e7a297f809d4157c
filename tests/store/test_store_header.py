"""A header that is not as a store writes it is an error that names the file, the field and what came."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.store.store_header import Header, checksum

PATH = Path("run.safetensors")
LAYER = {"name": "a", "sink": False, "tensors": ["maps"]}
FACTORS = {"name": "a", "sink": False, "tensors": ["query", "key"], "scale": None, "causal": True, "softcap": 2.0}
HEADER = {"version": 5, "layers": [LAYER], "grid": [1, 2], "labels": None, "queries": None, "metadata": {}, "checksum": "0"}


def test_maps_and_factors_are_read() -> None:
    assert Header.read(PATH, json.dumps(HEADER)).tensor_names == {"tokens.roles", "layers.0.maps"}
    factors = HEADER | {"layers": [FACTORS], "queries": {"grid": None, "labels": [["x"]]}}
    assert Header.read(PATH, json.dumps(factors)).tensor_names == {
        "tokens.roles",
        "queries.roles",
        "layers.0.query",
        "layers.0.key",
    }


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"metadata": 5}, r"metadata: .*; 5 came"),
        ({"metadata": {"model": 5}}, r"metadata\.model: .*; 5 came"),
        ({"grid": [2]}, r"grid\.1: Field required"),
        ({"grid": ["a", 2]}, r"grid\.0: .*'a' came"),
        ({"grid": [0, 2]}, r"grid\.0: .*; 0 came"),
        ({"labels": [[1]]}, r"labels\.0\.0: .*; 1 came"),
        ({"labels": ["text"]}, r"labels\.0: "),
        ({"layers": []}, r"layers: .* at least 1 item"),
        ({"layers": [LAYER | {"name": []}]}, r"layers\.0\.name: .*; \[\] came"),
        ({"layers": [LAYER | {"sink": 1}]}, r"layers\.0\.sink: .*; 1 came"),
        ({"layers": [LAYER | {"tensors": ["map"]}]}, r"layers\.0: a layer holds maps"),
        ({"layers": [LAYER | {"tensors": ["query"]}]}, r"layers\.0: .*query and key"),
        ({"layers": [LAYER | {"scale": 1.0}]}, r"layers\.0: .*maps have none"),
        ({"layers": [{**FACTORS, "softcap": float("nan")}]}, r"layers\.0\.softcap: .*finite"),
        ({"layers": [{k: v for k, v in FACTORS.items() if k != "causal"}]}, r"layers\.0: .*factors have"),
        ({"checksum": None}, "checksum: .*; None came"),
        ({"colour": "red"}, "colour: Extra"),
    ],
)
def test_a_field_that_is_not_as_it_must_be_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ac.AttentionError, match=rf"^run.safetensors has a damaged store header \({named}"):
        Header.read(PATH, json.dumps(HEADER | changes))


@pytest.mark.parametrize("text", ["", "5", "[]", "{", "[" * 100_000, '{"version": 5}', '"\\ud800"'])
def test_text_that_is_no_header(text: str) -> None:
    with pytest.raises(ac.AttentionError, match="damaged store header"):
        Header.read(PATH, text)


@pytest.mark.parametrize(
    ("version", "fix"), [(4, "Capture"), (6, "Update"), (10**30, "Update"), ("5", "Capture"), (None, "Capture")]
)
def test_other_formats(version: Any, fix: str) -> None:
    with pytest.raises(ac.AttentionError, match=f"(?s)store format .*; this version reads 5.*{fix}"):
        Header.read(PATH, json.dumps({"version": version}))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("size", [1, 3, 4095, 4096, 4097, 40_000])
def test_each_bit_counts_for_the_checksum(dtype: torch.dtype, size: int) -> None:
    tensor = torch.arange(size).to(dtype)
    before = checksum({"a": tensor})
    assert checksum({"a": tensor.clone()}) == before
    assert checksum({"b": tensor}) != before
    assert checksum({"a": tensor[None]}) != before
    for place in (0, tensor.nbytes // 2, tensor.nbytes - 1):
        damaged = tensor.clone()
        damaged.view(torch.uint8)[place] ^= 64
        assert checksum({"a": damaged}) != before


def test_a_part_of_a_tensor_has_the_checksum_of_its_copy() -> None:
    part = torch.rand(3, 1001)[1:]
    assert checksum({"a": part}) == checksum({"a": part.clone()})
    assert checksum({"a": part.mT}) == checksum({"a": part.mT.contiguous()})
