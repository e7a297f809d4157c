"""Maps in the graph of autograd."""

import pytest
import torch
from torch import nn

import attnchain_interp as ac
from attnchain_interp.capture import Reading
from attnchain_interp.gradients import capture_layer_gradients
from attnchain_interp.gradients.differentiable_maps import MapGraph

from ..attribution import small_models as small


def test_gradients_flow_to_the_maps_that_were_added() -> None:
    model = nn.MultiheadAttention(8, 2).eval()
    maps = torch.rand(1, 2, 3, 3)
    with torch.no_grad(), MapGraph(model) as graph:
        edited = graph.add("a", maps)
        graph.add("b", maps)
        score = (edited * 3).sum((1, 2, 3))
        assert torch.equal(graph.gradients(score, ["a"])["a"], torch.full_like(maps, 3))
        with pytest.raises(ac.AttentionError, match=r"no gradient flows from the score to 1 of 2 .*'b'"):
            graph.gradients((graph.maps["a"] * 3).sum((1, 2, 3)), ["a", "b"])
        assert torch.is_grad_enabled()


def test_the_models_output_is_remembered() -> None:
    model = nn.MultiheadAttention(8, 2).eval()
    x = torch.randn(3, 1, 8)
    with MapGraph(model) as graph:
        graph.adapter.capture(model, (x, x, x), {}, graph.request("all", Reading()))
        assert torch.allclose(graph.output[0], model(x, x, x)[0], atol=1e-6)
        assert graph.output[0].requires_grad


def test_inference_mode_is_refused() -> None:
    with torch.inference_mode(), pytest.raises(ac.AttentionError, match="(?s)inference_mode.*Use torch.no_grad"):
        MapGraph(nn.MultiheadAttention(8, 2))


def test_arguments_that_were_made_in_inference_mode() -> None:
    model, ids = small.bert(), small.ids()
    mask = torch.ones_like(ids)
    with torch.inference_mode():
        made_there, mask_there = ids.clone(), mask.clone()
    expected = ac.capture_gradients(model, ids, target=1, attention_mask=mask)
    found = ac.capture_gradients(model, made_there, target=1, attention_mask=mask_there)
    assert torch.equal(found.gradient(0), expected.gradient(0))
    found = capture_layer_gradients(model, made_there, target=1, attention_mask=mask_there)
    assert torch.allclose(found.gradient(-1), expected.gradient(-1))
