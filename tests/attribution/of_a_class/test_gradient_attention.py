"""Gradient attention of encoder–decoders beside the paper's rules, written with explicit matrices for one example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest
import torch
import transformers
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp.attribution import GradELLM

from .. import small_models as small
from ..text.texts import DECODER, TEXT

# One example: (maps, gradients) of each layer, (head, query, key)
Layers = list[tuple[Tensor, Tensor]]


def with_sizes(config: Any, layers: int, **more: Any) -> Any:
    sizes = {"vocab_size": 60, "d_model": 48, "max_position_embeddings": 32, "encoder_layers": layers, "init_std": 0.2}
    heads = dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 3)
    ffn = dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 32)
    return config(**{**sizes, **heads, **ffn, "decoder_layers": layers, "attn_implementation": "sdpa", **more})


def bart(layers: int = 2) -> Any:
    return transformers.BartForConditionalGeneration(with_sizes(transformers.BartConfig, layers))


def marian(layers: int = 2) -> Any:
    special = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0}
    return transformers.MarianMTModel(with_sizes(transformers.MarianConfig, layers, **special))


def t5(layers: int = 2) -> Any:
    sizes: dict[str, Any] = {"vocab_size": 60, "d_model": 48, "d_kv": 16, "d_ff": 32, "num_heads": 3, "num_layers": layers}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes))


def whisper(layers: int = 2) -> Any:
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    lengths = {"max_source_positions": 8, "max_target_positions": 32, "num_mel_bins": 80}
    return transformers.WhisperForConditionalGeneration(with_sizes(transformers.WhisperConfig, layers, **special, **lengths))


def captioner(layers: int = 2) -> Any:
    shape: dict[str, Any] = {"num_hidden_layers": layers, "num_attention_heads": 3, "hidden_size": 48}
    vision = transformers.ViTConfig(image_size=24, patch_size=8, intermediate_size=32, **shape)
    text = transformers.GPT2Config(
        vocab_size=60, n_embd=48, n_layer=layers, n_head=3, n_positions=32, add_cross_attention=True
    )
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, text)
    return transformers.VisionEncoderDecoderModel(config)


IDS, DECODED = small.ids(), small.ids(length=5)
MASK = torch.tensor([[1] * 7, [1, 1, 1, 1, 0, 0, 0]])
GENERATOR = torch.Generator().manual_seed(4)
IMAGES = torch.randn(2, 3, 24, 24, generator=GENERATOR, dtype=torch.float64)
SOUND = torch.randn(2, 80, 16, generator=GENERATOR, dtype=torch.float64)


@dataclass(frozen=True)
class Case:
    build: Callable[[int], Any]
    inputs: Tensor
    extra: tuple[Any, ...] = (None, DECODED)
    atol: float = 1e-10


CASES = {
    "BART": Case(bart, IDS),
    "BART, padded": Case(bart, IDS, (MASK, DECODED)),
    "Marian": Case(marian, IDS),
    "T5, padded": Case(t5, IDS, (MASK, DECODED), 1e-5),  # its softmax is in float32
    "Whisper": Case(whisper, SOUND),
    "ViT and GPT-2": Case(captioner, IMAGES, (DECODED,)),
}


def built(case: Case, layers: int) -> Any:
    torch.manual_seed(0)
    model = small.sharpened(case.build(layers))
    if case.build is t5:
        for name, parameter in model.named_parameters():
            if "SelfAttention" in name or "EncDecAttention" in name:
                parameter.data = 0.2 * torch.randn_like(parameter)
    return model


def of_eager(model: Any, case: Case, target: list[tuple[int, int]]) -> list[tuple[Layers, Layers, Layers]]:
    """Encoder, decoder and cross-attention of each example, by the model's own eager code."""
    model.set_attn_implementation("eager")
    output = model(case.inputs, *case.extra, output_attentions=True)
    parts = [list(part) for part in (output.encoder_attentions, output.decoder_attentions, output.cross_attentions)]
    score = torch.stack([output.logits[(row, *indices)] for row, indices in enumerate(target)]).sum()
    gradients = iter(torch.autograd.grad(score, [maps for part in parts for maps in part]))
    pairs = [[(maps.detach(), next(gradients)) for maps in part] for part in parts]
    return [tuple([(A[row], G[row]) for A, G in part] for part in pairs) for row in range(len(target))]  # type: ignore[misc]


