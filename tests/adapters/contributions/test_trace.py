"""Contributions of tokens off running models: beside replicas by hand from their weights, families, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp.capture import ContributionCollector, Expected, Measure, Shown, StoreCollector

from ...attribution import small_models as small
from ..timm_models.test_adapter import made, pictures
from ..timm_rows import ROWS
from ..transformers_zoo import MEMBERS, build, inputs

MEASURES: list[Measure] = ["norm", "norm-res", "norm-resln", "projection", "alti"]
WIDTH, HEADS = 24, 4


def vectors(maps: Tensor, values: Tensor, projection: Tensor) -> Tensor:
    """Σ_h A_ij^h W_O^h v_j^h (batch, query, key, width) of maps and values (batch, head, …), W_O (head · dim, width)."""
    by_head = values @ projection.unflatten(0, (values.shape[1], -1))
    return torch.einsum("bhij,bhjd->bijd", maps, by_head)


def shares(T: Tensor, residual: Tensor, offset: Tensor, output: Tensor, measure: Measure, norm: Any = None) -> Tensor:
    """(batch, 1, query, key) from the vectors of attention alone; `offset` is the bias of the projection."""
    if measure != "norm":
        T = T + torch.eye(T.shape[1], dtype=T.dtype)[..., None] * residual[:, :, None]
    if norm is not None and measure in ("norm-resln", "projection", "alti"):
        deviation = ((T.sum(2) + offset).var(-1, correction=0, keepdim=True) + norm.eps).sqrt()
        T = (T - T.mean(-1, keepdim=True)) * norm.weight / deviation[:, :, None]
        offset = (offset - offset.mean(-1, keepdim=True)) * norm.weight / deviation + norm.bias
    if measure == "alti":
        assert torch.allclose(T.sum(2) + offset, output), "the vectors of the replica add up to the model's output"
        left = (output[:, :, None] - T).abs().sum(-1)
        sizes = (output.abs().sum(-1, keepdim=True) - left).clamp(min=0)
    elif measure == "projection":
        sizes = (T * output[:, :, None]).sum(-1).clamp(min=0)
    else:
        sizes = T.norm(dim=-1)
    return (sizes / sizes.sum(-1, keepdim=True))[:, None]


def split(joint: Tensor, heads: int) -> Tensor:
    """(batch, token, head · dim) → (batch, head, token, dim)."""
    return joint.unflatten(-1, (heads, -1)).transpose(1, 2)


def check(store: ac.AttentionStore, expected: list[Tensor], measure: Measure) -> None:
    assert store.metadata["maps"] == measure
    assert len(store) == len(expected)
    for layer, shares in zip(store, expected, strict=True):
        assert torch.allclose(layer.maps, shares, atol=1e-9)


@torch.no_grad()
def vit_by_hand(model: Any, images: Tensor, measure: Measure) -> list[Tensor]:
    x, found = model._pos_embed(model.patch_embed(images)), []
    for block in model.blocks:
        query, key, value = (split(part, block.attn.num_heads) for part in block.attn.qkv(block.norm1(x)).chunk(3, -1))
        maps = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1)
        scale = getattr(block.ls1, "gamma", torch.ones(x.shape[-1], dtype=x.dtype))
        T = vectors(maps, value, block.attn.proj.weight.T * scale)
        offset = block.attn.proj.bias * scale
        output = x + T.sum(2) + offset
        found.append(shares(T, x, offset, output, measure))
        x = output + block.ls2(block.mlp(block.norm2(output)))
    return found


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_vit_by_hand(measure: Measure, fused: bool, scale: float | None) -> None:
    model, images = small.vit(fused=fused, init_values=scale), small.images()
    for number, block in enumerate(model.blocks):
        block.attn.qkv.bias.data.normal_(generator=torch.Generator().manual_seed(number))
        if scale:
            block.ls1.gamma.data *= 1 + torch.arange(len(block.ls1.gamma)) % 3
    before = model(images)
    store = ac.capture(model, images, maps=measure)
    check(store, vit_by_hand(model, images, measure), measure)
    assert store.tokens.grid == (2, 3)
    assert torch.equal(model(images), before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    last = ac.capture(model, images, maps=measure, layers=-1)
    assert torch.equal(last[0].maps, store[-1].maps)


@torch.no_grad()
def bert_by_hand(model: Any, ids: Tensor, mask: Tensor, measure: Measure) -> list[Tensor]:
    x, found = model.bert.embeddings(ids), []
    for layer in model.bert.encoder.layer:
        own, output = layer.attention.self, layer.attention.output
        query, key, value = (split(part(x), own.num_attention_heads) for part in (own.query, own.key, own.value))
        logits = query @ key.mT * query.shape[-1] ** -0.5
        T = vectors(logits.masked_fill(~mask[:, None, None], -torch.inf).softmax(-1), value, output.dense.weight.T)
        offset = output.dense.bias
        y = output.LayerNorm(x + T.sum(2) + offset)
        found.append(shares(T, x, offset, y, measure, output.LayerNorm) * mask[:, None, :, None])
        x = layer.output(layer.intermediate(y), y)
    return found


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_bert_by_hand_with_padding(measure: Measure, implementation: str) -> None:
    model, ids, mask = small.bert(implementation), small.ids(), torch.ones(2, 7)
    mask[1, 5:] = 0
    for parameter in model.bert.parameters():
        if parameter.ndim == 1:  # norms and biases that do something
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    store = ac.capture(model, ids, attention_mask=mask, maps=measure)
    check(store, bert_by_hand(model, ids, mask.bool(), measure), measure)
    assert not store[0].maps[1, :, :, 5:].any(), "padding contributes nothing"


@torch.no_grad()
def gpt2_by_hand(model: Any, ids: Tensor, measure: Measure) -> list[Tensor]:
    n, found = ids.shape[1], []
    x = model.wte(ids) + model.wpe(torch.arange(n))
    for block in model.h:
        query, key, value = (split(part, block.attn.num_heads) for part in block.attn.c_attn(block.ln_1(x)).chunk(3, -1))
        logits = query @ key.mT * query.shape[-1] ** -0.5
        maps = logits.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -torch.inf).softmax(-1)
        T, offset = vectors(maps, value, block.attn.c_proj.weight), block.attn.c_proj.bias
        output = x + T.sum(2) + offset
        found.append(shares(T, x, offset, output, measure))
        x = output + block.mlp(block.ln_2(output))
    return found


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_gpt2_by_hand(measure: Measure, implementation: str) -> None:
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_embd=48, n_layer=2, n_head=3, vocab_size=60, initializer_range=0.3)
    model, ids = transformers.GPT2Model(config).double().eval(), small.ids()
    model.set_attn_implementation(implementation)
    check(ac.capture(model, ids, maps=measure), gpt2_by_hand(model, ids, measure), measure)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_grouped_values_of_llama(implementation: str) -> None:
    """One key head serves three query heads; the first token sees itself alone."""
    model, ids = small.llama(implementation), small.ids()
    store, attention = ac.capture(model, ids, maps="norm-res"), ac.capture(model, ids)
    with torch.no_grad():
        states = model(ids, output_hidden_states=True).hidden_states
        for number, layer in enumerate(model.model.layers):
            value = split(layer.self_attn.v_proj(layer.input_layernorm(states[number])), 1).expand(-1, 3, -1, -1)
            T = vectors(attention[number].maps.double(), value, layer.self_attn.o_proj.weight.T)
            expected = shares(T, states[number], torch.zeros(48).double(), T, "norm-res")
            assert torch.allclose(store[number].maps, expected, atol=1e-9)
    assert torch.equal(store.maps()[..., 0, :], torch.eye(7, dtype=torch.float64)[0].expand(2, 3, 1, 7))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
def test_torch_layers_by_hand(measure: Measure, batch_first: bool, norm_first: bool) -> None:
    """One token is padding. Where examples come first, there are as many of them as tokens."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=batch_first, norm_first=norm_first).double().eval()
    for parameter in layer.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    examples = 5 if batch_first else 3
    x, absent = torch.randn(examples, 5, WIDTH, dtype=torch.float64), torch.zeros(examples, 5, dtype=torch.bool)
    absent[1, 4] = True
    given = x if batch_first else x.transpose(0, 1)
    store = ac.capture(model, given, src_key_padding_mask=absent, maps=measure)
    own: Any = model.layers[0]
    with torch.no_grad():
        joint = nn.functional.linear(
            own.norm1(x) if norm_first else x, own.self_attn.in_proj_weight, own.self_attn.in_proj_bias
        )
        query, key, value = (split(part, HEADS) for part in joint.chunk(3, -1))
        maps = (query @ key.mT / 6**0.5).masked_fill(absent[:, None, None], -torch.inf).softmax(-1)
        T, offset = vectors(maps, value, own.self_attn.out_proj.weight.T), own.self_attn.out_proj.bias
        norm, output = None if norm_first else own.norm1, x + T.sum(2) + offset
        expected = shares(T, x, offset, output if norm is None else norm(output), measure, norm)
    assert torch.allclose(store[0].maps, expected * ~absent[:, None, :, None], atol=1e-9)


