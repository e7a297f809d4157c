"""The contract over every transformers family: its maps, their shape, and a model that is left as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

import attnchain_interp as ac
from attnchain_adapters.transformers_models.families import FAMILIES, REFUSED

from ..conftest import Proofs, Proved
from ..transformers_zoo import MEMBERS, Member, build, inputs, returned_maps

BY_CLASS: Any = {"qwen2_vl_vision": Qwen2VisionTransformerPretrainedModel}  # AutoModel does not know them


@pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS)
def test_contract(member: Member, proofs: Proofs) -> None:
    model, eager = fused(member), build(member, "eager")
    given = inputs(member, model)
    output = outputs(model, given)  # first: transformers leaves hooks of its own behind it
    before = state(model)
    proved = Proved(remark=FAMILIES[member.model_type].remark)
    options, layer = dict[str, Any](), ""
    for tower, kind in member.stacks:
        options = named(tower, kind)
        store = ac.capture(model, **given, reading=ac.Reading(**options), keep="maps")
        check_maps(store, member, returned_maps(eager, given, {module_of(name) for name in store.names}))
        check_layout(store, kind, member.prefix if (tower, kind) == member.stacks[0] else ())
        proof = ac.prove(model, **given, reading=ac.Reading(**options))
        assert proof.holds, (proof.deviation, proof.layers)
        proved.kinds.append(" ".join(f'{name}="{value}"' for name, value in options.items()))
        proved.routes.add(store.metadata["route"])
        layer = module_of(store.names[-1])
    assert state(model) == before
    assert all(torch.equal(first, second) for first, second in zip(output, outputs(model, given), strict=True))
    check_failing_forward(model, given, options, layer)
    check_train_mode(model, given, options)
    proofs["transformers", member.model_type] = proved


def named(tower: str | None, kind: str) -> dict[str, Any]:
    """The options of `capture` by which a stack is meant."""
    return {"kind": kind} | ({} if tower is None else {"tower": tower})


def fused(member: Member) -> Any:
    """The model under sdpa; as it comes, where its family has no such implementation."""
    try:
        return build(member, "sdpa")
    except ValueError as error:
        if "does not support an attention implementation through torch.nn.functional" not in str(error):
            raise
        return build(member)


def module_of(layer: str) -> str:
    return layer.partition("[")[0]


def check_maps(store: ac.AttentionStore, member: Member, returned: dict[str, list[Tensor]]) -> None:
    """They are those that the eager model's own modules return."""
    queries = (store.queries or store.tokens).mask[:, None, :, None]
    if store.queries is not None and not any(returned.values()):
        return  # a pooling head returns no weights; the strong check is its proof
    calls = {name: iter(maps) for name, maps in returned.items()}
    for layer in store:
        expected = next(calls[module_of(layer.name)])
        maps = layer.maps.mean(1, keepdim=True) if member.averaged else layer.maps
        assert float(maps.std(-1).mean()) > 0.01, "a flat map proves nothing"
        assert maps.shape[2:] == expected.shape[2:]
        assert torch.allclose(maps * queries, expected.float() * queries, atol=1e-5)
    assert all(next(rest, None) is None for rest in calls.values()), "a call of the module is not a layer"


def check_layout(store: ac.AttentionStore, kind: str, prefix: tuple[str, ...]) -> None:
    codes = store.tokens.roles[0].tolist()
    assert [ac.Role(code).name.lower() for code in codes[: len(prefix)]] == list(prefix)
    if kind in ("encoder", "decoder"):
        assert store.queries is None
        scores = ac.TokenRank().score(store)
        assert torch.allclose(scores.sum(1), torch.ones(len(scores)), atol=1e-5)
    else:
        assert store.queries is not None
        with pytest.raises(ac.AttentionError, match="which is not a chain"):
            store.chain()


