"""Stores are written whole or not at all, and read back as they were."""

import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

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


def test_labels_are_lists_before_a_file_and_after_it(tmp_path: Path) -> None:
    layout = TokenLayout.text(labels=(("a", "b"), ("c", "d")))  # type: ignore[arg-type]
    assert layout.labels == [["a", "b"], ["c", "d"]]
    path = tmp_path / "run.safetensors"
    AttentionStore.from_maps([torch.full((2, 1, 2, 2), 0.5)], layout).write(path)
    assert AttentionStore.read(path).tokens.labels == layout.labels


def test_a_lazily_negated_tensor_is_written_as_its_values(tmp_path: Path) -> None:
    negated = torch.ops.aten._neg_view(torch.full((1, 1, 2, 2), -0.5))
    assert negated.contiguous().is_neg()
    store, path = AttentionStore.from_maps([negated]), tmp_path / "run.safetensors"
    store.write(path)
    assert torch.equal(AttentionStore.read(path, verify=True).maps(), store.maps())


def test_a_failed_write_leaves_the_old_file(store: AttentionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.safetensors"
    store.write(path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("attnchain_interp.store.safetensors_file.save_file", full)
    with pytest.raises(ac.AttentionError, match=r"run.safetensors could not be written \(No space"):
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
    save_file({"weight": torch.ones(1)}, path, {"attnchain_interp": '{"version": 5}'})
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
def test_value_norms_go_there_and_back_where_there_are_any(factors: bool, tmp_path: Path) -> None:
    path, query = tmp_path / "run.safetensors", torch.randn(1, 2, 3, 4)
    held = Factors(query, query.clone()) if factors else Factors(query, query).maps()
    norms = torch.rand(1, 2, 3)
    AttentionStore([LayerAttention("a", held, value_norms=norms)], TokenLayout.text(torch.ones(1, 3))).write(path)
    again = AttentionStore.read(path)[0].value_norms
    assert again is not None
    assert torch.equal(again, norms)
    AttentionStore([LayerAttention("a", held)], TokenLayout.text(torch.ones(1, 3))).write(path)
    assert AttentionStore.read(path)[0].value_norms is None


MAPS = torch.rand(1, 3, 200, 200).softmax(-1)


def test_no_room_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(ac.AttentionError, match=r"run.safetensors could not be written \("):
            AttentionStore.from_maps([MAPS]).write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_layers_that_share_memory_are_written(tmp_path: Path) -> None:
    maps = torch.rand(1, 4, 8, 8).softmax(-1)
    shared = AttentionStore.from_maps([maps, maps, maps[:, :2], maps[:, 2:]])
    shared.write(tmp_path / "run.safetensors")
    again = AttentionStore.read(tmp_path / "run.safetensors", verify=True)
    assert all(torch.equal(one.maps, other.maps) for one, other in zip(again, shared, strict=True))


@pytest.mark.parametrize("metadata", [{"model": "\ud800"}, {"x": torch.ones(1)}, {"x": 5}, {5: "x"}])
def test_metadata_that_a_file_cannot_hold(metadata: dict, tmp_path: Path) -> None:
    store = AttentionStore.from_maps([MAPS])
    with pytest.raises(ac.AttentionError, match=r"cannot hold this store \((metadata\.|.*surrogates)"):
        AttentionStore(store, store.tokens, metadata).write(tmp_path / "run.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("tokens", [200, 1500])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_store_that_was_read_is_its_own(tokens: int, dtype: torch.dtype, tmp_path: Path) -> None:
    path, maps = tmp_path / "run.safetensors", torch.rand(1, 1, tokens, tokens).softmax(-1).to(dtype)
    AttentionStore.from_maps([maps]).write(path)
    store, mapped = AttentionStore.read(path, verify=True), AttentionStore.read(path, mmap=True)
    assert (store.mapped, mapped.mapped) == (None, path)
    contents = bytearray(path.read_bytes())
    contents[-maps.nbytes :] = bytes(maps.nbytes)
    path.write_bytes(contents)
    assert torch.equal(store[0].maps, maps)
    assert not torch.equal(mapped[0].maps, maps), "the probe can fail"


def test_a_checksum_finds_what_the_other_checks_cannot(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    AttentionStore.from_maps([MAPS, MAPS.flip(1)]).write(path)
    AttentionStore.read(path, verify=True)
    contents = path.read_bytes()
    size = 4 * MAPS.numel()  # the two layers change places
    path.write_bytes(
        contents[: -2 * size - 200] + contents[-size - 200 : -200] + contents[-2 * size - 200 : -size - 200] + contents[-200:]
    )
    AttentionStore.read(path)
    with pytest.raises(ac.AttentionError, match="checksum differs"):
        AttentionStore.read(path, verify=True)


@pytest.mark.parametrize("path", [None, 3, "a\0b", ["a"]])
def test_what_is_no_path(path: object) -> None:
    for call in (AttentionStore.read, AttentionStore.from_maps([MAPS]).write):
        with pytest.raises(ac.AttentionError, match="not a path of a file"):
            call(path)  # pyright: ignore[reportArgumentType]


def test_axes_of_one_element_with_a_stride_of_their_own(tmp_path: Path) -> None:
    """Torch calls them contiguous, and cannot show the bytes of a last axis whose stride is not 1."""
    maps, norms = torch.ones(1, 1, 1, 2)[..., ::2], torch.ones(1, 1, 3).mT
    assert maps.is_contiguous()
    assert norms.is_contiguous()
    layer = LayerAttention("layer", maps, value_norms=norms[:, :1])
    AttentionStore([layer], TokenLayout.text(torch.ones(1, 1))).write(tmp_path / "one.safetensors")
    again = AttentionStore.read(tmp_path / "one.safetensors", verify=True)
    assert again.maps().tolist() == [[[[[1]]]]]