MORE = (
    "distilbert roberta albert xlm opt bloom t5 vit dinov2 deit llava clip cohere gpt_oss"
    " gpt_neox gptj phi falcon codegen persimmon gemma2 gemma3_text olmo2 exaone4 glm4 bitnet qwen3_next"
)


# a feed-forward network beside the attention, a norm before the addition or the projection, a gate: in the second line
@pytest.mark.parametrize("name", MORE.split())
def test_more_families_of_transformers(name: str) -> None:
    """Both implementations give the same; that parts add up is checked in each call."""
    member, found = MEMBERS[name], []
    tower, kind = member.stacks[0]
    for implementation in ("sdpa", "eager"):
        try:
            model = build(member, implementation)
        except ValueError:
            continue  # its family has no such implementation
        reading = ac.Reading(kind=kind, tower=tower)
        found.append(ac.capture(model, **inputs(member, model), reading=reading, maps="alti"))
    for store in found:
        ac.TokenRank().score(store)
        assert all(torch.allclose(one.maps, other.maps, atol=1e-4) for one, other in zip(store, found[0], strict=True))


TEXTS = [name for name in MORE.split() if name not in ("t5", "vit", "dinov2", "deit", "llava", "clip")]


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_of_one_token_gives_all_to_itself(name: str) -> None:
    model = build(MEMBERS[name])
    assert torch.allclose(ac.capture(model, torch.tensor([[7]]), maps="alti").maps(), torch.ones(()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["gemma2", "gemma3_text", "gemma3", "t5gemma", "olmo2", "llama"])
def test_norms_that_compute_in_more_bits_than_the_model(name: str, dtype: torch.dtype) -> None:
    """The norms of Gemma end in `output.type_as(x)`, where both tensors come from the heads."""
    model = build(MEMBERS[name]).to(dtype).float()
    tower, kind = MEMBERS[name].stacks[-1 if name == "gemma3" else 0]
    given, reading = inputs(MEMBERS[name], model), ac.Reading(kind=kind, tower=tower)
    exact = ac.capture(model, **given, reading=reading, maps="alti").maps()
    given = {key: value.to(dtype) if value.is_floating_point() else value for key, value in given.items()}
    narrow = ac.capture(model.to(dtype), **given, reading=reading, maps="alti").maps()
    assert torch.allclose(narrow, exact, atol=0.05)


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "eva02_tiny_patch14_224", "beit_base_patch16_224"])
def test_more_families_of_timm(name: str) -> None:
    store = ac.capture(made(name), pictures(ROWS[name]), maps="alti")
    assert torch.allclose(store.maps().sum(-1), torch.ones(()))


