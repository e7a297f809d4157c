"""Stores are written whole or not at all, and read back as they were."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import attnchain_interp as ac
from attnchain_interp import AttentionStore, Factors, LayerAttention, TokenLayout


def test_write_and_read(store: AttentionStore, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    labels = [[f"{row}{column}" for column in range(5)] for row in range(2)]
    tokens = TokenLayout(store.tokens.roles, store.tokens.grid, labels)
    AttentionStore(store, tokens, {"model": "tiny"}).write(path)
    again = AttentionStore.read(path)
    assert again.names == store.names
    assert torch.equal(again.maps(), store.maps())
    assert torch.equal(again.tokens.roles, tokens.roles)
    assert (again.tokens.grid, again.tokens.labels, again.metadata) == ((2, 2), labels, {"model": "tiny"})
    assert [file.name for file in tmp_path.iterdir()] == ["run.safetensors"]


def test_a_failed_write_leaves_the_old_file(store: AttentionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.safetensors"
    store.write(path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("attnchain_interp.store.safetensors_file.save_file", full)
    with pytest.raises(OSError, match="No space"):
        store.write(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_files_that_are_no_stores(store: AttentionStore, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    with pytest.raises(ac.AttentionError, match="there is no file"):
        AttentionStore.read(path)
    store.write(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ac.AttentionError, match="not a complete safetensors file"):
        AttentionStore.read(path)
    path.write_bytes(b"\x80\x04not safetensors at all")
    with pytest.raises(ac.AttentionError, match="not a complete safetensors file"):
        AttentionStore.read(path)
    save_file({"weight": torch.ones(1)}, path)
    with pytest.raises(ac.AttentionError, match="no attention store"):
        AttentionStore.read(path)
    save_file({"weight": torch.ones(1)}, path, {"attnchain_interp": '{"version": 99}'})
    with pytest.raises(ac.AttentionError, match="store format 99"):
        AttentionStore.read(path)
    save_file({"weight": torch.ones(1)}, path, {"attnchain_interp": '{"version": 2}'})
    with pytest.raises(ac.AttentionError, match="damaged store header"):
        AttentionStore.read(path)


def test_factors_and_queries_go_there_and_back(tmp_path: Path) -> None:
    query, key = torch.randn(2, 1, 4, 3, 8)
    factors = Factors(query, key[:, :2], scale=0.5, softcap=3.0, causal=True, sinks=torch.zeros(4))
    tokens = TokenLayout.text(torch.tensor([[1, 1, 0]]))
    AttentionStore([LayerAttention("a", factors)], tokens).write(tmp_path / "factors.safetensors")
    (layer,) = AttentionStore.read(tmp_path / "factors.safetensors")
    again = layer.attention
    assert isinstance(again, Factors)
    assert torch.equal(again.maps(), factors.maps())
    assert (again.scale, again.softcap, again.causal, again.mask) == (0.5, 3.0, True, None)
    maps, queries = torch.rand(1, 2, 1, 3).softmax(-1), TokenLayout.text(torch.ones(1, 1), [["probe"]])
    AttentionStore([LayerAttention("pool", maps, sink=True)], tokens, queries=queries).write(tmp_path / "pool.safetensors")
    pooled = AttentionStore.read(tmp_path / "pool.safetensors")
    assert pooled[0].sink
    assert pooled.queries is not None
    assert pooled.queries.labels == [["probe"]]


@pytest.mark.parametrize("factors", [True, False])
def test_value_norms_go_there_and_back_and_older_files_have_none(factors: bool, tmp_path: Path) -> None:
    path, query = tmp_path / "run.safetensors", torch.randn(1, 2, 3, 4)
    held = Factors(query, query.clone()) if factors else Factors(query, query).maps()
    norms = torch.rand(1, 2, 3)
    AttentionStore([LayerAttention("a", held, value_norms=norms)], TokenLayout.text(torch.ones(1, 3))).write(path)
    again = AttentionStore.read(path)[0].value_norms
    assert again is not None
    assert torch.equal(again, norms)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["attnchain_interp"])
    tensors = load_file(path)
    header["version"] = 3
    header["layers"][0]["tensors"].remove("value_norms")
    del tensors["layers.0.value_norms"]
    save_file(tensors, path, {"attnchain_interp": json.dumps(header)})
    assert AttentionStore.read(path)[0].value_norms is None
