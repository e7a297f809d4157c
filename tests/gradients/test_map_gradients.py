"""What `capture_gradients` finds, what it leaves as it was, and what it refuses."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp.capture import CaptureRequest, StoreCollector, adapter_named
from attnchain_interp.gradients import capture_layer_gradients

from ..attribution import small_models as small


def stacked(found: ac.gradients.AttentionGradients) -> Tensor:
    return torch.stack([found.gradient(layer) for layer in range(len(found))], 1)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_maps_and_gradients_are_those_of_the_models_own_softmax(depth: int) -> None:
    images, target = small.images(), [3, 1]
    maps, gradients = small.of_vit(small.vit(depth), images, target)
    for fused in (True, False):
        found = ac.capture_gradients(small.vit(depth, fused=fused), images, target=target)
        assert torch.allclose(found.store.maps(), torch.stack(maps, 1), atol=1e-12)
        assert torch.allclose(stacked(found), torch.stack(gradients, 1), atol=1e-12)
        assert not any(each.requires_grad for layer in found for each in layer)


def test_every_form_of_target_that_captum_takes() -> None:
    model, images = small.vit(), small.images()
    expected = stacked(ac.capture_gradients(model, images, target=2))
    same: list[Any] = [torch.tensor(2), torch.tensor([2]), torch.tensor([2, 2]), [2, 2], (2,), [(2,), (2,)]]
    for target in [*same, lambda logits: logits[:, 2]]:
        assert torch.equal(stacked(ac.capture_gradients(model, images, target=target)), expected)
    mixed = stacked(ac.capture_gradients(model, images, target=[2, 0]))
    assert torch.allclose(mixed[0], expected[0], atol=1e-12)
    assert not torch.allclose(mixed[1], expected[1], atol=1e-4)
    alone = small.vit(num_classes=1)
    assert torch.equal(stacked(ac.capture_gradients(alone, images)), stacked(ac.capture_gradients(alone, images, target=0)))

    decoder, ids = small.llama(), small.ids()
    at = stacked(ac.capture_gradients(decoder, ids, target=(4, 9)))
    assert torch.equal(stacked(ac.capture_gradients(decoder, ids, target=[(4, 9), (4, 9)])), at)
    other = stacked(ac.capture_gradients(decoder, ids, target=[(4, 9), (2, 9)]))
    assert torch.allclose(other[0], at[0], atol=1e-12)
    assert not other[1, ..., 3:, :].any(), "what comes later has no part"


def test_the_logits_that_a_target_names_alone_are_asked_for() -> None:
    decoder, ids = small.llama(), small.ids()
    seen: list[int] = []
    decoder.register_forward_hook(lambda _, __, output: seen.append(output.logits.shape[1]))
    last = stacked(ac.capture_gradients(decoder, ids, target=(-2, 9)))
    assert torch.allclose(stacked(ac.capture_gradients(decoder, ids, target=(5, 9))), last, atol=1e-12)
    labelled = ac.capture_gradients(decoder, ids, target=(-2, 9), labels=ids)
    assert torch.allclose(stacked(labelled), last, atol=1e-12)
    with pytest.raises(ac.AttentionError, match=r"\(2, 7, 60\)"):
        ac.capture_gradients(decoder, ids, target=(-9, 9))
    assert seen == [2, 7, 7, 7]


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize(("build", "target"), [(small.bert, 1), (small.llama, (4, 1))])
def test_transformers_fused_and_eager_find_the_same(build: Any, target: Any, implementation: str) -> None:
    mask = torch.tensor([[1] * 7, [1, 1, 1, 1, 1, 0, 0]])
    _, gradients = small.of_transformers(build(), [target] * 2, input_ids=small.ids(), attention_mask=mask)
    found = ac.capture_gradients(build(implementation), small.ids(), attention_mask=mask, target=target)
    reachable = found.store.maps() > 0
    rounding = 1e-6 if build is small.llama else 1e-10  # its eager softmax is in float32
    assert torch.allclose(stacked(found).double(), torch.stack(gradients, 1) * reachable, atol=rounding)


def test_queries_of_padding_that_have_no_key() -> None:
    """Their softmax has no gradient, and that must not reach the others."""
    mask = torch.tensor([[1] * 7, [0, 0, 1, 1, 1, 1, 1]])
    model = small.llama()
    padded = stacked(ac.capture_gradients(model, small.ids(), attention_mask=mask, target=(6, 1)))
    alone = stacked(ac.capture_gradients(model, small.ids()[1:, 2:], target=(4, 1)))
    assert torch.allclose(padded[1, ..., 2:, 2:], alone[0], atol=1e-5), "but for the rotations, which are in float32"
    assert not padded[1, ..., :2, :].any()


def test_a_gradient_is_the_whole_derivative() -> None:
    """Earlier maps act through the queries and keys of later ones: beside finite differences of the model itself."""
    model, images = small.vit(3), small.images()
    found = ac.capture_gradients(model, images, target=1)
    adapter, generator = adapter_named("timm"), torch.Generator().manual_seed(0)
    for number, layer in enumerate(found.store):
        gradient = found.gradient(number)
        direction = torch.randn(layer.maps.shape, generator=generator, dtype=torch.float64)
        scores = []

        def remember(_: Any, __: Any, output: Tensor, scores: list[Tensor] = scores) -> None:
            scores.append(output[:, 1])

        with torch.no_grad(), model.register_forward_hook(remember):
            for step in (1e-5, -1e-5):
                request = CaptureRequest(StoreCollector(), layer.name, edit=lambda _, maps, move=step * direction: maps + move)
                adapter.capture(model, (images,), {}, request)
        change = (scores[0] - scores[1]) / 2e-5
        assert torch.allclose(change, (gradient * direction).sum((1, 2, 3)), atol=1e-6)


def test_the_model_is_left_as_it_was_and_frozen_ones_will_do() -> None:
    model, images = small.vit(), small.images()
    first = next(model.parameters())
    first.grad = torch.ones_like(first)
    before = copy.deepcopy(model.state_dict())
    expected = stacked(ac.capture_gradients(model, images, target=1))
    assert torch.equal(first.grad, torch.ones_like(first))
    assert all(parameter.grad is None for parameter in list(model.parameters())[1:])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not torch.nn.modules.module._global_forward_hooks
    model.requires_grad_(False)
    assert torch.allclose(stacked(ac.capture_gradients(model, images, target=1)), expected, atol=1e-12)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        assert torch.allclose(stacked(ac.capture_gradients(model, images, target=1)), expected, atol=1e-12)
        assert not torch.is_grad_enabled()
    watched = images.clone().requires_grad_()
    assert torch.allclose(stacked(ac.capture_gradients(model, watched, target=1)), expected, atol=1e-12)
    assert watched.grad is None
    with pytest.raises(RuntimeError, match="boom"):
        ac.capture_gradients(model, images, target=lambda _: (_ for _ in ()).throw(RuntimeError("boom")))
    assert not torch.nn.modules.module._global_forward_hooks


def test_half_precision_gives_gradients_float32_or_wider() -> None:
    model, images = small.vit(), small.images()
    expected = stacked(ac.capture_gradients(model, images, target=1)).float()
    found = ac.capture_gradients(model.bfloat16(), images.bfloat16(), target=1)
    maps, gradients = found[-1]
    assert maps.dtype == gradients.dtype == torch.float32
    assert torch.allclose(gradients, expected[:, -1], atol=0.05 * float(expected.abs().max()))


@pytest.mark.parametrize("keep", ["maps", "factors"])
def test_gradients_that_are_not_numbers_are_refused(keep: Any) -> None:
    """A walk read them as no evidence, and its scores were those of plain attention."""
    model, images = small.vit(), small.images()

    def target(logits: Tensor) -> Tensor:
        return torch.stack([logits[0, 1], (logits[1, 1] * 0).sqrt()])

    found = r"(?s)NaN or infinite in example 1: .* has no derivative, or the backward overflows float64.*model.float\(\)"
    with pytest.raises(ac.AttentionError, match=found):
        ac.capture_gradients(model, images, target=target, keep=keep)
    for method in (ac.GradientTokenRank(model), ac.GradientMultiBounce(model), ac.LeGrad(model)):
        with pytest.raises(ac.AttentionError, match="NaN or infinite in example 1"):
            method.attribute(images, target=target)


def test_a_backward_that_overflows_is_refused() -> None:
    llama, ids = small.llama().half(), torch.arange(3, 12)[None]

    def target(output: Any) -> Tensor:
        return output.logits[:, -1, 3].float() * 1e30

    with pytest.raises(ac.AttentionError, match="NaN or infinite in example 0: .*the backward overflows float16"):
        ac.GradientTokenRank(llama).attribute(ids, target=target)
    ac.GradientTokenRank(llama.float()).attribute(ids, target=target)


def test_layers_are_chosen_and_named() -> None:
    model, images = small.vit(3), small.images()
    every = ac.capture_gradients(model, images, target=1)
    one = ac.capture_gradients(model, images, target=1, layers=[-1, "blocks.0.attn"])
    assert one.store.names == ["blocks.0.attn", "blocks.2.attn"], "as they run"
    assert torch.allclose(stacked(one), stacked(every)[:, [0, 2]], atol=1e-12)
    assert torch.equal(stacked(every.select([2, 0])), stacked(every)[:, [0, 2]])
    assert (len(every), len(one), sum(1 for _ in every)) == (3, 2, 3)
    with pytest.raises(ac.AttentionError, match="layer 3 does not exist"):
        every.select(3)


class Detached(nn.Module):
    """A head that hides what it read from autograd, as quantised layers do."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x).detach()