@pytest.mark.parametrize(("name", "reason"), {
    "doge": "its output is not added to an input of a module around it, or of the norm before it",
    "mobilebert": "the sum with its input is neither carried on to another addition nor given to one layer_norm",
}.items())  # fmt: skip
def test_families_whose_blocks_are_no_such_sum(name: str, reason: str) -> None:
    model = build(MEMBERS[name])
    with pytest.raises(ac.AttentionError, match=f"{type(model).__name__}, layer '.*{reason}"):
        ac.capture(model, **inputs(MEMBERS[name], model), maps="alti")
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_norms_after_the_addition_and_before_the_network_are_told_apart() -> None:
    """Blocks of attention alone: a norm of the next block, or after the last one, is not a part of a block."""

    class Block(nn.Module):
        def __init__(self, before: bool) -> None:
            super().__init__()
            self.norm, self.before = nn.LayerNorm(WIDTH), before
            self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            given = self.norm(x) if self.before else x
            x = x + self.attention(given, given, given)[0]
            return x if self.before else self.norm(x)

    for before in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(WIDTH, WIDTH), Block(before), Block(before), nn.LayerNorm(WIDTH)).double().eval()
        for parameter in model.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
        given = torch.randn(2, 5, WIDTH, dtype=torch.float64)
        with_norm = ac.capture(model, given, maps="norm-resln").maps()
        without = ac.capture(model, given, maps="norm-res").maps()
        assert torch.equal(with_norm, without) == before
        assert torch.equal(with_norm[:, -1], without[:, -1]) == before


