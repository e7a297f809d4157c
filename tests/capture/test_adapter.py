"""The adapters that are announced, and models compiled by torch."""

import logging

import pytest
import torch
from torch import nn

import attnchain_interp as ac
from attnchain_interp.capture import CaptureRequest, StoreCollector, adapter_named, adapter_of, adapters, uncompiled


def test_torchs_adapter_is_asked_last() -> None:
    names = [name for name, _ in adapters()]
    assert names[-1] == "torch"
    assert repr(adapter_of(nn.MultiheadAttention(8, 2))) == "TorchAdapter()"
    assert adapter_of(nn.Linear(2, 2)) is None


def test_an_adapter_by_name() -> None:
    assert repr(adapter_named("torch")) == "TorchAdapter()"
    with pytest.raises(ac.AttentionError, match="(?s)no adapter for 'jax'.*timm"):
        adapter_named("jax")


def test_a_compiled_model_is_unwrapped(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with caplog.at_level(logging.WARNING, "attnchain_interp"):
        assert uncompiled(torch.compile(model)) is model
    assert "Sequential is compiled" in caplog.text
    model[0].compile()
    with pytest.raises(ac.AttentionError, match="0 is compiled in place"):
        uncompiled(model)


def test_metadata_name_the_wrapper_and_the_adapter() -> None:
    collector = StoreCollector()
    model = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    adapter, x = adapter_of(model), torch.randn(1, 3, 8)
    assert adapter is not None
    store = adapter.capture(model, (x, x, x), {}, CaptureRequest(collector, wrapper="nnsight"))
    assert store.metadata["adapter"] == "nnsight, torch"