def check_failing_forward(model: Any, given: dict[str, Any], options: dict[str, Any], layer: str) -> None:
    """The error is the model's own, and nothing is left behind."""

    def fail(*_: object) -> None:
        raise RuntimeError("the model's own trouble")

    handle = model.get_submodule(layer).register_forward_hook(fail)
    before = state(model)
    with pytest.raises(RuntimeError, match="the model's own trouble"):
        ac.capture(model, **given, reading=ac.Reading(**options))
    assert state(model) == before
    handle.remove()


def check_train_mode(model: Any, given: dict[str, Any], options: dict[str, Any]) -> None:
    dropout = nn.Dropout(0.1)
    model.register_module("some_dropout", dropout)
    with pytest.raises(ac.AttentionError, match=r"(?s)train mode with dropout .* = 0\.\d.*model\.eval\(\)"):
        ac.capture(model.train(), **given, reading=ac.Reading(**options))


def state(model: nn.Module) -> dict[str, Any]:
    """All that a capture might leave behind."""
    seen: dict[str, Any] = {"sdpa": F.scaled_dot_product_attention, "grad": torch.is_grad_enabled()}
    for name, module in model.named_modules():
        hooks = len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._forward_hooks_always_called)
        config = getattr(module, "config", None)
        seen[name] = (module.training, hooks, sorted(vars(module)), getattr(config, "_attn_implementation", None))
    seen["requires_grad"] = [parameter.requires_grad for parameter in model.parameters()]
    return seen


@torch.no_grad()
def outputs(model: Any, given: dict[str, Any]) -> list[Tensor]:
    return [value for value in model(**given).values() if isinstance(value, Tensor)]


def test_every_family_in_the_table_is_proved() -> None:
    parts = {part for member in MEMBERS.values() for part in member.parts.values()}
    towers = {f"{name}_text" for name in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")} | {"idefics3_vision", "smolvlm_vision"}
    assert set(FAMILIES) == (set(MEMBERS) | parts | towers) - set(REFUSED)
    assert not set(FAMILIES) & set(REFUSED)
    assert len(MEMBERS) >= 60


@pytest.mark.parametrize("model_type", REFUSED)
def test_what_is_no_chain_is_refused_by_name(model_type: str, proofs: Proofs) -> None:
    try:
        config = AutoConfig.for_model(model_type)
        with torch.device("meta"):
            model = BY_CLASS[model_type](config) if model_type in BY_CLASS else AutoModel.from_config(config)
    except (ImportError, ValueError, TypeError, NotImplementedError, RuntimeError) as error:
        pytest.skip(f"transformers builds no {model_type} from its defaults here ({error})"[:120])
    with pytest.raises(ac.AttentionError, match=r"Its attention is not a chain over its tokens\."):
        ac.capture(model, torch.zeros(1, 3, dtype=torch.long))
    proofs["transformers", model_type] = Proved(remark=REFUSED[model_type])


def test_a_family_that_was_not_tried_is_refused() -> None:
    config = AutoConfig.for_model("groupvit")
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    with pytest.raises(ac.AttentionError, match=r"(?s)the family 'groupvit' of GroupViTModel has not been tried.*from_maps"):
        ac.capture(model, torch.zeros(1, 3, dtype=torch.long))


def test_a_family_that_was_not_tried_is_read_by_what_it_computes() -> None:
    config = transformers.PatchTSTConfig(
        num_input_channels=1, context_length=64, patch_length=8, d_model=48, ffn_dim=32, patch_stride=8, num_hidden_layers=2
    )
    model = transformers.PatchTSTModel(config).eval()
    model.set_attn_implementation("eager")
    series = torch.randn(2, 64, 1)
    with pytest.raises(
        ac.AttentionError, match=r"(?s)has not been tried.*reading=ac.Reading\(tokens=ac.TokenLayout.text\(\)\)"
    ):
        ac.capture(model, series)
    store = ac.capture(model, series, reading=ac.Reading(tokens=ac.TokenLayout.text()), keep="maps")
    returned = model(series, output_attentions=True).attentions
    assert all(torch.allclose(layer.maps, maps, atol=1e-6) for layer, maps in zip(store, returned, strict=True))
