"""timm's models: each architecture's maps against its own softmax, its layout, the strong check; and what is refused."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import attnchain_interp as ac
from attnchain_adapters.timm_models.families import FAMILIES
from attnchain_interp.store.layer_selection import select_layers

from ..conftest import Proofs, Proved
from ..timm_rows import REFUSED_ROWS, ROWS, Row, listed

LISTED = {line.name: line for line in listed()}
ONE_EACH = {row.family: name for name, row in ROWS.items()}
one_each = pytest.mark.parametrize("name", ONE_EACH.values(), ids=ONE_EACH)
POOLED = [name for name, row in ROWS.items() if row.pool is not None]


@cache
def built(name: str) -> Any:
    """The small model of a row."""
    return made(name)


def made(name: str, **more: Any) -> Any:
    """A small model, ready, whose attention counts."""
    row = ROWS[name]
    torch.manual_seed(0)
    if row.fixed:
        module = importlib.import_module(timm.models.model_entrypoint(name).__module__)
        return wakened(getattr(module, row.family)(**{**row.options, **more}), pictures(row))
    return wakened(timm.create_model(name, pretrained=False, **{**row.options, **more}), pictures(row))


def wakened(model: nn.Module, images: Tensor) -> nn.Module:
    """As it was made, attention is almost uniform, and layer scales and last weights that start at zero hide it."""
    generator = torch.Generator().manual_seed(1)
    parts = {"qkv", "qk", "q", "k", "kv", "q_proj", "k_proj", "in_proj"}
    for name, parameter in model.named_parameters():
        spread = float(parameter.detach().std()) if parameter.numel() > 1 else 0.0
        if parameter.ndim > 1 and parts & set(name.split(".")):
            parameter.data = torch.randn(parameter.shape, generator=generator) * 2 / parameter[0].numel() ** 0.5
        elif "relative_position_bias_table" in name or "rel_pos" in name or "attention_biases" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator)
        elif spread == 0 and parameter.ndim > 1 and not parameter.any():
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
        elif spread == 0 and not name.endswith("bias") and float(parameter.detach().abs().max()) < 0.1:
            parameter.data = torch.ones_like(parameter)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        model.train()(images)  # otherwise activations fade from layer to layer
    return model.eval()


def pictures(row: Row, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, *row.size, generator=torch.Generator().manual_seed(2))


@contextmanager
def softmaxes() -> Iterator[list[Tensor]]:
    """What `Tensor.softmax` gives while open: the maps of a model whose attention is not fused."""
    own, found = Tensor.softmax, []

    def seen(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        found.append(own(self, *args, **kwargs))
        return found[-1]

    Tensor.softmax = seen
    try:
        yield found
    finally:
        Tensor.softmax = own


def eager(model: nn.Module, images: Tensor, queries: int, keys: int) -> list[Tensor]:
    """The maps from so many queries to so many keys that the unfused model makes by itself, in its own order."""
    plain = copy.deepcopy(model)
    module: Any
    for module in plain.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    with torch.no_grad(), softmaxes() as found:
        plain(images)
    batch = len(images)
    maps = [maps.unflatten(0, (batch, -1)) if maps.ndim == 3 else maps for maps in found if len(maps) % batch == 0]
    return [each for each in maps if (each.shape[0], *each.shape[2:]) == (batch, queries, keys)]


def state(model: nn.Module) -> dict[str, Any]:
    """All that a capture might leave behind."""
    seen: dict[str, Any] = {"sdpa": F.scaled_dot_product_attention, "grad": torch.is_grad_enabled()}
    for name, module in model.named_modules():
        hooks = len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._forward_hooks_always_called)
        seen[name] = (module.training, getattr(module, "fused_attn", None), hooks, sorted(vars(module)))
    seen["requires_grad"] = [parameter.requires_grad for parameter in model.parameters()]
    return seen


def test_there_are_enough_architectures() -> None:
    assert sum(line.supported for line in LISTED.values()) >= 40
    assert {row.family for row in ROWS.values()} == set(FAMILIES)


@pytest.mark.parametrize("name", ROWS)
def test_an_architecture_is_right(name: str, proofs: Proofs) -> None:
    row, model = ROWS[name], built(name)
    images = pictures(row)
    assert type(model).__name__ == row.family
    proof = ac.prove(model, images, layers=row.chosen)
    assert proof.holds, (proof.deviation, proof.layers)
    store = proof.store
    assert store.metadata["route"] == LISTED[name].route
    with pytest.raises(ac.AttentionError, match=f"there are {row.layers}, numbered 0"):
        ac.capture(model, images, layers=row.layers)
    assert len(select_layers(list(map(str, range(row.layers))), row.chosen)) == len(store)
    if LISTED[name].route == "sdpa":
        factors = ac.capture(model, images, layers=row.chosen, keep="factors")
        assert all(torch.allclose(layer.maps, other.maps, atol=1e-5) for layer, other in zip(store, factors, strict=True))
    assert [ac.Role(role).name.lower() for role in store.tokens.roles[0].tolist()[: len(row.prefix)]] == list(row.prefix)
    assert (store.tokens.grid, len(store.tokens)) == (row.grid, len(row.prefix) + row.grid[0] * row.grid[1])
    expected = eager(model, images, *store[0].maps.shape[2:])
    assert len(expected) == len(store)
    assert float(expected[0].std(-1).mean()) > 0.001, "a flat map proves nothing"
    for layer, maps in zip(store, expected, strict=True):
        assert layer.heads == getattr(model.get_submodule(layer.name), "num_heads", 1)
        assert torch.allclose(layer.maps, maps, atol=1e-5), layer.name
    kinds = [f'kind="{kind}"' for kind in LISTED[name].kinds]
    proofs["timm", name] = Proved(kinds, {store.metadata["route"]}, LISTED[name].remark)


@pytest.mark.parametrize("name", POOLED)
def test_a_pooling_head_leads_from_its_probes_to_the_tokens(name: str) -> None:
    row, model = ROWS[name], built(name)
    assert row.pool is not None
    images = pictures(row)
    proof = ac.prove(model, images, reading=ac.Reading(kind="pool"))
    assert proof.holds, (proof.deviation, proof.layers)
    store = proof.store
    assert (store.names, store.metadata["kind"], store.tokens.grid) == (["attn_pool"], "pool", row.grid)
    assert store.queries is not None
    assert store.queries.roles.tolist() == [[ac.Role.SPECIAL]] * 2
    assert len(store.tokens) == row.pool
    (expected,) = eager(model, images, *store[0].maps.shape[2:])
    assert torch.allclose(store[0].maps, expected, atol=1e-5)
    chain = ac.capture(model, images).chain(tokens="all")
    start = F.pad(store.maps()[:, 0, 0, 0], (len(row.prefix) + 16 - row.pool, 0))
    assert torch.allclose(ac.bounce(chain, start, steps=2).sum(1), torch.ones(2), atol=1e-5)


def test_a_pool_of_all_tokens_is_a_chain_of_its_own() -> None:
    model = made("vit_tiny_patch16_224", global_pool="prr")
    store = ac.capture(model, pictures(ROWS["vit_tiny_patch16_224"]), reading=ac.Reading(kind="pool"))
    assert (store.names, store.queries, store.tokens.grid) == (["attn_pool"], None, (4, 4))
    store.chain()


def test_layers_that_a_call_leaves_out_are_named() -> None:
    forward, images = built("vit_tiny_patch16_224").forward_intermediates, pictures(ROWS["vit_tiny_patch16_224"])
    with pytest.raises(ac.AttentionError, match=r"(?s)1 of 2 .*blocks.1.attn.*Choose layers that this call runs"):
        ac.capture(forward, images, indices=[0], stop_early=True)
    assert ac.capture(forward, images, indices=[0], stop_early=True, layers=[0]).names == ["blocks.0.attn"]


def test_kinds_that_a_model_does_not_have() -> None:
    with pytest.raises(ac.AttentionError, match='kind="pool": this VisionTransformer has no pooling head that attends'):
        ac.capture(built("vit_tiny_patch16_224"), torch.rand(1, 3, 64, 64), reading=ac.Reading(kind="pool"))
    with pytest.raises(ac.AttentionError, match="kind='decoder' is unknown"):
        ac.capture(built("vit_tiny_patch16_224"), torch.rand(1, 3, 64, 64), reading=ac.Reading(kind="decoder"))


@pytest.mark.parametrize("name", REFUSED_ROWS)
def test_what_is_no_chain_over_tokens_is_refused_with_its_reason(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False)
    with pytest.raises(ac.AttentionError, match=REFUSED_ROWS[name]):
        ac.capture(model, torch.rand(1, 3, 224, 224))


def test_parts_of_models_and_models_of_features_are_refused() -> None:
    block = built("vit_tiny_patch16_224").blocks[0]
    with pytest.raises(ac.AttentionError, match=r"(?s)Block \(timm.*\) is not among .* capture the whole model"):
        ac.capture(block, torch.rand(1, 17, 48))
    features = timm.create_model("vit_tiny_patch16_224", pretrained=False, features_only=True)
    with pytest.raises(ac.AttentionError, match="made without features_only=True"):
        ac.capture(features, torch.rand(1, 3, 64, 64))


@one_each
def test_the_model_is_left_as_it_was(name: str) -> None:
    row, model = ROWS[name], built(name)
    images = pictures(row)
    with torch.no_grad():
        output = model(images)
    before = state(model)
    layer = ac.capture(model, images, layers=row.chosen).names[-1]
    assert state(model) == before

    def fail(*_: object) -> None:
        raise RuntimeError("the model's own trouble")

    handle = model.get_submodule(layer).register_forward_hook(fail)
    before = state(model)
    with pytest.raises(RuntimeError, match="the model's own trouble"):
        ac.capture(model, images, layers=row.chosen)
    assert state(model) == before
    handle.remove()
    with torch.no_grad():
        again = model(images)
    for first, second in zip(*([out] if isinstance(out, Tensor) else out for out in (output, again)), strict=True):
        assert torch.equal(first, second)


@one_each
def test_train_mode_with_dropout_is_refused(name: str) -> None:
    row, model = ROWS[name], copy.deepcopy(built(name)).train()
    model.add_module("dropped", nn.Dropout(0.1))
    with pytest.raises(ac.AttentionError, match=r"(?s)train mode with dropout .*model\.eval\(\)"):
        ac.capture(model, pictures(row), layers=row.chosen)


def test_unfused_models_are_read_off_their_softmax() -> None:
    model = copy.deepcopy(built("vit_tiny_patch16_224"))
    images = pictures(ROWS["vit_tiny_patch16_224"])
    for block in model.blocks:
        block.attn.fused_attn = False
    eager_store = ac.capture(model, images)
    assert eager_store.metadata["route"] == "softmax"
    assert torch.allclose(eager_store.maps(), ac.capture(built("vit_tiny_patch16_224"), images).maps(), atol=1e-5)
    with pytest.raises(ac.AttentionError, match='keep="factors": this model computes attention without the fused call'):
        ac.capture(model, images, keep="factors")


def test_inputs_that_are_no_images() -> None:
    model = built("vit_tiny_patch16_224")
    with pytest.raises(ac.AttentionError, match=r"floating-point tensor .*; got torch.float32 \(3, 64, 64\)"):
        ac.capture(model, torch.randn(3, 64, 64))
    with pytest.raises(ac.AttentionError, match="got NoneType"):
        ac.capture(model)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "naflexvit_base_patch16_map", "levit_128s"])
def test_a_gpu_gives_what_the_cpu_gives(name: str) -> None:
    row, model = ROWS[name], built(name)
    images = pictures(row)
    method = ac.TokenRank(model, heads="lambda2", layers=row.chosen)
    expected = method.attribute(images)
    found = ac.TokenRank(copy.deepcopy(model).cuda(), heads="lambda2", layers=row.chosen).attribute(images.cuda())
    assert found.is_cuda
    assert torch.allclose(found.cpu(), expected, atol=1e-5)
