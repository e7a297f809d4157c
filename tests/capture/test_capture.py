import pytest
import torch
from torch import nn

import attnchain_interp as ac
from attnchain_interp import AttentionStore
from attnchain_interp.capture import adapter_named


def test_any_callable_is_a_source(store: AttentionStore) -> None:
    assert ac.capture(lambda _: store, torch.zeros(1)) is store
    assert ac.capture(lambda _: store, torch.zeros(1), layers=-1).names == ["layer.2"]


def test_sources_that_are_refused() -> None:
    with pytest.raises(ac.AttentionError, match="returned Tensor; it must return an AttentionStore"):
        ac.capture(lambda x: x, torch.zeros(1))
    with pytest.raises(ac.AttentionError, match="the source is a str"):
        ac.capture("vit", torch.zeros(1))


def test_a_model_nobody_recognises_hears_what_is() -> None:
    import timm  # noqa: F401 - now its adapter is loaded

    with pytest.raises(ac.AttentionError, match=r"no adapter recognises torch\.nn.*Linear.*timm: VisionTransformer"):
        ac.capture(nn.Linear(1, 1), torch.zeros(1))


def test_an_adapter_that_is_not_announced() -> None:
    with pytest.raises(
        ac.AttentionError, match="(?s)no adapter for 'flax'.*Use one of diffusers, nnsight, timm, torch, transformers"
    ):
        adapter_named("flax")
