"""LogitTokenRank beside a Llama that is taken apart by hand, and its contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp.attribution import AnswerEffects, LogitTokenRank
from attnchain_interp.attribution.of_a_class.logit_token_rank import written

from .. import small_models as small
from ..text.texts import DECODER, TEXT


def by_hand(ids: Tensor, position: int, token: int, w: Sequence[float] = (0, 1 / 3, 2 / 3)) -> Tensor:
    """Returns π of the formula in the docstring, for one example of the small Llama, from its eager attention."""
    model = small.llama("eager")
    values, tokens = list[Tensor](), list[Tensor]()
    for layer in model.model.layers:
        layer.self_attn.v_proj.register_forward_hook(lambda _, __, output: values.append(output))
        layer.register_forward_hook(lambda _, __, output: tokens.append(output))
    with torch.no_grad():
        maps = model(ids, output_attentions=True).attentions
    x, n = tokens[-1][0, position], ids.shape[1]
    d = model.lm_head.weight[token] * model.model.norm.weight / (x.square().mean() + model.config.rms_norm_eps).sqrt()
    contributions = ac.capture(small.llama(), ids, maps="alti").maps()[0, :, 0]
    D, P = torch.zeros(n, dtype=torch.float64), torch.zeros(n, n, dtype=torch.float64)
    for k, layer in enumerate(model.model.layers):
        projection = layer.self_attn.o_proj.weight.T.unflatten(0, (3, 16))
        along = torch.einsum("hj,jd,hdw,w->hj", maps[k][0, :, position], values[k][0], projection, d)
        D += w[k] * along.relu().sum(0)
        P += w[k] * contributions[k]
    v = (P[position] * D).sqrt()
    return torch.linalg.solve(torch.eye(n, dtype=torch.float64) - 0.5 * P.T, 0.5 * v / v.sum())


def test_beside_a_model_that_is_taken_apart() -> None:
    ids = small.ids(1)
    found = LogitTokenRank(small.llama()).attribute(ids, (6, 3), output="tokens")
    assert torch.allclose(found[0], by_hand(ids, 6, 3), atol=1e-7)
    assert torch.isclose(found.sum(), torch.ones((), dtype=found.dtype))
    other = LogitTokenRank(small.llama()).attribute(ids, (6, 4), output="tokens")
    assert float((found - other).abs().max()) > 0.01, "another answer"
    weighted = LogitTokenRank(small.llama(), layer_weights=[0.2, 0.5, 0.3]).attribute(ids, (6, 3), output="tokens")
    assert torch.allclose(weighted[0], by_hand(ids, 6, 3, [0.2, 0.5, 0.3]), atol=1e-7)


def test_a_mean_over_patches_is_read_at_each_of_them() -> None:
    """D is summed over the patches that are read, and the rows of P are averaged by the length of d."""
    model, images = small.vit(global_pool="avg"), small.images(1)
    method = LogitTokenRank(model, damping=0.0, layers=1, balanced=False)
    found = method.attribute(images, 1, output="tokens")[0, 1:]
    seen: dict[str, Tensor] = {}
    model.blocks[1].attn.register_forward_hook(lambda _, args, output: seen.update(normed=args[0]))
    model.blocks[1].register_forward_hook(lambda _, __, output: seen.update(tokens=output))
    with torch.no_grad():
        model(images)
    attention = ac.capture(model, images, layers=1).maps()[0, 0]
    tokens, norm, attn = seen["tokens"][0, 1:], model.fc_norm, model.blocks[1].attn
    pooled = tokens.mean(0)  # timm normalises the mean
    pulled = model.head.weight[1] * norm.weight
    scale = (pooled.var(correction=0) + norm.eps).sqrt()
    d = (pulled - pulled.mean()) / scale / 6  # the same at each patch
    values = attn.qkv(seen["normed"])[0, :, 96:].unflatten(-1, (3, 16)).transpose(0, 1)
    projection = attn.proj.weight.T.unflatten(0, (3, 16))
    along = torch.einsum("hij,hjd,hdw,w->hij", attention[:, 1:], values, projection, d)
    D = along.relu().sum((0, 1))[1:]
    rows = attention[:, 1:, 1:]
    P = (rows / rows.sum(-1, keepdim=True)).mean((0, 1))
    v = (P * D).sqrt()
    assert torch.allclose(found, v / v.sum(), atol=1e-9)


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


def test_layers_are_read_in_the_order_in_which_they_are_given() -> None:
    model, ids = small.llama(), small.ids()

    def scores(**options: Any) -> Tensor:
        return LogitTokenRank(model, **options).attribute(ids, (6, 3), output="tokens")

    assert torch.allclose(scores(layers=[2, 0]), scores(layers=[0, 2]), atol=1e-12)
    assert torch.allclose(scores(layers=[1, 2], layer_weights=[0, 1]), scores(layers=2), atol=1e-9)
    assert not torch.allclose(scores(layers=2), scores(layers=1), atol=1e-3)


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
    model, ids = small.llama(), small.ids()
    with pytest.raises(ac.AttentionError, match="attend to none of the chosen tokens"):
        LogitTokenRank(model, tokens=[5, 6]).attribute(ids, (3, 3))
    with pytest.raises(ac.AttentionError, match="does not change with the tokens of the last block"):
        LogitTokenRank(model).attribute(ids, lambda output: output.logits.sum((1, 2)) * 0)
