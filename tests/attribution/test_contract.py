"""What every method must do, whatever it computes: Captum's contract."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Attribution, LayerAttribution, NoiseTunnel, visualization
from captum.metrics import infidelity, sensitivity_max
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionAttribution, AttentionStore, attribution

from .miniature import source


def _reads_attention_alone(method: object) -> bool:
    return isinstance(method, type) and issubclass(method, AttentionAttribution) and method is not AttentionAttribution


METHODS: dict[str, Callable[[Any], AttentionAttribution]] = {
    **{name: method for name in attribution.__all__ if _reads_attention_alone(method := getattr(attribution, name))},
    "TokenRank, outgoing, lambda2": lambda source: ac.TokenRank(source, heads="lambda2", direction="outgoing"),
    "MultiBounce, center": lambda source: ac.MultiBounce(source, steps=3, start="center", layers=[0, -1]),
    "RawAttention, column": lambda source: ac.RawAttention(source, token=2, select="column"),
    "Rollout, half discarded": lambda source: ac.Rollout(source, discard=0.5, residual=0.2),
}
READING = {name: build for name, build in METHODS.items() if name != "RandomRanking"}
every_method = pytest.mark.parametrize("build", METHODS.values(), ids=METHODS)
every_method_that_reads_maps = pytest.mark.parametrize("build", READING.values(), ids=READING)


@every_method
def test_captum_contract(build: Callable[[Any], AttentionAttribution], images: Tensor) -> None:
    method = build(source)
    assert isinstance(method, Attribution)
    single = method.attribute(images)
    assert (single.shape, single.dtype, single.is_contiguous()) == (images.shape, images.dtype, True)
    several = method.attribute((images,), 1)
    assert isinstance(several, tuple)
    assert torch.equal(several[0], single)
    for target in (2, (1,), [0, 1, 2], [(0,), (1,), (2,)], torch.tensor([0, 1, 2])):
        assert torch.equal(method.attribute(images, target), single), "attention knows no class"
    assert method.attribute(images.half()).dtype == torch.float16
    assert list(inspect.signature(method.attribute).parameters)[:3] == ["inputs", "target", "additional_forward_args"]


@every_method
def test_outputs_agree(build: Callable[[Any], AttentionAttribution], images: Tensor) -> None:
    method = build(source)
    tokens, grid = method.attribute(images, output="tokens"), method.attribute(images, output="grid")
    assert (tokens.shape, grid.shape) == ((3, 5), (3, 2, 2))
    assert torch.equal(grid.flatten(1), tokens[:, 1:])
    assert torch.equal(method.attribute(images)[:, 1, ::4, ::4], grid)
    assert torch.equal(method.score(source(images)), tokens)


@every_method_that_reads_maps
def test_a_batch_is_its_examples(build: Callable[[Any], AttentionAttribution], images: Tensor) -> None:
    together = build(source).attribute(images)
    alone = torch.cat([build(source).attribute(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-6)


@every_method_that_reads_maps
def test_every_head_by_itself(build: Callable[[Any], AttentionAttribution], images: Tensor) -> None:
    method = build(source)
    method.heads = "each"
    assert method.attribute(images, output="tokens").shape == (3, 2, 5)
    assert method.attribute(images, output="grid").shape == (3, 2, 2, 2)
    method.heads = [1]
    one = method.attribute(images, output="tokens")
    method.heads = "each"
    assert torch.allclose(method.attribute(images, output="tokens")[:, 1], one, atol=1e-6)
    with pytest.raises(ac.AttentionError, match='for output="grid"'):
        method.attribute(images)


@every_method_that_reads_maps
def test_layers_are_numbered_as_in_the_model(build: Callable[[Any], AttentionAttribution], images: Tensor) -> None:
    method = build(source)
    for layers in (1, [1], slice(1, None), "layer.1"):
        method.layers = layers
        assert torch.equal(method.attribute(images, output="tokens"), method.score(source(images)))


@every_method
def test_a_stored_file_needs_no_model(build: Callable[[Any], AttentionAttribution], images: Tensor, tmp_path: Any) -> None:
    source(images).write(tmp_path / "run.safetensors")
    stored = AttentionStore.read(tmp_path / "run.safetensors")
    assert torch.equal(build(None).score(stored), build(source).attribute(images, output="tokens"))


CHANGING = READING | {"MetastableStates": lambda source: ac.MetastableStates(source, balanced=False)}  # balanced, they stay


@pytest.mark.parametrize("build", CHANGING.values(), ids=CHANGING)
def test_further_arguments_reach_the_model(build: Callable[[Any], AttentionAttribution], images: Tensor) -> None:
    method = build(source)
    same = method.attribute(images, None, 1.0)
    assert torch.equal(same, method.attribute(images))
    assert not torch.equal(method.attribute(images, additional_forward_args=(torch.tensor(0.1),)), same)


@every_method
def test_under_captums_own_tools(build: Callable[[Any], AttentionAttribution], images: Tensor) -> None:
    method = build(source)
    attributions = method.attribute(images)
    smooth = NoiseTunnel(method).attribute(images, nt_samples=2, stdevs=0.1, target=1)
    assert isinstance(smooth, Tensor)
    assert smooth.shape == images.shape
    still = NoiseTunnel(method).attribute(images, nt_samples=1, stdevs=0.0)
    assert isinstance(still, Tensor)
    assert torch.equal(still, attributions)
    sensitivity = sensitivity_max(method.attribute, images, target=1)
    assert bool(sensitivity.isfinite().all())

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        noise = 0.1 * torch.randn_like(inputs)
        return noise, inputs - noise

    def forward(inputs: Tensor) -> Tensor:
        return inputs.flatten(1).sum(1)

    infidelities = infidelity(forward, perturb, images, attributions, normalize=True)
    assert infidelities.shape == (3,)
    assert bool(infidelities.isfinite().all())


@every_method
def test_in_captums_pictures(build: Callable[[Any], AttentionAttribution], images: Tensor) -> None:
    method = build(source)
    attributions = method.attribute(images)
    grid = method.attribute(images, output="grid")[:, None]
    assert torch.equal(LayerAttribution.interpolate(grid, (8, 8)).expand_as(images), attributions)
    picture = attributions[0].permute(1, 2, 0).numpy()
    figure, axes = visualization.visualize_image_attr(picture, picture, "blended_heat_map", "positive", use_pyplot=False)
    assert len(axes.images) == 2
    assert np.ptp(np.asarray(axes.images[1].get_array())) > 0 or np.ptp(picture) == 0
    assert figure.get_axes()


@every_method
def test_parts_make_the_whole(build: Callable[[Any], AttentionAttribution], images: Tensor) -> None:
    sizes = []

    def watched(images: Tensor, temperature: Tensor) -> AttentionStore:
        sizes.append(len(images))
        return source(images, temperature)

    temperature, each = torch.tensor(0.5), torch.tensor([0.5, 1, 2])[:, None, None]
    for argument in (temperature, each):
        whole = build(watched).attribute(images, additional_forward_args=argument)
        parts = build(watched).attribute(images, additional_forward_args=(argument,), internal_batch_size=2)
        assert torch.allclose(parts, whole, atol=1e-6)
        assert parts.is_contiguous()
    assert sizes == [3, 2, 1] * 2
    tokens = build(source).attribute(images, output="tokens", internal_batch_size=1)
    assert torch.allclose(tokens, build(source).attribute(images, output="tokens"), atol=1e-6)


@every_method
def test_the_residual_where_there_is_one(build: Callable[[Any], AttentionAttribution], images: Tensor) -> None:
    method = build(source)
    assert method.has_convergence_delta() == isinstance(method, ac.TokenRank)
    if not isinstance(method, ac.TokenRank):
        with pytest.raises(ac.AttentionError, match=f"{type(method).__name__} as it is set up solves no equation"):
            method.attribute(images, return_convergence_delta=True)
        with pytest.raises(ac.AttentionError, match="no residual to return"):
            method.score_with_residual(source(images))
        return
    (attributions,), delta = method.attribute((images,), return_convergence_delta=True, internal_batch_size=2)
    assert torch.allclose(attributions, method.attribute(images))
    assert delta.shape == (3,)
    _, damping = method.policy(decoder=False)
    scores, P = method.score(source(images)), ac.damp(method.chain(source(images)), damping)
    assert torch.allclose(delta, (P.step(scores) - scores).abs().sum(-1), atol=1e-6)
    assert 0 < float(delta.max()) <= 1e-6
    solved, residual = ac.stationary(method.chain(source(images)), damping, return_residual=True)
    assert torch.equal(method.attribute(images, return_convergence_delta=True)[1], residual)
    assert torch.equal(scores, solved)
    smooth = NoiseTunnel(method).attribute(images, nt_samples=2, stdevs=0.1, return_convergence_delta=True)
    assert [part.shape for part in smooth if isinstance(part, Tensor)] == [images.shape, (6,)]


@pytest.mark.parametrize("name", attribution.__all__)
def test_every_setting_of_a_method_is_given_by_its_name(name: str) -> None:
    """`Rollout(model, -1)` said where the walk starts, and `TokenRank(model, -1)` which layer is read."""
    method = getattr(attribution, name)
    if isinstance(method, type) and issubclass(method, attribution.TokenAttribution):
        first, *settings = inspect.signature(method).parameters.values()
        assert first.name == "forward_func"
        assert {each.kind for each in settings} <= {inspect.Parameter.KEYWORD_ONLY}