def test_models_through_which_no_gradient_flows() -> None:
    model, images = small.vit(), small.images()
    model.blocks[1].norm1 = Detached(model.blocks[1].norm1)
    model.blocks[1].attn.proj = Detached(model.blocks[1].attn.proj)
    with pytest.raises(ac.AttentionError, match=r"to 1 of 2 attention layers \(the first: 'blocks.1.attn'\)"):
        ac.capture_gradients(model, images, target=1)
    model = small.vit()
    model.head = Detached(model.head)
    with pytest.raises(ac.AttentionError, match="no gradient flows from the score to 2 of 2 attention layers"):
        ac.capture_gradients(model, images, target=1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_models_are_refused() -> None:
    quantised = torch.ao.quantization.quantize_dynamic(small.bert().float(), {nn.Linear})
    with pytest.raises(ac.AttentionError, match="quantised layers"):
        ac.capture_gradients(quantised, small.ids(), target=1)


def test_a_model_that_was_made_in_inference_mode_is_refused() -> None:
    with torch.inference_mode():
        model = small.vit()
    with pytest.raises(ac.AttentionError, match=r"cls_token was made in torch\.inference_mode\(\)"):
        ac.capture_gradients(model, small.images(), target=1)


def test_inference_mode_is_refused() -> None:
    images = small.images()
    with torch.inference_mode(), pytest.raises(ac.AttentionError, match=r"torch.inference_mode\(\) is on"):
        ac.capture_gradients(small.vit(), images, target=1)


def test_targets_that_are_refused() -> None:
    model, images = small.vit(), small.images()
    for target in (4, [1, 4], torch.tensor([4, 0])):
        with pytest.raises(
            ac.AttentionError, match=r"(?s)cannot be selected from .* \(2, 4\) .* a class from 0 to 3 \(-4 to -1 count"
        ):
            ac.capture_gradients(model, images, target=target)
    for wrong in ([1], [1, 2, 3], torch.tensor([[1, 2]]), "cat", [1.5, 2.5], (1, 2)):
        with pytest.raises(ac.AttentionError, match=r"cannot be selected from logits of shape \(2, 4\)"):
            ac.capture_gradients(model, images, target=wrong)  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match=r"target=None gives a tensor \(2, 4\), and a gradient is of one score"):
        ac.capture_gradients(model, images)
    with pytest.raises(ac.AttentionError, match=r"target=3 gives a tensor \(2, 60\)"):
        ac.capture_gradients(small.llama(), small.ids(), target=3)
    with pytest.raises(ac.AttentionError, match="the function gives list, and a gradient is of one score"):
        ac.capture_gradients(model, images, target=lambda logits: logits.tolist())  # type: ignore[arg-type,return-value]


