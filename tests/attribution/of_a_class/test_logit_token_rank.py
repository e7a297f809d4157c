"""LogitTokenRank beside a Llama that is taken apart by hand, and its contract."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp.attribution import AnswerEffects, LogitTokenRank
from attnchain_interp.attribution.of_a_class.logit_token_rank import written

from .. import small_models as small
from ..text.texts import DECODER, TEXT


def by_hand(ids: Tensor, position: int, token: int) -> Tensor:
    """Returns π of the formula in the docstring, for one example of the small Llama, from its eager attention."""
    model = small.llama("eager")
    values, tokens = list[Tensor](), list[Tensor]()
    for layer in model.model.layers:
        layer.self_attn.v_proj.register_forward_hook(lambda _, __, output: values.append(output))
        layer.register_forward_hook(lambda _, __, output: tokens.append(output))
    with torch.no_grad():
        maps = model(ids, output_attentions=True).attentions
    x = tokens[-1][0, position]
    d = model.lm_head.weight[token] * model.model.norm.weight / (x.square().mean() + model.config.rms_norm_eps).sqrt()
    D = torch.zeros(ids.shape[1], dtype=torch.float64)
    for k, layer in enumerate(model.model.layers):
        projection = layer.self_attn.o_proj.weight.T.unflatten(0, (3, 16))
        written = torch.einsum("hj,jd,hdw,w->hj", maps[k][0, :, position], values[k][0], projection, d)
        D += k / 2 * written.relu().sum(0) / 1.5  # late weights: 0, 1/3, 2/3
    contributions = ac.capture(small.llama(), ids, maps="alti").maps()[0, :, 0]
    P = contributions[1] / 3 + contributions[2] * 2 / 3
    v = (P[position] * D).sqrt()
    v = v / v.sum()
    n = ids.shape[1]
    return torch.linalg.solve(torch.eye(n, dtype=torch.float64) - 0.5 * P.T, 0.5 * v)


def test_beside_a_model_that_is_taken_apart() -> None:
    ids = small.ids(1)
    found = LogitTokenRank(small.llama()).attribute(ids, (6, 3), output="tokens")
    assert torch.allclose(found[0], by_hand(ids, 6, 3), atol=1e-7)
    assert torch.isclose(found.sum(), torch.ones((), dtype=found.dtype))
    other = LogitTokenRank(small.llama()).attribute(ids, (6, 4), output="tokens")
    assert float((found - other).abs().max()) > 0.01, "another answer"


def test_each_example_of_a_batch_is_scored_by_itself_and_padding_scores_zero() -> None:
    model, ids = small.llama(), small.ids()
    method = LogitTokenRank(model)
    whole = method.attribute(ids, [(6, 3), (4, 5)], output="tokens")
    for k, target in enumerate([(6, 3), (4, 5)]):
        assert torch.allclose(whole[k], method.attribute(ids[k : k + 1], target, output="tokens")[0], atol=1e-9)
    assert not whole[1, 5:].any(), "later tokens do not speak"
    padded = torch.cat([ids, torch.zeros_like(ids[:, :2])], 1)
    mask = (padded > 0).long()
    found = method.attribute(padded, [(6, 3), (4, 5)], output="tokens", model_kwargs={"attention_mask": mask})
    assert torch.allclose(found[:, :7], whole, atol=1e-9)
    assert not found[:, 7:].any()


@pytest.mark.parametrize("options", [{"layers": [2, 0]}, {"layer_weights": [0.2, 0.5, 0.3]}, {"layer_weights": "lambda2"}])
def test_settings_reach_the_chain_and_the_effects(options: dict[str, Any]) -> None:
    model, ids = small.llama(), small.ids()
    method = LogitTokenRank(model, **options)
    found = method.attribute(ids, (6, 3), output="tokens")
    plain = LogitTokenRank(model).attribute(ids, (6, 3), output="tokens")
    assert not torch.allclose(found, plain, atol=1e-3)
    if "layers" in options:
        again = LogitTokenRank(model, layers=[0, 2]).attribute(ids, (6, 3), output="tokens")
        assert torch.allclose(found, again, atol=1e-12)
        last = LogitTokenRank(model, layers=[1, 2], layer_weights=[0, 1]).attribute(ids, (6, 3), output="tokens")
        assert torch.allclose(last, LogitTokenRank(model, layers=2).attribute(ids, (6, 3), output="tokens"), atol=1e-9)


def test_images_are_read_at_their_patches() -> None:
    model, images = small.vit(3), small.images()
    grid = LogitTokenRank(model).attribute(images, 1, output="grid")
    assert grid.shape == (2, 2, 3)
    assert torch.allclose(grid.sum((1, 2)), torch.ones(2, dtype=grid.dtype))
    assert not torch.allclose(grid, LogitTokenRank(model).attribute(images, 2, output="grid"), atol=1e-4)
    said = LogitTokenRank(model, layers=slice(-2, None), balanced=True, layer_weights="mean")
    assert torch.allclose(grid, said.attribute(images, 1, output="grid"), atol=1e-12), "the defaults of images"


def test_jumps_lead_to_what_is_read_where_nothing_speaks_for_the_answer() -> None:
    maps = torch.tensor([[1.0, 0.0], [0.25, 0.75]])[None, None]
    store = ac.AttentionStore.from_maps([maps])
    readers, weights = torch.tensor([[0.0, 1.0]]), torch.ones(1, 1)
    for effects, expected in (([0.0, 0.0], [0.25, 0.75]), ([3.0, 1.0], [0.5, 0.5]), ([2.0, 0.0], [1.0, 0.0])):
        found = AnswerEffects(store, torch.tensor(effects)[None, None], readers)
        assert torch.allclose(written(store.chain(), found, weights), torch.tensor([expected]))
    found = AnswerEffects(store, torch.tensor([[[3.0, 1.0]]]), readers)
    assert repr(found).startswith("AnswerEffects(")
    assert torch.allclose(LogitTokenRank(damping=0.0).score(found), torch.tensor([[0.5, 0.5]]))


def test_texts() -> None:
    model = small.llama()
    result = LogitTokenRank(model).attribute_text(TEXT, "a dog", DECODER)
    ids = torch.tensor([DECODER(TEXT)["input_ids"] + DECODER("a dog", add_special_tokens=False)["input_ids"]])
    scores, first = result.token_attr, len(result.input_tokens)
    assert scores is not None
    for k in range(2):
        alone = LogitTokenRank(model).attribute(ids[:, : first + k], (first + k - 1, int(ids[0, first + k])), output="tokens")
        assert torch.allclose(scores[k, :first].double(), alone[0, :first], atol=1e-6)
    assert result.policy == "jumps lead to the tokens that the output token's logit is written from, damping=0.5"


def test_refusals() -> None:
    with pytest.raises(ac.AttentionError, match="damping"):
        LogitTokenRank(damping=1.5)
    with pytest.raises(ac.AttentionError, match="maps='flow' is unknown"):
        LogitTokenRank(maps="flow")  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match=r"(?s)found is .*LogitTokenRank\(model\)\.read"):
        LogitTokenRank().score(ac.capture(small.vit(), small.images()))  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="normalised after the addition"):
        LogitTokenRank(small.bert()).attribute(small.ids(), 1)