def averaged(layer: tuple[Tensor, Tensor]) -> Tensor:
    """Equation 5."""
    A, G = layer
    return (G * A).clamp(min=0).mean(0).double()


def normalised(R: Tensor) -> Tensor:
    """Equations 8 and 9, row by row; a row that has nothing to share out stays."""
    result = torch.eye(len(R), dtype=R.dtype)
    for i, row in enumerate(R - result):
        if row.sum() > 0:
            result[i] += row / row.sum()
    return result


def replica(encoder: Layers, decoder: Layers, cross: Layers) -> tuple[Tensor, Tensor]:
    """R_de and R_dd by equations 6, 7 and 10."""
    n, m = encoder[0][0].shape[-1], decoder[0][0].shape[-1]
    R_ee, R_dd, R_de = torch.eye(n).double(), torch.eye(m).double(), torch.zeros(m, n).double()
    for layer in encoder:
        R_ee = R_ee + averaged(layer) @ R_ee
    for own, other in zip(decoder, cross, strict=True):
        A = averaged(own)
        R_dd, R_de = R_dd + A @ R_dd, R_de + A @ R_de
        R_de = R_de + normalised(R_dd).T @ averaged(other) @ normalised(R_ee)
    return R_de, R_dd


@pytest.mark.parametrize(("name", "layers"), [*dict.fromkeys(CASES, 2).items(), ("BART, padded", 1), ("BART, padded", 3)])
def test_beside_the_papers_rules(name: str, layers: int) -> None:
    case, target = CASES[name], [(4, 7), (2, 9)]
    model = built(case, layers)
    scores = ac.GradientAttention(model).attribute(case.inputs, target, case.extra, output="tokens")
    own = ac.GradientAttention(model, sequence="decoder").attribute(case.inputs, target, case.extra, output="tokens")
    for row, found in enumerate(of_eager(model, case, target)):
        R_de, R_dd = replica(*found)
        position = target[row][0]
        assert torch.allclose(scores[row].double(), R_de[position], atol=case.atol)
        assert torch.allclose(own[row].double(), R_dd[position], atol=case.atol)
        assert not torch.allclose(R_de[position], R_de[0], atol=1e-6), "the position matters"
        assert float(R_de[position].max()) > 100 * case.atol, "there is something to compare"
    if case.extra[0] is MASK:
        assert not scores[1, 4:].any(), "nothing comes from padding"


