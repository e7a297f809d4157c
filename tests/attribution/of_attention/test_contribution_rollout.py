"""Contribution rollout beside the product of the captured maps, Captum's contract, and other methods on the same maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from captum.attr import Attribution, NoiseTunnel
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp.capture.attention_block import Measure

from .. import small_models as small


def product(store: ac.AttentionStore) -> Tensor:
    """C_L ⋯ C_1 (batch, token, token)."""
    whole = torch.eye(store.maps().shape[-1], dtype=torch.float64).expand(store.tokens.batch, -1, -1)
    for layer in store:
        whole = layer.maps[:, 0] @ whole
    return whole


@pytest.mark.parametrize("measure", ["alti", "norm-resln", "norm-res"])
def test_beside_the_product_of_the_maps(measure: Measure) -> None:
    model, images = small.vit(depth=3), small.images()
    store = ac.capture_contributions(model, images, measure=measure)
    rolled = ac.ContributionRollout(measure=measure).score(store)
    assert torch.allclose(rolled, product(store)[:, 0])
    assert torch.allclose(ac.Rollout(residual=0).score(store), rolled)
    assert torch.allclose(ac.ContributionRollout(model, measure=measure).attribute(images, output="tokens"), rolled)
    assert torch.allclose(rolled.sum(1), torch.ones(2, dtype=torch.float64))
    assert float((rolled - ac.Rollout(model).attribute(images, output="tokens")).abs().max()) > 0.01
    third = ac.ContributionRollout(start=3, measure=measure).score(store)
    assert torch.allclose(third, product(store)[:, 3])
    some = ac.ContributionRollout(measure=measure, layers=[2, 1]).score(store)
    assert torch.allclose(some, (store[2].maps[:, 0] @ store[1].maps[:, 0])[:, 0])
    captured = ac.ContributionRollout(model, measure=measure, layers=[2, 1]).attribute(images, output="tokens")
    assert torch.allclose(captured, some)


def test_padding_is_outside() -> None:
    model, ids, mask = small.bert(), small.ids(), torch.ones(2, 7)
    mask[1, 4:] = 0
    padded = ac.ContributionRollout(model).attribute(ids, additional_forward_args=mask)
    assert not padded[1, 4:].any()
    alone = ac.ContributionRollout(model).attribute(ids[1:, :4])
    assert torch.allclose(padded[1:, :4], alone)


def test_a_decoder_from_its_last_token() -> None:
    model, ids = small.llama(), small.ids()
    last = ac.ContributionRollout(model, start=-1).attribute(ids, output="tokens")
    assert torch.allclose(last, product(ac.capture_contributions(model, ids))[:, -1])


def test_captums_contract() -> None:
    model, images = small.vit(), small.images(3)
    method = ac.ContributionRollout(model)
    assert isinstance(method, Attribution)
    heat = method.attribute(images)
    assert (heat.shape, heat.dtype, heat.is_contiguous()) == (images.shape, images.dtype, True)
    assert torch.equal(method.attribute(images, 2), heat), "it knows no class"
    assert torch.allclose(method.attribute(images, internal_batch_size=2), heat)
    assert torch.equal(method.attribute(images, output="grid"), heat[:, 0, ::4, ::4])
    still: Any = NoiseTunnel(method).attribute(images, nt_samples=1, stdevs=0.0)
    assert torch.allclose(still, heat)
    with pytest.raises(ac.AttentionError, match="no residual to return"):
        method.attribute(images, return_convergence_delta=True)


def test_other_methods_read_the_same_maps(tmp_path: Path) -> None:
    model, images = small.vit(), small.images()
    store = ac.capture_contributions(model, images)
    ranks = ac.TokenRank(lambda x: ac.capture_contributions(model, x)).attribute(images, output="tokens")
    assert torch.allclose(ranks, ac.TokenRank().score(store))
    assert torch.allclose(ac.MultiBounce(steps=2).score(store), ac.bounce(store.chain(), 0, steps=2))
    store.write(tmp_path / "contributions.safetensors")
    read = ac.AttentionStore.read(tmp_path / "contributions.safetensors")
    assert torch.equal(ac.ContributionRollout().score(read), ac.ContributionRollout().score(store))


def test_what_it_refuses() -> None:
    with pytest.raises(ac.AttentionError, match='measure="norm" leaves the residual connection out'):
        ac.ContributionRollout(measure="norm")
    with pytest.raises(ac.AttentionError, match="measure='l2' is unknown"):
        ac.ContributionRollout(measure="l2")  # type: ignore[arg-type]
    model, images = small.vit(), small.images()
    with pytest.raises(ac.AttentionError, match="the store holds attention, and this method reads contributions by 'alti'"):
        ac.ContributionRollout().score(ac.capture(model, images))
    with pytest.raises(ac.AttentionError, match="the store holds contributions by 'norm-res'"):
        ac.ContributionRollout().score(ac.capture_contributions(model, images, measure="norm-res"))
