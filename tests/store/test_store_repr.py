from pathlib import Path

from attnchain_interp import AttentionStore


def test_a_mapped_store_says_so(store: AttentionStore, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    store.write(path)
    assert repr(AttentionStore.read(path)) == repr(store)
    mapped = AttentionStore.read(path, mmap=True)
    assert repr(mapped) == f"{store!r}, mapped from {path}"
    assert repr(mapped.only([0])).endswith(f", mapped from {path}")
