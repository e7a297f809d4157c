"""The contract that methods of perturbation share."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
import torch
import transformers
from captum.attr import KernelShap, PerturbationAttribution, ShapleyValueSampling
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp.attribution import LeaveOneOut, ShapleyValues, TokenAblation, TokenPerturbation
from attnchain_interp.attribution.model_call import Call

from .. import small_models as small
from ..text.texts import DECODER, ENCODER, SEQ2SEQ, TEXT, bart


class Left(TokenPerturbation):
    """The score with all tokens, at each token."""

    def __init__(self, forward_func: Any, score: Any = "log-probability") -> None:
        super().__init__(forward_func, score=score, perturbations_per_eval=1)

    def of_one(self, ablation: TokenAblation, tokens: Tensor) -> Tensor:
        return ablation(tokens)[:, None] * tokens.double()


def test_leave_one_out_takes_a_forward_a_token_and_at_most_ten_more() -> None:
    """Ten of OPT, whose positions are passed, where the place that is read sees one token."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 48, "num_attention_heads": 3, "num_hidden_layers": 2, "word_embed_proj_dim": 48}
    opt: Any = transformers.OPTForCausalLM(transformers.OPTConfig(vocab_size=60, ffn_dim=32, **sizes)).eval()
    for model, target, more in ((opt, (0, 3), 10), (opt, (6, 3), 8), (small.llama(), (6, 3), 6), (small.bert(), 2, 6)):
        forwards: list[None] = []
        model.register_forward_hook(lambda *_, forwards=forwards: forwards.append(None))
        LeaveOneOut(model, perturbations_per_eval=1).attribute(small.ids(1), target)
        assert len(forwards) == 7 + more


def test_each_example_is_scored_by_itself() -> None:
    model, mask = small.bert(), torch.tensor([[1] * 7, [1, 1, 1, 0, 0, 0, 0]])
    method = Left(model)
    assert isinstance(method, PerturbationAttribution)
    found = method.attribute(small.ids(), [1, 2], mask, output="tokens")
    whole = model(small.ids(), attention_mask=mask).logits.log_softmax(-1)
    assert torch.allclose(found[0], whole[0, 1].expand(7))
    assert torch.allclose(found[1], whole[1, 2] * mask[1])
    assert torch.equal(method.attribute(small.ids(), [1, 2], mask, output="tokens", internal_batch_size=1), found)


def test_patches_alone_have_scores() -> None:
    model, images = small.vit(), small.images()
    found = Left(model, "logit").attribute(images, 1, output="tokens")
    assert torch.allclose(found[:, 1:], model(images)[:, 1:2].expand(2, 6))
    assert not found[:, 0].any()
    with pytest.raises(ac.AttentionError, match="score='p'"):
        Left(model, "p")


@pytest.mark.parametrize("method", ["sampling", "kernel"])
def test_one_token_has_all_that_it_adds(method: Any) -> None:
    """The Shapley value of one player is v({1}) − v(∅), the cost of leaving it out."""
    model, ids = small.bert(), small.ids()[:1, :1]
    found = ShapleyValues(model, method=method, n_samples=4, score="logit").attribute(ids, 1, output="tokens")
    assert found.abs().min() > 0
    left_out = LeaveOneOut(model, score="logit").attribute(ids, 1, output="tokens")
    assert torch.allclose(found.double(), left_out.double(), atol=1e-5)


def probability(model: Any, ids: Tensor, target: int, **options: Tensor) -> Tensor:
    return model(ids, **options).logits[0, -1].softmax(-1)[target].detach()


@pytest.mark.parametrize("perturbations_per_eval", [1, 3])
def test_on_a_decoder(perturbations_per_eval: int) -> None:
    model = small.llama()
    found = LeaveOneOut(
        model, removal="token-delete", score="probability", perturbations_per_eval=perturbations_per_eval
    ).attribute(small.ids(), [(6, 3), (6, 5)], output="tokens")
    for k, target in enumerate((3, 5)):
        ids = small.ids()[k : k + 1]
        left = [torch.cat([ids[:, :j], ids[:, j + 1 :]], 1) for j in range(7)]
        expected = probability(model, ids, target) - torch.stack([probability(model, each, target) for each in left])
        assert torch.allclose(found[k], expected, atol=1e-7)
        assert float(expected.abs().max()) > 1e-4


def test_the_default_hides_tokens_from_attention() -> None:
    model, ids = small.llama(), small.ids(1)
    found = LeaveOneOut(model).attribute(ids, (6, 3), output="tokens")[0]
    clean = probability(model, ids, 3).log()
    for j in range(7):
        mask = torch.ones(1, 7).long()
        mask[0, j] = 0
        assert torch.isclose(found[j], clean - probability(model, ids, 3, attention_mask=mask).log(), atol=1e-7)


def test_on_images() -> None:
    model, images = small.vit(), small.images()
    method = LeaveOneOut(model, score="logit")
    assert isinstance(method, PerturbationAttribution)
    grid, tokens = method.attribute(images, 1, output="grid"), method.attribute(images, 1, output="tokens")
    assert torch.equal(grid.flatten(1), tokens[:, 1:])
    assert not tokens[:, 0].any()
    changed = images.clone()
    changed[:, :, :4, 8:] = images.mean((2, 3), keepdim=True)
    assert torch.allclose(grid[:, 0, 2], (model(images) - model(changed))[:, 1].detach(), atol=1e-7)
    pixels = method.attribute((images,), 1)
    assert isinstance(pixels, tuple)
    assert torch.equal(pixels[0][:, 2, ::4, ::4], grid)
    assert (pixels[0].dtype, pixels[0].requires_grad) == (images.dtype, False)