def test_sources_that_have_no_score() -> None:
    embeds = small.bert().bert
    with pytest.raises(ac.AttentionError, match=r"(?s)outputs BaseModelOutput\w* without logits.*output.pooler_output"):
        ac.capture_gradients(embeds, small.ids(), target=0)
    found = ac.capture_gradients(embeds, small.ids(), target=lambda output: output.pooler_output[:, 0])
    assert stacked(found).any()
    with pytest.raises(ac.AttentionError, match="gradients need a model that an adapter recognises; got function"):
        ac.capture_gradients(stacked, small.images(), target=0)


@pytest.mark.parametrize("keep", ["maps", "factors"])
@pytest.mark.parametrize("fused", [True, False])
def test_several_scores_of_one_example_have_a_gradient_each(keep: Any, fused: bool) -> None:
    if keep == "factors" and not fused:
        return
    model: Any = small.vit(fused=fused)
    images = small.images()[:1]
    several: Any = ac.gradients.SeveralScores(lambda logits: logits[0, [2, 0, 3]])
    found = ac.capture_gradients(model, images, target=several, keep=keep)
    for k, target in enumerate((2, 0, 3)):
        alone = ac.capture_gradients(model, images, target=target, keep=keep)
        for layer in range(len(alone)):
            assert torch.allclose(found.gradient(layer)[k], alone.gradient(layer)[0], atol=1e-12)
    by_layer = capture_layer_gradients(model, images, target=several)
    assert torch.allclose(by_layer.gradient(0)[1], capture_layer_gradients(model, images, target=0).gradient(0)[0], atol=1e-12)