class Own(nn.Module):
    """A block of a user's own: what becomes of attention is `kind`."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.gate = kind, nn.Linear(WIDTH, WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        attended = self.attention(x, x, x)[0]
        match self.kind:
            case "plain":
                x = x + attended
            case "gated":
                x = x + attended * self.gate(x).sigmoid()
            case "normed":
                x = x + attended * torch.rsqrt(attended.pow(2).mean(-1, keepdim=True) + 1e-3)
            case "layer normed":
                x = x + nn.functional.layer_norm(attended, (WIDTH,), self.gate.bias, eps=1e-3)
            case "parallel":
                x = x + (attended + self.gate(x))
            case "parallel before":
                x = (x + self.gate(x)) + attended
            case "in place":
                x += attended
                x += self.gate(x)
            case "onto attention":
                attended += x
                x = attended
            case "onto the other":
                x = self.gate(x).add_(attended) + x
            case "adapted":
                x = x + (attended + self.gate(attended) * 0.5)
            case "squashed":
                x = x + attended.tanh()
            case "squared":
                x = x + attended * attended
            case "gates itself":
                x = x + attended * self.gate(attended).sigmoid()
            case "goes beside itself":
                x = x + (attended + self.gate(attended).tanh())
            case "not added":
                x = self.gate(attended)
            case "weighted":
                x = torch.add(x, attended, alpha=0.5)
            case "weighted in place":
                x.add_(attended, alpha=0.5)
            case "normed together":
                x = nn.functional.layer_norm(x + (attended + self.gate(x)), (WIDTH,))
        return self.gate(x)


@torch.no_grad()
def own_by_hand(model: Own, x: Tensor, measure: Measure) -> Tensor:
    own, gate = model.attention, model.gate
    joint = nn.functional.linear(x, own.in_proj_weight, own.in_proj_bias)
    query, key, value = (split(part, HEADS) for part in joint.chunk(3, -1))
    T = vectors((query @ key.mT / 6**0.5).softmax(-1), value, own.out_proj.weight.T)
    offset = own.out_proj.bias.expand(x.shape)
    attended = T.sum(2) + offset
    match model.kind:
        case "gated":
            scale = gate(x).sigmoid()
        case "normed":
            scale = (attended.pow(2).mean(-1, keepdim=True) + 1e-3).rsqrt()
        case "layer normed":
            T, offset = (part - part.mean(-1, keepdim=True) for part in (T, offset))
            scale = gate.bias / (attended.var(-1, correction=0, keepdim=True) + 1e-3).sqrt()
        case _:
            scale = torch.ones(())
    T, offset = T * (scale[:, :, None] if scale.ndim else scale), offset * scale
    if model.kind == "adapted":
        T, offset = (part + 0.5 * (part @ gate.weight.T) for part in (T, offset))
        offset = offset + 0.5 * gate.bias
    return shares(T, x, offset, x + T.sum(2) + offset, measure)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("kind", [
    *("plain", "gated", "normed", "layer normed", "parallel", "parallel before"),
    *("in place", "onto attention", "onto the other", "adapted"),
])  # fmt: skip
def test_blocks_of_a_users_own_by_hand(kind: str, measure: Measure) -> None:
    torch.manual_seed(0)
    first, own = nn.Linear(WIDTH, WIDTH), Own(kind)
    model, given = nn.Sequential(first, own).double(), torch.randn(2, 5, WIDTH, dtype=torch.float64)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    store = ac.capture(model, given, maps=measure)
    check(store, [own_by_hand(own, first(given), measure)], measure)


def test_blocks_in_a_loop_of_the_model_itself() -> None:
    """The stream is not an input of a module around the attention: the norm before the attention gets it."""

    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.attention = nn.LayerNorm(WIDTH), nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
            self.norm2, self.network = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            given = self.norm(x)
            x = x + self.attention(given, given, given)[0]
            return x + self.network(self.norm2(x))

    class Loop(nn.Module):
        def __init__(self, blocks: Any) -> None:
            super().__init__()
            self.blocks = blocks

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                given = block.norm(x)
                x = block.attention(given, given, given)[0] + x
                x = block.network(block.norm2(x)) + x
            return x

    torch.manual_seed(0)
    blocks = nn.Sequential(Normed(), Normed(), Normed()).double().eval()
    given = torch.randn(2, 5, WIDTH, dtype=torch.float64)
    for measure in MEASURES:
        expected = ac.capture(blocks, given, maps=measure).maps()
        assert torch.allclose(ac.capture(Loop(blocks), given, maps=measure).maps(), expected, atol=1e-12)
    assert not any(module._forward_hooks for module in blocks.modules())


@pytest.mark.parametrize(("kind", "reason"), {
    "squashed": "do not add up",
    "squared": "is not added to an input",
    "gates itself": "is not added to an input",
    "goes beside itself": "do not add up",
    "not added": "is not added to an input",
    "weighted": "is not added to an input",
    "weighted in place": "is not added to an input",
    "normed together": "the sum with its input is neither",
}.items())  # fmt: skip
def test_blocks_that_are_refused(kind: str, reason: str) -> None:
    given = torch.randn(2, 5, WIDTH)
    with pytest.raises(ac.AttentionError, match=f"Own, layer 'attention': .*{reason}.*(?s:.)*maps=\"attention\""):
        ac.capture(Own(kind), given, maps="alti")


@torch.no_grad()
def test_where_the_scale_of_values_sits_does_not_matter() -> None:
    model, images = small.vit(), small.images()
    before = ac.capture(model, images, maps="alti").maps()
    for block in model.blocks:
        block.attn.qkv.weight[-48:] *= 4
        block.attn.qkv.bias[-48:] *= 4
        block.attn.proj.weight /= 4
    assert torch.allclose(ac.capture(model, images, maps="alti").maps(), before)


@torch.no_grad()
def test_the_bias_of_values_belongs_to_tokens_and_that_of_the_projection_to_none() -> None:
    """Rows of attention sum to one, so a bias of the values can sit in the projection: the model is the same."""
    model, images = small.vit(depth=1), small.images()
    output, own = model(images), model.blocks[0].attn
    before = ac.capture(model, images, maps="norm").maps()
    own.qkv.bias[-48:] += 1
    own.proj.bias -= own.proj.weight.sum(1)
    assert torch.allclose(model(images), output)
    assert not torch.allclose(ac.capture(model, images, maps="norm").maps(), before, atol=1e-2)
    own.qkv.bias[-48:] -= 1
    own.proj.bias += 5
    assert torch.allclose(ac.capture(model, images, maps="norm").maps(), before)


def test_half_precision() -> None:
    model, images = small.vit(), small.images()
    exact = ac.capture(model, images, maps="alti").maps()
    narrow = ac.capture(model.bfloat16(), images.bfloat16(), maps="alti").maps()
    assert narrow.dtype == torch.float32
    assert torch.allclose(narrow.double(), exact, atol=0.05)


def test_gradients_are_neither_needed_nor_made() -> None:
    model, images = small.vit(), small.images().requires_grad_()
    assert not ac.capture(model, images, maps="alti").maps().requires_grad


def test_what_is_no_self_attention_of_a_model() -> None:
    model = build(MEMBERS["bart"])
    given = inputs(MEMBERS["bart"], model)
    ac.capture(model, **given, reading=ac.Reading(kind="decoder"), maps="alti")
    with pytest.raises(ac.AttentionError, match="contributions belong to self-attention"):
        ac.capture(model, **given, reading=ac.Reading(kind="cross"), maps="alti")
    llama = small.llama()
    with pytest.raises(ac.AttentionError, match="showed its attention alone.* text is being generated"):
        ac.capture(llama.generate, small.ids(), max_new_tokens=2, do_sample=False, maps="alti")
    with pytest.raises(ac.AttentionError, match="(?s)maps='l1' is unknown.*'norm', 'norm-res', 'norm-resln'.*'alti'"):
        ac.capture(llama, small.ids(), maps="l1")  # type: ignore[call-overload]
    with pytest.raises(ac.AttentionError, match="maps='alti' is computed while a model runs, and the source is a callable"):
        ac.capture(lambda x: x, small.ids(), maps="alti")


def test_an_adapter_that_hands_over_maps_alone() -> None:
    collector = ContributionCollector("alti", StoreCollector())
    collector.expect(Expected(ac.TokenLayout.text(torch.ones(1, 2)), 1, 1, False))
    with pytest.raises(ac.AttentionError, match="layer 'x' showed its attention alone"):
        collector.take("x", Shown(torch.eye(2)[None, None]))
