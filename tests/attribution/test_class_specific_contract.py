"""What every class-specific method must do, whatever it computes: Captum's contract of gradient methods."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import GradientAttribution, NoiseTunnel
from captum.metrics import infidelity, sensitivity_max
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionGradientAttribution, attribution

from . import small_models as small


def _is_class_specific(method: object) -> bool:
    return (
        isinstance(method, type)
        and issubclass(method, AttentionGradientAttribution)
        and method is not AttentionGradientAttribution
    )


METHODS: dict[str, Callable[..., AttentionGradientAttribution]] = {
    name: method for name in attribution.__all__ if _is_class_specific(method := getattr(attribution, name))
}
every_method = pytest.mark.parametrize("build", METHODS.values(), ids=METHODS)
Build = Callable[..., AttentionGradientAttribution]


def made(build: Callable[..., Any], model: Any, **options: Any) -> Any:
    return build(model, **small.FEW.get(build.__name__, {}), **options)


def test_all_of_them_are_here() -> None:
    kinds = [kind for kind in AttentionGradientAttribution.__subclasses__() if kind.__module__.startswith("attnchain_interp.")]
    assert set(METHODS) == {kind.__name__ for kind in kinds}
    assert "GradientAttention" in METHODS


@every_method
def test_captum_contract(build: Build) -> None:
    images, method = small.images(3), made(build, small.vit())
    assert isinstance(method, GradientAttribution)
    assert list(inspect.signature(method.attribute).parameters)[:3] == ["inputs", "target", "additional_forward_args"]
    single = method.attribute(images, 1)
    assert (single.shape, single.dtype, single.is_contiguous()) == (images.shape, images.dtype, True)
    assert not single.requires_grad
    several = method.attribute((images,), target=torch.tensor(1))
    assert isinstance(several, tuple)
    assert torch.equal(several[0], single)
    assert not method.has_convergence_delta()
    grid, tokens = method.attribute(images, 1, output="grid"), method.attribute(images, 1, output="tokens")
    assert (grid.shape, tokens.shape) == ((3, 2, 3), (3, 7))
    assert torch.equal(grid.flatten(1), tokens[:, 1:])
    assert torch.equal(single[:, 2, ::4, ::4], grid)
    assert bool((tokens >= 0).all())


@every_method
def test_every_example_has_its_own_target(build: Build) -> None:
    images, method = small.images(3), made(build, small.vit())
    together = method.attribute(images, [0, 3, 0])
    alone = torch.cat([method.attribute(images[k : k + 1], target) for k, target in enumerate((0, 3, 0))])
    assert torch.allclose(together, alone, atol=1e-10)
    kinds = ([0, 3, 0], torch.tensor([0, 3, 0]), [*torch.tensor([0, 3, 0])], np.array([0, 3, 0]))
    parts = [method.attribute(images, kind, internal_batch_size=2) for kind in kinds]
    assert all(torch.allclose(part, together, atol=1e-10) for part in parts)
    same = method.attribute(images, 0)
    assert torch.allclose(same[[0, 2]], together[[0, 2]], atol=1e-10)
    assert not torch.allclose(same[1], together[1], atol=1e-8), "the target matters"


@every_method
@pytest.mark.parametrize("target", [[1, 2], torch.tensor([1, 2])], ids=["list", "tensor"])
def test_targets_of_another_length_are_refused_in_parts(build: Build, target: Any) -> None:
    with pytest.raises(ac.AttentionError, match=r"holds 2, and inputs holds 4 examples"):
        made(build, small.vit()).attribute(small.images(4), target, internal_batch_size=2)


@every_method
def test_inputs_that_were_made_in_inference_mode(build: Build) -> None:
    method, images = made(build, small.vit()), small.images()
    with torch.inference_mode():
        made_there = images.clone()
    assert torch.equal(method.attribute(made_there, 1), method.attribute(images, 1))


@every_method
def test_embeddings_are_attributed_token_by_token(build: Build) -> None:
    model = small.bert()
    embedded = model.get_input_embeddings()(small.ids()).detach()
    scores = made(build, model).attribute(embedded, target=1)
    assert (scores.shape, scores.dtype) == (embedded.shape, embedded.dtype)
    assert torch.equal(scores[..., :1].expand_as(scores), scores)
    if build is not ac.TransitionAttentionMaps:  # which cannot scale token numbers
        assert torch.allclose(scores[..., 0], made(build, model).attribute(small.ids(), target=1, output="tokens"), atol=1e-10)


@every_method
def test_no_grad_around_changes_nothing(build: Build) -> None:
    model, images = small.vit(), small.images()
    expected = made(build, model).attribute(images, 1)
    model.requires_grad_(False)
    with torch.no_grad():
        assert torch.allclose(made(build, model).attribute(images, 1), expected, atol=1e-12)
    assert all(parameter.grad is None for parameter in model.parameters())


@every_method
def test_under_captums_own_tools(build: Build) -> None:
    images, model = small.images(), small.vit()
    method = made(build, model)
    targets = torch.tensor([1, 2])
    still = NoiseTunnel(method).attribute(images, nt_samples=2, stdevs=1e-9, target=targets)
    assert isinstance(still, Tensor)
    assert torch.allclose(still, method.attribute(images, targets), atol=1e-5)
    sensitivity = sensitivity_max(method.attribute, images, n_perturb_samples=2, target=targets)
    assert bool(sensitivity.isfinite().all())

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        noise = 0.1 * torch.randn_like(inputs)
        return noise, inputs - noise

    unfaithful = infidelity(model, perturb, images, method.attribute(images, targets), target=targets, normalize=True)
    assert unfaithful.shape == (2,)


@pytest.mark.parametrize("build", [build for build in METHODS.values() if build is not ac.TransitionAttentionMaps])
def test_further_arguments_reach_the_model(build: Build) -> None:
    """Of text; token numbers cannot be scaled, which transition attention maps need."""
    mask = torch.tensor([[1] * 7, [1, 1, 1, 0, 0, 0, 0]])
    method = made(build, small.bert())
    scores = method.attribute(small.ids(), 2, mask)
    assert torch.equal(scores, method.attribute(small.ids(), target=2, additional_forward_args=(mask,)))
    assert not scores[1, 3:].any()
    assert method.attribute(small.ids(), 2)[1, 3:].any()


@every_method
def test_permuting_patches_permutes_scores(build: Build) -> None:
    model, images = small.vit(), small.images()
    model.pos_embed.data[:, 1:] = model.pos_embed.data[:, 1:2]  # patches that do not know their place
    method, patches = made(build, model), images.unflatten(2, (2, 4)).unflatten(4, (3, 4))
    moved = patches.flip(2).roll(1, 4).flatten(4, 5).flatten(2, 3)
    expected = method.attribute(images, 1, output="grid").flip(1).roll(1, 2)
    assert torch.allclose(method.attribute(moved, 1, output="grid"), expected, atol=1e-9)


OF_A_TARGET: dict[str, Callable[..., attribution.TokenAttribution]] = {
    name: method
    for name in attribution.__all__
    if isinstance(method := getattr(attribution, name), type)
    and issubclass(method, attribution.TokenAttribution)
    and not inspect.isabstract(method)
    and method.explains_target
}
every_target = pytest.mark.parametrize("build", OF_A_TARGET.values(), ids=OF_A_TARGET)


def _of_text(build: Callable[..., Any], ids: Tensor, target: Any, **options: Any) -> Tensor:
    model = small.llama()
    inputs = model.get_input_embeddings()(ids).detach() if build is ac.TransitionAttentionMaps else ids
    return made(build, model, **options).attribute(inputs, target, output="tokens")


@every_target
def test_tokens_after_the_position_of_the_target_score_nothing(build: Callable[..., Any]) -> None:
    """A decoder's logits at a position are those of the text up to it, and so are the scores."""
    ids = small.ids()
    scores = _of_text(build, ids, [(2, 5), (-4, 8)])
    for row, (position, token) in enumerate([(2, 5), (3, 8)]):
        assert not scores[row, position + 1 :].any()
        cut = _of_text(build, ids[row : row + 1, : position + 1], (position, token))[0]
        assert cut.any()
        if build is not attribution.ShapleyValues:  # its random orders are of as many tokens
            torch.testing.assert_close(scores[row, : position + 1], cut, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("start", ["uniform", "last"])
@pytest.mark.parametrize("build", [build for build in METHODS.values() if getattr(build, "has_start", False)])
def test_walks_of_a_target_start_up_to_its_position(build: Callable[..., Any], start: str) -> None:
    ids = small.ids(1)
    scores = _of_text(build, ids, (3, 5), start=start)
    cut = _of_text(build, ids[:, :4], (3, 5), start=start)
    assert not scores[0, 4:].any()
    torch.testing.assert_close(scores[:, :4], cut, atol=1e-9, rtol=1e-9)


def test_the_context_of_a_target_where_factors_are_kept() -> None:
    read = [
        ac.capture_gradients(small.llama(), small.ids(), target=[(3, 5), (6, 2)], keep=keep) for keep in ("maps", "factors")
    ]
    for build in (ac.GradientTokenRank, ac.GradientAttention, ac.ExpectedVisits):
        maps, factors = (build().score(found) for found in read)
        assert not factors[0, 4:].any()
        assert factors[1].all()
        torch.testing.assert_close(factors, maps, atol=1e-9, rtol=1e-9)


def test_sources_without_a_score(store: Any) -> None:
    with pytest.raises(ac.AttentionError, match="gradients need a model that an adapter recognises; got function"):
        ac.LeGrad(lambda images: store).attribute(small.images(), 1)
    with pytest.raises(ac.AttentionError, match="inputs holds 2 items"):
        ac.LeGrad(small.vit()).attribute((small.images(), small.images()), 1)
    with pytest.raises(ac.AttentionError, match=r"takes token numbers \(integers\), or embeddings"):
        NoiseTunnel(ac.LeGrad(small.bert())).attribute(small.ids().double(), target=1)
