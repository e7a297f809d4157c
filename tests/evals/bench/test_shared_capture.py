"""A batch is captured once, whatever the number of methods."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import Dinov2Config, Dinov2Model

import attnchain_interp as ac
from attnchain_evals import InputMagnitude, benchmark
from attnchain_evals.bench import shared_capture
from attnchain_evals.bench.shared_capture import SharedCapture
from attnchain_evals.metrics import curve_metrics, localisation_metrics

from ...attribution import small_models as small
from ..bench_tasks import tiny_vit, vit_methods


def test_methods_share_one_capture_and_one_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images, calls = tiny_vit(), torch.rand(2, 3, 16, 16), []
    for name in ("capture", "capture_gradients"):
        real = getattr(shared_capture, name)
        monkeypatch.setattr(shared_capture, name, lambda *a, _n=name, _f=real, **k: calls.append(_n) or _f(*a, **k))
    shared = SharedCapture(model, images)
    found = {name: shared.scores(method) for name, method in vit_methods(model).items()}
    assert sorted(calls) == ["capture", "capture_gradients"]
    assert {tuple(scores.shape) for scores in found.values()} == {(2, 4, 4)}
    assert torch.equal(found["TokenRank"], ac.TokenRank(model).attribute(images, output="grid"))


def test_a_backbone_without_logits_does_for_attention_alone() -> None:
    size: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28}
    backbone, images = Dinov2Model(Dinov2Config(patch_size=14, **size)).eval(), torch.rand(2, 3, 28, 28)
    masks = torch.zeros(2, 28, 28, dtype=torch.bool)
    masks[:, :14] = True
    data = [SimpleNamespace(image=image, mask=mask) for image, mask in zip(images, masks, strict=True)]
    methods = {"TokenRank": ac.TokenRank(), "input magnitude": InputMagnitude((2, 2))}
    assert SharedCapture(backbone, images).known_target is None
    found = benchmark(backbone, data, methods, localisation_metrics(), baseline="TokenRank")
    assert set(found.scores) == set(methods)
    with pytest.raises(ac.AttentionError, match="without logits.\nTake a model with a classification head"):
        benchmark(backbone, data, methods, curve_metrics(), baseline="TokenRank")
    with pytest.raises(ac.AttentionError, match="without logits"):
        SharedCapture(backbone, images).scores(ac.GradientAttention())


def test_the_default_maps_share_the_capture_of_what_they_are() -> None:
    image, text = (tiny_vit(), torch.rand(2, 3, 16, 16)), (small.bert(), small.ids())
    cases: list[tuple[Any, Any]] = [(image, "attention"), (text, "alti")]
    for (model, inputs), maps in cases:
        for order in ((None, maps), (maps, None)):
            shared = SharedCapture(model, inputs)
            one, other = map(shared.maps, order)
            assert torch.equal(one.maps(), other.maps())
            assert (one is other) == (maps == "attention" or order[0] is None)


def test_the_target_is_the_predicted_class_unless_given() -> None:
    model, images = tiny_vit(), torch.rand(2, 3, 16, 16)
    assert torch.equal(SharedCapture(model, images).target, model(images).argmax(1))
    one, other = (SharedCapture(model, images, target=torch.full((2,), k)).scores(ac.GradientAttention()) for k in (0, 1))
    assert not torch.allclose(one, other)
    for number in (-1, 99):
        with pytest.raises(
            ac.AttentionError, match=rf"has no class {number}; it has 3 classes\.\nPass a number from 0 to 2\."
        ):
            SharedCapture(model, images, target=torch.full((2,), number)).scores(ac.GradientAttention())


def test_methods_of_other_maps_have_a_capture_of_their_own() -> None:
    """One for all methods of the same maps."""
    model, images = tiny_vit(), torch.rand(2, 3, 16, 16)
    shared = SharedCapture(model, images)
    for build in (ac.TokenRank, ac.MultiBounce):
        for maps in ("alti", "attention", "norm"):
            found = shared.scores(build(maps=maps, balanced=True))
            assert torch.equal(found, build(model, maps=maps, balanced=True).attribute(images, output="grid"))
    assert shared.maps("alti") is shared.maps("alti")
    assert not torch.allclose(shared.maps("alti").maps(), shared.maps("norm").maps(), atol=1e-3)


@pytest.mark.parametrize("method", [ac.attribution.LeaveOneOut, ac.attribution.IntegratedGradients, ac.GradientTokenRank])
def test_the_only_logit_is_the_score_itself(method: Any) -> None:
    model, ids = small.bert(), small.ids()
    model.classifier = torch.nn.Linear(48, 1).double()
    shared = SharedCapture(model, ids)
    assert torch.equal(shared.scores(method(model)), method(model).attribute(ids, output="tokens"))
    again = SharedCapture(model, ids, target=shared.known_target)
    assert torch.equal(again.scores(method(model)), shared.scores(method(model))), "as sanity checks pass it on"
