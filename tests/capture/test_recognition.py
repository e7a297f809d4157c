"""Which adapter reads a source."""

from typing import Any

import pytest
import timm
import torch
from torch import nn

import attnchain_interp as ac
from attnchain_interp.capture import adapter_of
from attnchain_interp.capture.recognition import required_adapter


def vit() -> Any:
    shape: dict[str, Any] = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}
    return timm.models.VisionTransformer(**shape).eval()


def test_what_the_source_is_comes_first() -> None:
    model = vit()
    assert repr(adapter_of(model)) == "TimmAdapter()"
    assert repr(adapter_of(nn.MultiheadAttention(8, 2))) == "TorchAdapter()"
    assert repr(adapter_of(nn.Linear(2, 2))) == "TorchAdapter()", "any class may attend"
    assert adapter_of("text") is None


def test_then_the_known_models_inside() -> None:
    both = nn.Sequential(vit(), nn.MultiheadAttention(8, 2))
    assert repr(adapter_of(both)) == "InsideAdapter(0 (VisionTransformer))"
    assert repr(adapter_of(vit().forward_features)) == "InsideAdapter(itself (VisionTransformer))"


def test_a_method_of_another_model_is_read_by_torchs_adapter() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def encode(self, x: torch.Tensor) -> torch.Tensor:
            return self.attention(x, x, x)[0]

    model, x = Own().eval(), torch.randn(1, 3, 8)
    store = ac.capture(model.encode, x)
    assert store.names == ["attention"]
    assert torch.allclose(store.maps()[:, 0], model.attention(x, x, x, average_attn_weights=False)[1], atol=1e-6)
    assert ac.prove(model.encode, x).holds


def test_an_adapter_is_required() -> None:
    with pytest.raises(ac.AttentionError, match=r"(?s)gradients need a model that an adapter recognises; got int.\nPass one."):
        required_adapter(3, "gradients need", "Pass one.")


def test_a_method_that_gives_a_store_is_a_source_of_its_own(store: ac.AttentionStore) -> None:
    class Own(nn.Module):
        def maps(self, x: torch.Tensor) -> ac.AttentionStore:
            return store

    assert adapter_of(Own().maps) is None
    assert ac.capture(Own().maps, torch.rand(1)) is store
