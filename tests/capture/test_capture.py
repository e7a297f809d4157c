from functools import partial

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
    with pytest.raises(
        ac.AttentionError, match=r"(?s)returned Tensor; it must return an AttentionStore.*pass the model or one of its methods"
    ):
        ac.capture(lambda x: x, torch.zeros(1))
    with pytest.raises(ac.AttentionError, match=r"(?s)the source is of type str.*AutoModel.from_pretrained\('vit'\)"):
        ac.capture("vit", torch.zeros(1))
    with pytest.raises(ac.AttentionError, match="the source is the class Linear"):
        ac.capture(torch.nn.Linear, torch.zeros(1))
    with pytest.raises(ac.AttentionError, match="(?s)the source is a store.*method.score.store."):
        ac.capture(ac.AttentionStore.from_maps([torch.ones(1, 1, 1, 1)]), torch.zeros(1))


def test_a_model_that_does_not_attend() -> None:
    with pytest.raises(ac.AttentionError, match="(?s)no module of Linear attends in this forward.*from_maps"):
        ac.capture(nn.Linear(1, 1), torch.zeros(1))


def test_an_adapter_that_is_not_announced() -> None:
    with pytest.raises(
        ac.AttentionError, match="(?s)no adapter for 'flax'.*Use one of diffusers, nnsight, timm, torch, transformers"
    ):
        adapter_named("flax")


def test_the_model_of_a_pipeline_is_named() -> None:
    class Pipeline:
        def __init__(self) -> None:
            self.model = torch.nn.Linear(2, 2)

        def __call__(self, text: str) -> list[str]:
            return [text]

    with pytest.raises(
        ac.AttentionError, match=r"(?s)\(Pipeline\) returned list; .*Pipeline.model, with the inputs of the model"
    ):
        ac.capture(Pipeline(), "text")
    with pytest.raises(ac.AttentionError, match=r"(?s)\(partial\) returned Tensor; .*partial.func, with"):
        ac.capture(partial(torch.nn.Linear(2, 2), torch.rand(1, 2)))


def test_the_model_of_a_predictor_is_named() -> None:
    class Predictor:
        def __init__(self) -> None:
            self.network = nn.Linear(2, 2)

        def predict(self, x: torch.Tensor) -> torch.Tensor:
            return self.network(x)

    with pytest.raises(ac.AttentionError, match=r"(?s)\(Predictor\) returned Tensor; .*Predictor.network, with"):
        ac.capture(Predictor().predict, torch.rand(1, 2))


def test_shares_of_a_model_name_their_measure() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True, dropout=0).eval()
    store = ac.capture(model, torch.randn(1, 4, 8), maps="norm")
    assert store.metadata["maps"] == "norm"
    assert store.maps().shape == (1, 1, 1, 4, 4)
    assert torch.allclose(store.maps().sum(-1), torch.ones(()))