class Translator(nn.Module):
    """A user's model around torch's own transformer, of odd heads; embeddings in, logits (batch, position, token) out."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.transformer = nn.Transformer(24, 3, layers, layers, 32, dropout=0, batch_first=True)
        self.head = nn.Linear(24, 11)

    def forward(self, source: Tensor, decoded: Tensor, padding: Tensor) -> Tensor:
        later = torch.ones(decoded.shape[1], decoded.shape[1], dtype=torch.bool).triu(1)
        masks = {"src_key_padding_mask": padding, "memory_key_padding_mask": padding}
        return self.head(self.transformer(source, decoded, tgt_mask=later, **masks))


class Plain(nn.Module):
    """Multi-head attention written out, which remembers its map."""

    def __init__(self, given: nn.MultiheadAttention) -> None:
        super().__init__()
        self.given, self.batch_first, self.maps = given, True, torch.empty(0)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, **masks: Any) -> tuple[Tensor, None]:
        parts = zip((query, key, value), self.given.in_proj_weight.chunk(3), self.given.in_proj_bias.chunk(3), strict=True)
        q, k, v = ((x @ W.T + b).unflatten(-1, (3, -1)).transpose(1, 2) for x, W, b in parts)
        logits = q @ k.mT / q.shape[-1] ** 0.5
        for name in ("attn_mask", "key_padding_mask"):
            if (mask := masks.get(name)) is not None:
                allowed = mask == 0 if mask.dtype == torch.bool else mask > -1
                logits = logits.masked_fill(~(allowed[:, None, None] if name == "key_padding_mask" else allowed), -torch.inf)
        self.maps = logits.softmax(-1)
        return self.given.out_proj((self.maps @ v).transpose(1, 2).flatten(2)), None


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")  # needs an even number of heads
@pytest.mark.parametrize("layers", [1, 2])
def test_torchs_own_transformer(layers: int) -> None:
    torch.manual_seed(0)
    model, target = Translator(layers).double().eval(), [(4, 7), (2, 9)]
    source, decoded = torch.randn(2, 7, 24).double(), torch.randn(2, 5, 24).double()
    padding = torch.tensor([[False] * 7, [False] * 4 + [True] * 3])
    scores = ac.GradientAttention(model).attribute(source, target, (decoded, padding), output="tokens")
    own = ac.GradientAttention(model, sequence="decoder").attribute(source, target, (decoded, padding), output="tokens")
    named = [name for name, module in model.named_modules() if isinstance(module, nn.MultiheadAttention)]
    plain = {name: Plain(cast("nn.MultiheadAttention", model.get_submodule(name))) for name in named}
    for name, module in plain.items():
        model.set_submodule(name, module)
    logits = model.train()(source, decoded, padding)
    score = torch.stack([logits[(row, *indices)] for row, indices in enumerate(target)]).sum()
    gradients = dict(zip(named, torch.autograd.grad(score, [module.maps for module in plain.values()]), strict=True))
    for row, (position, _) in enumerate(target):
        encoder, decoder, cross = (
            [(plain[name].maps[row].detach(), gradients[name][row]) for name in named if all(part in name for part in parts)]
            for parts in (("encoder.",), ("decoder.", "self_attn"), ("decoder.", "multihead_attn"))
        )
        R_de, R_dd = replica(encoder, decoder, cross)
        assert torch.allclose(scores[row], R_de[position], atol=1e-10)
        assert torch.allclose(own[row], R_dd[position], atol=1e-10)
        assert float(R_de[position].max()) > 1e-6
    assert not scores[1, 4:].any()


def test_one_capture_gives_what_attribute_gives() -> None:
    case, target = CASES["BART, padded"], [(4, 7), (2, 9)]
    model = built(case, 2)
    expected = ac.GradientAttention(model).attribute(IDS, target, case.extra)
    assert expected.shape == IDS.shape
    found = ac.capture_encoder_decoder_gradients(model, *(IDS, *case.extra), target=target)
    assert torch.equal(ac.GradientAttention().score(found), expected)
    assert ac.GradientAttention(sequence="decoder").score(found).shape == (2, 5)
    assert [kind for kind, _, _ in found] == ["encoder", "encoder", "decoder", "cross", "decoder", "cross"], "as they run"
    assert found.cross.store.queries is not None
    with torch.no_grad():
        assert torch.equal(ac.GradientAttention(model).attribute(IDS, target, case.extra), expected)
    parts = ac.GradientAttention(model).attribute(IDS, target, case.extra, internal_batch_size=1)
    assert torch.allclose(parts, expected, atol=1e-10)
    embedded = model.get_input_embeddings()(IDS).detach() * model.model.encoder.embed_tokens.embed_scale
    assert torch.allclose(ac.GradientAttention(model).attribute(embedded, target, case.extra)[..., 0], expected, atol=1e-10)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_where_the_row_is_taken() -> None:
    """At the tokens of the decoder that the target reads, or where it is asked for."""
    model, case = built(CASES["BART"], 2), CASES["BART"]
    expected = ac.GradientAttention(model).attribute(IDS, (3, 8), case.extra)

    def of_token(output: Any) -> Tensor:
        return output.logits[:, 3, 8]

    for start in (3, "class-or-uniform"):
        assert torch.allclose(ac.GradientAttention(model, start=start).attribute(IDS, of_token, case.extra), expected)
    assert torch.allclose(ac.GradientAttention(model, start=-2).attribute(IDS, (-2, 8), case.extra), expected)
    each = [ac.GradientAttention(model, start=k).attribute(IDS, of_token, case.extra) for k in range(4)]
    with pytest.raises(ac.AttentionError, match="after the position of the target"):
        ac.GradientAttention(model, start=4).attribute(IDS, of_token, case.extra)
    for target in ((3, 8), of_token):
        among = ac.GradientAttention(model, start="uniform").attribute(IDS, target, case.extra)
        assert torch.allclose(among, torch.stack(each).mean(0), atol=1e-12), "every token up to the target's position"

    def of_several(output: Any) -> Tensor:
        return output.logits[:, 3, 8] - output.logits[:, 1, 5]

    rows = [ac.GradientAttention(model, start=k).attribute(IDS, of_several, case.extra) for k in (1, 3)]
    evenly = ac.GradientAttention(model).attribute(IDS, of_several, case.extra)
    assert torch.allclose(evenly, torch.stack(rows).mean(0), atol=1e-12)


@pytest.mark.parametrize("kind", range(5))
def test_a_class_is_explained_where_the_decoder_reads_it(kind: int) -> None:
    """At the last token, the end of the text."""
    model, ids = small.seq2seq_classifiers()[kind], small.ids(2, 7)
    ids[ids == 2] = 3
    ids[:, -1], ids[1, 4:] = 2, torch.tensor([2, 1, 1])
    mask = (ids != 1).long()
    mask[0] = 1
    found = ac.GradientAttention(model).attribute(ids, 1, (mask,), output="tokens")
    for row, end in ((0, 6), (1, 4)):
        text = ids[row : row + 1, : end + 1]
        last = ac.GradientAttention(model, start="last").attribute(text, 1, output="tokens")
        assert torch.allclose(found[row, : end + 1], last[0], atol=1e-9)


def test_images_get_the_scores_of_their_patches() -> None:
    case = CASES["ViT and GPT-2"]
    model = built(case, 1)
    pixels = ac.GradientAttention(model).attribute(IMAGES, (4, 7), DECODED)
    tokens = ac.GradientAttention(model).attribute(IMAGES, (4, 7), DECODED, output="tokens")
    assert pixels.shape == IMAGES.shape
    assert torch.equal(pixels[:, 1, ::8, ::8].flatten(1), tokens[:, 1:])


def test_known_mistakes_of_published_code_are_not_here() -> None:
    """0/0 in a row that nothing has reached; heads folded into the batch; R itself normalised; cross-attention out of turn."""
    case, target = CASES["BART"], [(4, 7), (2, 9)]
    model = built(case, 2)
    scores = ac.GradientAttention(model).attribute(IDS, target, case.extra)
    (encoder, decoder, cross), second = of_eager(model, case, target)

    R_dd = torch.eye(5).double() + averaged(second[1][0])
    published = R_dd - torch.eye(5).double()
    published = published / published.sum(-1, keepdim=True)
    assert bool(published.isnan().any()), "rows after the target's position have no evidence"
    assert bool(scores.isfinite().all())

    both = [[torch.cat(pair) for pair in zip(a, b, strict=True)] for a, b in zip(cross, second[2], strict=True)]
    folded, _ = replica(encoder, decoder, [(A, G) for A, G in both])
    assert not torch.allclose(scores[0], folded[4], atol=1e-6)

    R_de, R_dd = torch.zeros(5, 7).double(), torch.eye(5).double()
    R_ee = torch.eye(7).double()
    for layer in encoder:
        R_ee = R_ee + averaged(layer) @ R_ee
    late, whole = R_de, R_de
    for own, other in zip(decoder, cross, strict=True):
        late = late + normalised(R_dd).T @ averaged(other) @ normalised(R_ee)  # before the layer's own attention
        R_dd, late, whole = R_dd + averaged(own) @ R_dd, late + averaged(own) @ late, whole + averaged(own) @ whole
        share = [R / R.sum(-1, keepdim=True) for R in (R_dd, R_ee)]
        whole = whole + share[0].T @ averaged(other) @ share[1]
    assert not torch.allclose(scores[0], late[4], atol=1e-6)
    assert not torch.allclose(scores[0], whole[4], atol=1e-6)


def test_what_is_refused() -> None:
    model, case = built(CASES["BART"], 1), CASES["BART"]
    with pytest.raises(ac.AttentionError, match="sequence='cross' is unknown"):
        ac.GradientAttention(model, sequence="cross")  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="of an encoder–decoder every layer is read"):
        ac.GradientAttention(model, layers=-1).attribute(IDS, (3, 8), case.extra)
    with pytest.raises(ac.AttentionError, match="BertForSequenceClassification is not an encoder–decoder"):
        ac.capture_encoder_decoder_gradients(small.bert(), IDS, target=1)
    with pytest.raises(ac.AttentionError, match=r"(?s)logits of shape \(2, 5, 60\) .* a tuple of 2 indices"):
        ac.GradientAttention(model).attribute(IDS, 8, case.extra)
    model.model.decoder.layers[0].encoder_attn.out_proj.register_forward_hook(lambda _, __, output: output.detach())
    with pytest.raises(ac.AttentionError, match="no gradient flows from the score to 2 of 3 attention layers"):
        ac.GradientAttention(model).attribute(IDS, (3, 8), case.extra)


def spied(model: Any, ids: Tensor, target: tuple[int, int]) -> Tensor:
    """(layer, batch, token): the scores of each layer, by w, v and Φ(q · k)."""
    registry, seen = transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS, []
    fused = registry["sdpa"]

    def spy(module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        mixed, weights = fused(module, query, key, value, *args, **kwargs)
        mixed.retain_grad()
        repeats = query.shape[1] // key.shape[1]
        seen.append((query, key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1), mixed))
        return mixed, weights

    registry.register("spy", spy)
    model.set_attn_implementation("spy")
    place, number = target
    model(ids).logits[:, place, number].sum().backward()
    model.set_attn_implementation("sdpa")
    rows = []
    for query, key, value, mixed in seen:
        channels = value.transpose(1, 2).flatten(2)  # (batch, token, channel)
        weight = mixed.grad.flatten(2)[:, place]
        products = torch.einsum("bhc,bhjc->bj", query[:, :, place], key)[:, : place + 1]
        loosened = torch.zeros_like(channels[..., 0])
        least, most = products.amin(1, keepdim=True), products.amax(1, keepdim=True)
        loosened[:, : place + 1] = (products - least) / (most - least)
        rows.append((weight[:, None] * channels * loosened[..., None]).sum(-1).relu())
    return torch.stack(rows).detach()


@pytest.mark.parametrize("place", [6, 3])
def test_beside_its_formula(place: int) -> None:
    model = small.llama()
    expected = spied(model, small.ids(), (place, 3))
    found = GradELLM(model, start=place).attribute(small.ids(), (place, 3), output="tokens")
    assert torch.allclose(found, expected.sum(0), atol=1e-10)
    assert float(expected.sum(0).max()) > 1e-3
    last = GradELLM(model, start=place, layers=-1).attribute(small.ids(), (place, 3), output="tokens")
    assert torch.allclose(last, expected[-1], atol=1e-10)


def test_a_token_alone_has_nothing_to_compare() -> None:
    model, first = small.llama(), small.ids()[:, :1]
    assert not GradELLM(model).attribute(first, (0, 3), output="tokens").any()


def test_of_texts() -> None:
    model = small.llama()
    result = GradELLM(model).attribute_text(TEXT, "a dog", DECODER)
    assert result.policy == "the walk starts at the position that predicts the output token and sees the context alone"
    ids = torch.tensor([DECODER.encode(TEXT)])
    found = ac.capture_gradients(
        model, ids, target=lambda output: output.logits[:, -1].log_softmax(-1)[:, DECODER.convert_tokens_to_ids("a")]
    )
    assert result.token_attr is not None
    assert torch.allclose(result.token_attr[0], GradELLM().score(found)[0].double(), atol=1e-8)


@pytest.mark.parametrize("sequence", ["encoder", "decoder"])
@pytest.mark.parametrize("model", small.seq2seq_classifiers(), ids=lambda model: type(model).__name__)
def test_a_short_text_in_a_batch_of_classified_texts(model: Any, sequence: Any) -> None:
    """The model makes the decoder's tokens of the encoder's, padding too, and gets one mask for both."""
    ids = small.ids(2, 8).clamp_min(5)
    ids[0, 4] = ids[1, 7] = model.config.eos_token_id
    ids[0, 5:] = model.config.pad_token_id
    method, mask = ac.GradientAttention(model, sequence=sequence), (ids != model.config.pad_token_id).long()
    scores = method.attribute(ids, 1, output="tokens", model_kwargs={"attention_mask": mask})
    alone = method.attribute(ids[:1, :5], 1, output="tokens")
    assert torch.allclose(scores[:1, :5], alone, rtol=1e-9)
    assert not scores[0, 5:].any()
