"""Our methods in Quantus' own metrics."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import quantus
import torch
from quantus.evaluation import evaluate
from timm.models import VisionTransformer
from torch import nn

import attnchain_interp as ac
from attnchain_evals import ClutteredDigits, Example, bundled_vit, explain_func


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return bundled_vit()


@pytest.fixture(scope="module")
def batch() -> Example:
    return next(ClutteredDigits("test", 4).batches(4))


@pytest.fixture
def arguments(model: nn.Module, batch: Example) -> dict[str, Any]:
    return {"model": model, "x_batch": batch.image.numpy(), "y_batch": batch.label.numpy(), "explain_func": explain_func}


@pytest.mark.parametrize(
    ("method", "same"),
    [
        ("TokenRank", ac.TokenRank),
        ("class row", lambda model: ac.RawAttention(model, token="class")),
        (ac.Rollout, ac.Rollout),
        (partial(ac.MultiBounce, steps=3), lambda model: ac.MultiBounce(model, steps=3)),
    ],
)
def test_each_pixel_has_the_score_of_its_patch(model: nn.Module, batch: Example, method: Any, same: Any) -> None:
    perturbed = batch.image.numpy().astype(np.float64)
    found = explain_func(model, inputs=perturbed, targets=batch.label.numpy(), method=method)
    assert (found.shape, found.dtype) == ((4, 1, 56, 56), np.float32)
    grid = same(model).attribute(batch.image, output="grid").numpy()
    assert np.allclose(found[:, 0], grid.repeat(4, 1).repeat(4, 2))


def test_targets_reach_the_method(model: nn.Module, batch: Example) -> None:
    class Contrast:
        def __init__(self, model: nn.Module) -> None:
            self.model = model

        def attribute(self, inputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return inputs * target[:, None, None, None]

    found = explain_func(model, batch.image.numpy(), np.arange(4), Contrast)
    assert np.array_equal(found, (batch.image * torch.arange(4)[:, None, None, None])[:, :1].numpy())


def test_localisation_in_quantus(arguments: dict[str, Any], batch: Example) -> None:
    """Its relevance rank accuracy (Arras et al. 2022): of as many top pixels as the mask has, the part inside it."""
    metric = quantus.RelevanceRankAccuracy(disable_warnings=True)
    masks = batch.mask[:, None].numpy().astype(bool)
    scores: dict[str, Any] = {}
    for method in ("plain TokenRank", "RandomRanking"):
        scores[method] = metric(**arguments, s_batch=masks, device="cpu", explain_func_kwargs={"method": method})
    assert min(scores["plain TokenRank"]) > 0.6 > 0.5 > max(scores["RandomRanking"])


def test_the_model_that_quantus_hands_over_is_explained() -> None:
    """Model parameter randomisation (Adebayo et al. 2018): only what lies before the last softmax changes attention."""
    torch.manual_seed(0)
    model = VisionTransformer(img_size=16, patch_size=4, embed_dim=16, depth=1, num_heads=2, num_classes=3).eval()
    images = np.random.default_rng(0).normal(size=(4, 3, 16, 16)).astype(np.float32)
    metric = quantus.MPRT(layer_order="independent", similarity_func=quantus.correlation_spearman, disable_warnings=True)
    similar = metric(model=model, x_batch=images, y_batch=np.zeros(4, int), explain_func=explain_func)
    assert isinstance(similar, dict)
    assert np.mean(similar["patch_embed.proj"]) < 0.9
    assert np.mean(similar["blocks.0.attn.qkv"]) < 0.9
    assert np.allclose(similar["blocks.0.attn.proj"], 1)
    assert np.allclose(similar["head"], 1)


def test_several_methods_by_name(model: Any, batch: Example) -> None:
    """`quantus.evaluate` calls the function with the name as `method`; complexity is the entropy of all scores."""
    metrics = {"complexity": quantus.Complexity(disable_warnings=True)}
    methods = {"TokenRank": explain_func, "Rollout": explain_func}
    found = evaluate(metrics, methods, model, batch.image.numpy(), batch.label.numpy(), explain_func_kwargs={})
    assert isinstance(found, dict)
    for name, method in (("TokenRank", ac.TokenRank), ("Rollout", ac.Rollout)):
        pixels = method(model).attribute(batch.image)[:, 0].flatten(1).double()
        shares = pixels / pixels.sum(1, keepdim=True)
        assert np.allclose(found[name]["complexity"], -torch.xlogy(shares, shares).sum(1), atol=1e-5)


def test_what_is_refused(model: nn.Module) -> None:
    with pytest.raises(ac.AttentionError, match=r"(?s)inputs has shape \(3, 56, 56\).*images \(batch, channel,"):
        explain_func(model, np.zeros((3, 56, 56)))
    with pytest.raises(ac.AttentionError, match="method 'Saliency' is unknown.\nUse one of AttentionFlow, "):
        explain_func(model, np.zeros((1, 3, 56, 56)), method="Saliency")