def test_the_context_of_a_target() -> None:
    """Of a decoder that reads an image: a grid stays while all of its patches are seen, and labels stay."""
    maps = torch.ones(2, 1, 6, 6).tril() / torch.arange(1.0, 7)[:, None]
    layout = ac.TokenLayout.image(2, (1, 3), prefix=[ac.Role.TEXT], suffix=[ac.Role.TEXT] * 2)
    labels = [[str(k) for k in range(6)]] * 2
    store = ac.AttentionStore.from_maps([maps], replace(layout, labels=labels))

    def up_to(*positions: int) -> ac.TokenLayout:
        return ac.gradients.AttentionGradients(store, [maps], torch.tensor(positions)).context().tokens

    assert (up_to(4, 5).grid, up_to(4, 5).labels, up_to(4, 5).mask.sum(1).tolist()) == ((1, 3), labels, [5, 6])
    assert (up_to(2, 5).grid, up_to(2, 5).labels, up_to(2, 5).mask.sum(1).tolist()) == (None, labels, [3, 6])
    assert up_to(5, 5) is store.tokens


@pytest.mark.parametrize("keep", ["maps", "factors"])
def test_the_context_ends_where_the_target_reads(keep: Any) -> None:
    model, ids = small.llama(), small.ids()
    of_function = ac.capture_gradients(model, ids, target=lambda output: output.logits[:, 4, 9], keep=keep)
    assert of_function.read.sum(1).tolist() == [1, 1]
    assert of_function.context().tokens.last.tolist() == [4, 4]

    def of_each(output: Any) -> Tensor:
        return torch.stack([output.logits[0, 3, 9] - output.logits[0, 1, 8], 0 * output.logits[1, 0, 9]])

    unread = ac.capture_gradients(model, ids, target=of_each, keep=keep)
    assert unread.context().tokens.last.tolist() == [3, 6]
    several: Any = ac.gradients.SeveralScores(lambda output: output.logits[0, [2, 4], 9])
    both = ac.capture_gradients(model, ids[:1], target=several, keep=keep)
    assert both.context().tokens.last.tolist() == [4]


def test_a_target_on_padding_is_refused() -> None:
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 5:] = 0
    found = ac.capture_gradients(small.llama(), small.ids(), target=(-1, 9), attention_mask=mask)
    with pytest.raises(ac.AttentionError, match=r"(?s)position 6 of example 1, which is padding.*for each example"):
        found.context()
    each = ac.capture_gradients(small.llama(), small.ids(), target=[(-1, 9), (4, 9)], attention_mask=mask)
    assert each.context().tokens.last.tolist() == [6, 4]


def test_numbers_of_numpy_and_torch_name_a_position_as_ints_do() -> None:
    model, ids = small.llama(), small.ids(1)
    expected = stacked(ac.capture_gradients(model, ids, target=(-2, 7)))
    for target in ((torch.tensor(-2), torch.tensor(7)), (np.int64(-2), np.int64(7)), np.array([[-2, 7]])[0]):
        found = ac.capture_gradients(model, ids, target=tuple(target))
        assert torch.equal(stacked(found), expected)
