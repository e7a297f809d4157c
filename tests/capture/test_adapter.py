"""The adapters that are announced, and what a request asks of them."""

from importlib.metadata import EntryPoint
from typing import Any

import pytest
import torch
from torch import nn

import attnchain_interp as ac
from attnchain_interp.capture import CaptureRequest, StoreCollector, adapter, adapter_named, adapter_of, adapters
from attnchain_interp.capture.adapter import entries_of


def test_torchs_adapter_is_asked_last() -> None:
    names = [name for name, _ in adapters()]
    assert names[-1] == "torch"


class Short:
    supported = "Mine"

    def recognises(self, source: Any) -> bool:
        return False


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("no_such_module:Adapter", r"cannot be loaded \(ModuleNotFoundError: .*\)\.\nUpdate no_such_module:Adapter"),
        (f"{__name__}:Short", r"has no capture\.\nGive its class"),
    ],
)
def test_an_adapter_of_another_distribution_that_is_broken_is_named(
    value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "_announced", lambda: {"numpy": EntryPoint("numpy", value, adapter.GROUP)})
    with pytest.raises(ac.AttentionError, match=f"the adapter for numpy of {value} {said}"):
        ac.capture(nn.Linear(2, 2), torch.ones(1, 2))


def test_an_adapter_by_name() -> None:
    assert repr(adapter_named("torch")) == "TorchAdapter()"
    with pytest.raises(ac.AttentionError, match="(?s)no adapter for 'jax'.*timm"):
        adapter_named("jax")


def test_metadata_name_the_wrapper_and_the_adapter() -> None:
    collector = StoreCollector()
    model = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    adapter, x = adapter_of(model), torch.randn(1, 3, 8)
    assert adapter is not None
    store = adapter.capture(model, (x, x, x), {}, CaptureRequest(collector, wrapper="nnsight"))
    assert store.metadata["adapter"] == "nnsight, torch"


def test_a_request_runs_the_source_or_what_it_names() -> None:
    told: list[Any] = []
    request = CaptureRequest(StoreCollector(), told=told.append)
    assert request.run(lambda x, y: x - y, (5,), {"y": 3}) == 2
    other = CaptureRequest(StoreCollector(), runs=lambda x, y: x + y, told=told.append)
    assert other.run(None, (5,), {"y": 3}) == 8
    assert told == [2, 8]


def test_layers_are_selected_by_their_paths_in_what_the_user_passed() -> None:
    names = ["blocks.0", "blocks.1"]
    assert CaptureRequest(StoreCollector(), layers=-1).select(names) == ["blocks.1"]
    inside = CaptureRequest(StoreCollector(), layers=["vit.blocks.0"], path="vit")
    assert inside.select(names) == ["blocks.0"]
    with pytest.raises(ac.AttentionError, match=r"(?s)no layer 'blocks.0'.*layers are vit.blocks.0, vit.blocks.1"):
        CaptureRequest(StoreCollector(), layers="blocks.0", path="vit").select(names)


def test_an_adapter_without_entries_runs_what_it_recognises() -> None:
    class Own:
        supported = ""

        def recognises(self, source: Any) -> bool:
            return isinstance(source, nn.Linear)

    own: Any = Own()
    assert entries_of(own, nn.Linear(2, 2)) == ("forward",)
    assert entries_of(own, nn.ReLU()) == ()