def test_examples_do_not_mix() -> None:
    model, mask = small.bert(), torch.tensor([[1] * 7, [1, 1, 1, 0, 0, 0, 0]])
    method = LeaveOneOut(model)
    scores = method.attribute(small.ids(), torch.tensor([1, 2]), mask, output="tokens")
    assert not scores[1, 3:].any()
    alone = method.attribute(small.ids()[1:, :3], 2, output="tokens")
    assert torch.allclose(scores[1:, :3], alone, atol=1e-6)
    named = method.attribute(small.ids(), [1, 2], output="tokens", model_kwargs={"attention_mask": mask})
    assert torch.equal(named, scores)


def test_of_texts() -> None:
    model = small.llama()
    result = LeaveOneOut(model, removal="token-delete").attribute_text(TEXT, "a dog", DECODER)
    ids = DECODER.encode(TEXT) + DECODER.encode("a dog", add_special_tokens=False)
    assert result.token_attr is not None
    for k, length in enumerate((len(ids) - 2, len(ids) - 1)):
        text = torch.tensor([ids[:length]])
        row = LeaveOneOut(model, removal="token-delete").attribute(text, (length - 1, ids[length]), output="tokens")[0]
        assert torch.allclose(result.token_attr[k], row[: len(ids) - 2])
    whole = LeaveOneOut(small.bert()).attribute_text(TEXT, 1, ENCODER)
    assert whole.output_tokens == ["LABEL_1"]
    with pytest.raises(ac.AttentionError, match="LeaveOneOut explains a score, and attribute_text has no rules"):
        LeaveOneOut(bart()).attribute_text(TEXT, "a dog", SEQ2SEQ)


def test_refusals() -> None:
    with pytest.raises(ac.AttentionError, match="perturbations_per_eval"):
        LeaveOneOut(small.vit(), perturbations_per_eval=0)
    with pytest.raises(ac.AttentionError, match="removal='all'"):
        LeaveOneOut(small.vit(), removal="all")  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="solves no equation"):
        LeaveOneOut(small.vit()).attribute(small.images(), 1, return_convergence_delta=True)


def exact(ablation: TokenAblation) -> Tensor:
    """(token,): the mean over all orders of what each token adds."""
    n = len(ablation)
    total = torch.zeros(n).double()
    for order in permutations(range(n)):
        rows = torch.zeros(n + 1, n)
        for k, token in enumerate(order):
            rows[k + 1 :, token] = 1
        total[list(order)] += ablation(rows).diff()
    return total / len(list(permutations(range(n))))


def test_both_estimates_approach_the_values() -> None:
    model, ids = small.llama(layers=1), small.ids(1)[:, :4]
    expected = exact(TokenAblation(model, Call(ids, (3, 3)), "mean-embedding"))
    for method, samples in (("sampling", 60), ("kernel", 200)):
        estimate = ShapleyValues(model, method=method, n_samples=samples, removal="mean-embedding", perturbations_per_eval=40)  # type: ignore[arg-type]
        found = estimate.attribute(ids, (3, 3), output="tokens")[0]
        assert torch.allclose(found.double(), expected, atol=0.15 * float(expected.abs().max()))
        assert torch.allclose(found.double().sum(), expected.sum(), atol=1e-4)


@pytest.mark.parametrize("method", ["sampling", "kernel"])
def test_the_seed_alone_decides_the_sets(method: Any) -> None:
    model, images = small.vit(), small.images(1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    shapley = (ShapleyValues(model, method=method, n_samples=3, seed=seed) for seed in (3, 3, 4))
    one, same, other = (each.attribute(images, 1, output="grid") for each in shapley)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before), "the generator of torch is left as it was"


def test_refusals_of_shapley_values() -> None:
    with pytest.raises(ac.AttentionError, match="method='all'"):
        ShapleyValues(small.vit(), method="all")  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="n_samples"):
        ShapleyValues(small.vit(), n_samples=0)


@pytest.mark.parametrize("method", ["sampling", "kernel"])
def test_random_sets_touch_no_generator_of_others(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random numbers of another thread would move them, and those of a GPU are of no concern here."""
    model, images = small.vit(), small.images(1)
    shapley = ShapleyValues(model, method=method, n_samples=3)
    alone = shapley.attribute(images, 1, output="tokens")
    model.register_forward_hook(lambda *_: torch.rand(1) and None)  # as if another thread drew
    monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("the global generators are seeded"))
    assert torch.equal(shapley.attribute(images, 1, output="tokens"), alone)


@pytest.mark.parametrize("method", ["sampling", "kernel"])
def test_random_sets_are_those_of_captum(method: Any) -> None:
    ablation = TokenAblation(small.vit(), Call(small.images(1), 1))
    tokens = torch.ones(1, len(ablation))
    found = ShapleyValues(None, method=method, n_samples=7, seed=3).of_one(ablation, tokens)
    torch.manual_seed(3)
    captum: Any = (ShapleyValueSampling if method == "sampling" else KernelShap)(ablation)
    assert torch.equal(found, captum.attribute(tokens, 0, n_samples=7, perturbations_per_eval=8))
