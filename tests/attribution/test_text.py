"""Texts through every kind of model, beside replicas written from transformers' own eager maps."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import matplotlib as mpl
import pytest
import torch
import transformers
from captum.attr import TextTemplateInput, TextTokenInput
from captum.attr._core.llm_attr import LLMAttributionResult
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionGradientAttribution, TextAttributionResult, attribution
from attnchain_interp.attribution.text import decoder

from . import small_models as small

mpl.use("Agg")

BERT: dict[str, Any] = {**small.BERT, "num_hidden_layers": 2}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>"]
WORDS = ["the", "cat", "sat", "on", "mat", "walk", "##ing", "##s", "a", "dog", ".", "and", "un", "##happy"]
VOCABULARY = {token: number for number, token in enumerate([*SPECIAL, *WORDS])}
TEXT = "the cats sat on the mat."


def tokenizer(before: str = "", after: str = "", decodes: bool = True) -> Any:
    """Splits into words and these into pieces, with special tokens before and after."""
    inner: Any = Tokenizer(models.WordPiece(VOCABULARY, unk_token="[UNK]"))
    inner.normalizer, inner.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    if decodes:
        inner.decoder = decoders.WordPiece(cleanup=False)
    parts = [part for part in (before, "$A", after) if part]
    special = [(part, VOCABULARY[part]) for part in (before, after) if part]
    inner.post_processor = processors.TemplateProcessing(single=" ".join(parts), special_tokens=special)
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "eos_token": "</s>"}
    if before == "[CLS]":
        names |= {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    if before == "<s>":
        names["bos_token"] = "<s>"
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, **names)


def unsplit_tokenizer() -> Any:
    """As that of Llama 2: spaces are characters of the tokens, and the whole text is one word to it."""
    pieces = ["<unk>", "▁the", "▁cat", "s", "▁s", "at", "▁", "t", "h", "e", "c", "a"]
    merges = [("▁", "the"), ("▁", "cat"), ("▁", "s"), ("a", "t"), ("t", "h"), ("th", "e"), ("c", "at")]
    pieces += ["the", "cat", "th"]
    inner: Any = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, merges, unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")


ENCODER, DECODER, SEQ2SEQ = tokenizer("[CLS]", "[SEP]"), tokenizer("<s>"), tokenizer(after="</s>")


def bart() -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {f"{side}_layers": 2 for side in ("encoder", "decoder")}
    sizes |= {f"{side}_attention_heads": 3 for side in ("encoder", "decoder")}
    special: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 5, "eos_token_id": 6, "decoder_start_token_id": 6}
    options: dict[str, Any] = {"vocab_size": 60, "d_model": 48, "max_position_embeddings": 32, "init_std": 0.5}
    config = transformers.BartConfig(**options, **sizes, **special)
    return small.sharpened(transformers.BartForConditionalGeneration(config))


def t5() -> Any:
    torch.manual_seed(0)
    sizes = {"d_model": 48, "d_kv": 16, "d_ff": 32, "num_layers": 2, "num_heads": 3}
    options: dict[str, Any] = {"vocab_size": 60, "decoder_start_token_id": 0, **sizes}
    config = transformers.T5Config(**options)
    model = transformers.T5ForConditionalGeneration(config)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data = 0.3 * torch.randn(parameter.shape)
    return model.double().eval()


def eager(model: Any, **inputs: Tensor) -> Any:
    model = copy.deepcopy(model)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        return model(**inputs, output_attentions=True)


def averaged(maps: Any) -> Tensor:
    return torch.stack([each[0] for each in maps]).mean((0, 1))


def rolled(maps: Any) -> Tensor:
    R = torch.eye(maps[0].shape[-1], dtype=torch.float64)
    for each in maps:
        A = each[0].mean(0)
        R = (A + torch.eye(len(A), dtype=A.dtype)) / 2 @ R
    return R


def ranked(P: Tensor, damping: float, v: Tensor) -> Tensor:
    return torch.linalg.solve(torch.eye(len(P), dtype=P.dtype) - damping * P.mT, (1 - damping) * v)


def uniform(n: int) -> Tensor:
    return torch.full((n,), 1 / n, dtype=torch.float64)


# --- decoders ---------------------------------------------------------------------------------------------------------


def decoder_ids(target: str) -> tuple[Tensor, int]:
    prompt = DECODER.encode(TEXT)
    return torch.tensor([prompt + DECODER.encode(target, add_special_tokens=False)]), len(prompt)


def rows_of(result: TextAttributionResult) -> Tensor:
    """(output token, token): prompt and earlier output together."""
    assert result.token_attr is not None
    assert result.output_attr is not None
    return torch.cat([result.token_attr, result.output_attr], 1)


def test_a_decoder_beside_eager_maps() -> None:
    """Each row from a forward of the text before its output token alone."""
    model, target = small.llama(), "a dog walking"
    ids, n = decoder_ids(target)
    methods = [ac.MultiBounce(model), ac.Rollout(model), ac.TokenRank(model, damping=0.9, causal="damp"),
               ac.RawAttention(model), ac.ColumnSum(model), ac.MultiBounce(model, layers=-1), ac.TokenRank(model)]  # fmt: skip
    results = [method.attribute_text(TEXT, target, DECODER) for method in methods]
    found = [rows_of(result) for result in results]
    for k, p in enumerate(range(n, ids.shape[1])):
        output = eager(model, input_ids=ids[:, :p])
        P, R, last = averaged(output.attentions), rolled(output.attentions), averaged(output.attentions[-1:])
        end = torch.eye(p, dtype=P.dtype)[-1]
        expected = [(P @ P)[-1], R[-1], ranked(P, 0.9, uniform(p)), P[-1], P.mean(0), (last @ last)[-1], ranked(P, 0.5, end)]
        for rows, row in zip(found, expected, strict=True):
            assert torch.allclose(rows[k, :p], row, atol=1e-8)
            assert not rows[k, p:].any()
        assert results[0].output_probs is not None
        assert torch.isclose(results[0].output_probs[k], output.logits[0, -1].softmax(-1)[ids[0, p]])
    first = results[0]
    assert first.input_tokens == ["<s>", "the", "cat", "##s", "sat", "on", "the", "mat", "."]
    assert first.output_tokens == ["a", "dog", "walk", "##ing"]
    assert first.token_attr is not None
    assert torch.allclose(first.seq_attr, first.token_attr.sum(0))
    assert "starts at the position that predicts" in first.policy
    assert "ranked as a whole, causal='damp', damping=0.9" in results[2].policy
    assert results[6].policy.startswith("jumps lead to the position that predicts the output token")
    assert "causal='last', damping=0.5" in results[6].policy
    assert (method := methods[0]).start is None, "the method is left as it was"  # type: ignore[attr-defined]
    assert isinstance(method, ac.MultiBounce)


@pytest.mark.parametrize("size", [1, 3])
def test_gradients_of_a_decoder(size: int) -> None:
    model, target = small.llama(), "a dog walking"
    ids, n = decoder_ids(target)
    result = ac.GradientAttention(model).attribute_text(TEXT, target, DECODER, internal_batch_size=size)
    last = rows_of(ac.LeGrad(model, layers=-1).attribute_text(TEXT, target, DECODER, internal_batch_size=size))
    rows = rows_of(result)
    for k, p in enumerate(range(n, ids.shape[1])):
        own = copy.deepcopy(model)
        own.set_attn_implementation("eager")
        output = own(ids[:, :p], output_attentions=True)
        score = output.logits[0, -1].log_softmax(-1)[ids[0, p]]
        gradients = torch.autograd.grad(score, output.attentions)
        R = torch.eye(p, dtype=torch.float64)
        for A, G in zip(output.attentions, gradients, strict=True):
            R = R + (A * G)[0].clamp(min=0).mean(0) @ R
        assert torch.allclose(rows[k, :p], R[-1], atol=1e-8)
        assert not rows[k, p:].any()
        received = (gradients[-1] * (output.attentions[-1] > 0))[0].clamp(min=0).mean((0, 1))
        assert torch.allclose(last[k, :p], received, atol=1e-8), "of the last layer, LeGrad's score is the model's own"
        assert result.output_probs is not None
        assert torch.isclose(result.output_probs[k].log(), score)


def test_contributions_of_a_decoder() -> None:
    model, target = small.llama(), "a dog walking"
    ids, n = decoder_ids(target)
    rows = rows_of(ac.ContributionRollout(model, layers=slice(1, None)).attribute_text(TEXT, target, DECODER))
    for k, p in enumerate(range(n, ids.shape[1])):
        store = ac.capture_contributions(model, ids[:, :p], layers=slice(1, None))
        row = torch.eye(p, dtype=torch.float64)[-1]
        for layer in reversed(list(store)):
            row = row @ layer.maps[0, 0].double()
        assert torch.allclose(rows[k, :p], row, atol=1e-6)
        assert not rows[k, p:].any()


METHODS = [name for name in attribution.__all__ if hasattr(getattr(attribution, name), "attribute_text")]
CONCRETE = [name for name in METHODS if not inspect.isabstract(getattr(attribution, name))]
every_method = pytest.mark.parametrize("name", CONCRETE)


@every_method
def test_later_tokens_change_nothing_before(name: str) -> None:
    model = small.llama()
    if name == "MetastableStates":
        with pytest.raises(ac.AttentionError, match="cannot be summed"):
            ac.MetastableStates(model).attribute_text(TEXT, "a dog", DECODER)
        return
    method = getattr(attribution, name)(model, **({"steps": 2} if name == "TransitionAttentionMaps" else {}))
    one, other = (method.attribute_text(TEXT, target, DECODER) for target in ("a dog walking", "a dog ."))
    assert torch.allclose(rows_of(one)[:2, :-2], rows_of(other)[:2, :-1], atol=1e-10)
    assert one.policy
    assert one.token_attr.shape == (4, 9)
    assert bool(one.token_attr.any(1).all())


def test_factors_serve_as_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the maps are too large to be kept."""
    model, stores = small.llama(), []

    def factored(*inputs: Any, **options: Any) -> ac.AttentionStore:
        stores.append(ac.capture(*inputs, keep="factors", **options))
        return stores[-1]

    methods = [ac.MultiBounce(model), ac.Rollout(model), ac.TokenRank(model), ac.TokenRank(model, causal="absorb")]
    maps = [rows_of(method.attribute_text(TEXT, "a dog walking", DECODER)) for method in methods]
    monkeypatch.setattr(decoder, "capture", factored)
    for method, expected in zip(methods, maps, strict=True):
        assert torch.allclose(rows_of(method.attribute_text(TEXT, "a dog walking", DECODER)), expected, atol=1e-8)
    assert all(isinstance(layer.attention, ac.Factors) for layer in decoder.context(stores[0], 9))


def test_a_model_that_generates() -> None:
    model = small.llama()
    expected = model.generate(torch.tensor([DECODER.encode(TEXT)]), max_new_tokens=4, do_sample=False)[0, 9:].tolist()
    result = ac.MultiBounce(model).attribute_text(TEXT, tokenizer=DECODER, max_new_tokens=4)
    given = ac.MultiBounce(model).attribute_text(TEXT, expected, DECODER)
    assert torch.equal(rows_of(result), rows_of(given))
    model.generation_config.eos_token_id = expected[1]
    stopped = ac.MultiBounce(model).attribute_text(TEXT, tokenizer=DECODER, max_new_tokens=4)
    ended = expected.index(expected[1]) + 1
    assert torch.allclose(rows_of(stopped)[:, :9], rows_of(result)[:ended, :9])


def test_targets_in_every_form() -> None:
    method = ac.MultiBounce(small.llama())
    numbers = DECODER.encode("a dog", add_special_tokens=False)
    expected = rows_of(method.attribute_text(TEXT, "a dog", DECODER))
    for target in (numbers, tuple(numbers), torch.tensor(numbers)):
        assert torch.equal(rows_of(method.attribute_text(TEXT, target, DECODER)), expected)
    assert method.attribute_text(TEXT, [59], DECODER).output_tokens == ["token 59"], "the tokenizer has fewer than the model"
    alone = rows_of(method.attribute_text(TEXT, numbers[0], DECODER))
    assert alone.shape == (1, 10)
    assert torch.allclose(alone[0, :9], expected[0, :9])


def test_chosen_tokens_are_those_of_the_whole_text() -> None:
    model, (ids, n) = small.llama(), decoder_ids("a dog")
    result = ac.MultiBounce(model, steps=1, tokens=[1, 4, -2]).attribute_text(TEXT, "a dog", DECODER)
    for k, p in enumerate(range(n, ids.shape[1])):
        inside = [place for place in (1, 4, 8) if place < p]
        row = torch.zeros(p, dtype=torch.float64)
        each = torch.stack([one[0, :, p - 1, inside] for one in eager(model, input_ids=ids).attentions]).flatten(0, 1)
        row[inside] = (each / each.sum(-1, keepdim=True)).mean(0)
        assert torch.allclose(rows_of(result)[k, :p], row, atol=1e-8)
    for build in (ac.GradientMultiBounce, ac.GradientTokenRank):
        rows = rows_of(build(model, tokens=[0, 4, -2]).attribute_text(TEXT, "a dog", DECODER, internal_batch_size=2))
        assert (rows > 0).any(0).nonzero()[:, 0].tolist() == [0, 4, 8]


def test_a_language_model_that_sees_later_tokens_is_refused() -> None:
    model = transformers.BertLMHeadModel(transformers.BertConfig(**BERT)).eval()
    for method in (ac.MultiBounce(model), ac.GradientAttention(model)):
        with pytest.raises(ac.AttentionError, match="attends to later tokens"):
            method.attribute_text(TEXT, "a dog", ENCODER)


# --- encoders ---------------------------------------------------------------------------------------------------------


def test_an_encoder_beside_eager_maps() -> None:
    model = small.bert()
    model.config.id2label = {0: "good", 1: "bad", 2: "odd", 3: "even"}
    ids = torch.tensor([ENCODER.encode(TEXT)])
    P = averaged(eager(model, input_ids=ids).attentions)
    result = ac.MultiBounce(model).attribute_text(TEXT, 1, ENCODER)
    assert result.token_attr is not None
    assert torch.allclose(result.token_attr[0], (P @ P)[0], atol=1e-8)
    assert torch.equal(result.seq_attr, result.token_attr[0])
    assert result.input_tokens == ["[CLS]", "the", "cat", "##s", "sat", "on", "the", "mat", ".", "[SEP]"]
    assert result.output_tokens == ["Multi Bounce"], "attention alone knows no class"
    assert torch.equal(ac.MultiBounce(model).attribute_text(TEXT, tokenizer=ENCODER).seq_attr, result.seq_attr)
    maps, gradients = small.of_transformers(model, [1], input_ids=ids)
    R = torch.eye(10, dtype=torch.float64)
    for A, G in zip(maps, gradients, strict=True):
        R = R + (A * G)[0].clamp(min=0).mean(0) @ R
    specific = ac.GradientAttention(model).attribute_text(TEXT, 1, ENCODER)
    assert torch.allclose(specific.seq_attr, R[0], atol=1e-8)
    assert (specific.output_tokens, specific.output_probs, specific.output_attr) == (["bad"], None, None)
    for target in ([1], torch.tensor(1), torch.tensor([1])):
        assert ac.GradientAttention(model).attribute_text(TEXT, target, ENCODER).output_tokens == ["bad"]


@every_method
def test_every_method_scores_an_encoder(name: str) -> None:
    model = small.bert()
    result = getattr(attribution, name)(model).attribute_text(TEXT, 2, ENCODER)
    assert isinstance(result, LLMAttributionResult)
    assert result.seq_attr.shape == (10,)
    assert bool(result.seq_attr.any())


def test_a_masked_language_model() -> None:
    torch.manual_seed(0)
    model: Any = small.sharpened(transformers.BertForMaskedLM(transformers.BertConfig(**BERT)))
    result = ac.GradientAttention(model, start=4).attribute_text(
        "the cats [MASK] on the mat.", (4, VOCABULARY["sat"]), ENCODER
    )
    assert result.output_tokens == ["sat"]
    assert result.input_tokens[4] == "[MASK]"
    assert result.seq_attr[4] >= 1, "the start keeps the 1 of its residual path"


def test_a_source_that_is_no_model() -> None:
    def source(ids: Tensor) -> ac.AttentionStore:
        return ac.AttentionStore.from_maps([torch.eye(ids.shape[1]).expand(1, 1, -1, -1)])

    assert torch.allclose(ac.ColumnSum(source).attribute_text(TEXT, tokenizer=ENCODER).seq_attr, torch.full((10,), 0.1))


# --- encoder–decoders -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [bart, t5])
def test_an_encoder_decoder_beside_eager_maps(build: Any) -> None:
    model, target = build(), "a dog walking"
    start = model.config.decoder_start_token_id
    prompt = torch.tensor([SEQ2SEQ.encode(TEXT)])
    output_ids = DECODER.encode(target, add_special_tokens=False)
    output = eager(model, input_ids=prompt, decoder_input_ids=torch.tensor([[start, *output_ids[:-1]]]))
    starts, P, R = averaged(output.cross_attentions), averaged(output.encoder_attentions), rolled(output.encoder_attentions)
    methods = [ac.MultiBounce(model), ac.MultiBounce(model, steps=0), ac.Rollout(model), ac.RawAttention(model)]
    expected = [starts @ P @ P, starts, starts @ R, starts @ P]
    for method, rows in zip(methods, expected, strict=True):
        result = method.attribute_text(TEXT, target, SEQ2SEQ)
        assert result.token_attr is not None
        assert torch.allclose(result.token_attr, rows, atol=1e-7)
        assert result.output_attr is None
        assert "the walk over the encoder starts where cross-attention goes" in result.policy
    ranks = ac.TokenRank(model, damping=0.8).attribute_text(TEXT, target, SEQ2SEQ)
    assert ranks.token_attr is not None
    for found, row in zip(ranks.token_attr, starts, strict=True):
        assert torch.allclose(found, ranked(P, 0.8, row), atol=1e-7)
    assert "restarts" in ranks.policy
    assert ranks.input_tokens == ["the", "cat", "##s", "sat", "on", "the", "mat", ".", "</s>"]
    assert ranks.output_tokens == ["a", "dog", "walk", "##ing"]
    assert ranks.output_probs is not None
    assert torch.allclose(ranks.output_probs, output.logits[0].softmax(-1)[range(4), output_ids])


def test_an_encoder_decoder_that_generates() -> None:
    model = bart()
    sequence = model.generate(torch.tensor([SEQ2SEQ.encode(TEXT)]), max_new_tokens=5, do_sample=False, num_beams=1)[0].tolist()
    result = ac.MultiBounce(model).attribute_text(TEXT, tokenizer=SEQ2SEQ, max_new_tokens=5)
    given = ac.MultiBounce(model).attribute_text(TEXT, sequence[1:], SEQ2SEQ)
    assert result.token_attr is not None
    assert given.token_attr is not None
    assert torch.equal(result.token_attr, given.token_attr)
    model.generation_config.forced_bos_token_id = sequence[1]
    after = ac.MultiBounce(model).attribute_text(TEXT, sequence[2:], SEQ2SEQ)
    assert after.token_attr is not None
    assert torch.allclose(after.token_attr, given.token_attr[1:], atol=1e-10)


def test_what_an_encoder_decoder_has_no_meaning_for() -> None:
    model = bart()
    for name in ("ColumnSum", "WeightedPageRank"):
        with pytest.raises(ac.AttentionError, match=f"{name} has no start, so it scores the encoder's tokens alike"):
            getattr(attribution, name)(model).attribute_text(TEXT, "a dog", SEQ2SEQ)
    for name in (name for name in CONCRETE if issubclass(getattr(attribution, name), AttentionGradientAttribution)):
        with pytest.raises(ac.AttentionError, match=f"{name} reads gradients"):
            getattr(attribution, name)(model).attribute_text(TEXT, "a dog", SEQ2SEQ)
    assert ac.RandomRanking(model).attribute_text(TEXT, "a dog", SEQ2SEQ).policy.startswith("random")
    with pytest.raises(ac.AttentionError, match="has no language-model head"):
        ac.MultiBounce(transformers.BartModel(model.config).eval()).attribute_text(TEXT, "a dog", SEQ2SEQ)
    model.generation_config.decoder_start_token_id = model.config.decoder_start_token_id = None
    model.generation_config.bos_token_id = model.config.bos_token_id = None
    with pytest.raises(ac.AttentionError, match="does not say what its decoder starts with"):
        ac.MultiBounce(model).attribute_text(TEXT, "a dog", SEQ2SEQ)


# --- units, inputs, plots ---------------------------------------------------------------------------------------------


def test_words_are_the_sums_of_their_tokens() -> None:
    method = ac.MultiBounce(small.llama())
    text = "The unhappy cats sat walking."
    tokens, words = (method.attribute_text(text, "a dog", DECODER, words=words) for words in (False, True))
    assert tokens.input_tokens == ["<s>", "the", "un", "##happy", "cat", "##s", "sat", "walk", "##ing", "."]
    assert words.input_tokens == ["<s>", "The", "unhappy", "cats", "sat", "walking", "."]
    assert tokens.token_attr is not None
    assert words.token_attr is not None
    groups = [[0], [1], [2, 3], [4, 5], [6], [7, 8], [9]]
    expected = torch.stack([tokens.token_attr[:, group].sum(1) for group in groups], 1)
    assert torch.allclose(words.token_attr, expected)
    assert torch.equal(words.output_attr, tokens.output_attr)  # type: ignore[arg-type]
    of_input = method.attribute_text(TextTokenInput(text, DECODER, skip_tokens=["<s>", "un"]), "a dog", words=True)
    assert of_input.input_tokens == ["the", "happy", "cats", "sat", "walking", "."]
    assert torch.allclose(of_input.seq_attr[1], tokens.seq_attr[3])


def test_words_of_a_tokenizer_that_splits_nothing() -> None:
    unsplit = unsplit_tokenizer()
    result = ac.MultiBounce(small.llama()).attribute_text("the cats sat", [1], unsplit, words=True)
    assert result.input_tokens == ["the", "cats", "sat"]
    assert len(unsplit.encode("the cats sat")) > 3


def test_words_need_to_be_known() -> None:
    class Slow:
        encode, decode, convert_ids_to_tokens = DECODER.encode, DECODER.decode, DECODER.convert_ids_to_tokens

        def __call__(self, *_: Any) -> None: ...

    method = ac.MultiBounce(small.llama())
    assert method.attribute_text(TEXT, "a dog", Slow()).token_attr is not None
    with pytest.raises(ac.AttentionError, match="pass a fast tokenizer"):
        method.attribute_text(TEXT, "a dog", Slow(), words=True)
    lossy = TextTokenInput(TEXT, tokenizer("<s>", decodes=False))
    with pytest.raises(ac.AttentionError, match="Pass the text as a string"):
        method.attribute_text(lossy, "a dog", words=True)


def test_captums_own_input() -> None:
    model = small.bert()
    whole = ac.TokenRank(model).attribute_text(TEXT, tokenizer=ENCODER)
    inp = TextTokenInput(TEXT, ENCODER, skip_tokens=["[CLS]", "[SEP]"])
    inp.values = [value.upper() for value in inp.values]
    result = ac.TokenRank(model).attribute_text(inp)
    assert result.inp is inp
    assert result.input_tokens == ["THE", "CAT", "##S", "SAT", "ON", "THE", "MAT", "."]
    assert torch.equal(result.seq_attr, whole.seq_attr[1:-1]), "skipped tokens are read, and not scored"


def test_captums_plots() -> None:
    result = ac.MultiBounce(small.llama()).attribute_text(TEXT, "a dog", DECODER)
    figure, axes = result.plot_token_attr()  # type: ignore[misc]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "dog"]
    assert figure.get_axes()
    _, axes = result.plot_seq_attr()  # type: ignore[misc]
    assert len(axes.patches) == 2 * 9
    assert result.input_labels[1:7] == ["the (1)", "cat", "##s", "sat", "on", "the (6)"]
    assert list(result.seq_attr_dict) == result.input_labels
    assert list(result.seq_attr_dict.values()) == result.seq_attr.tolist()


def test_the_model_is_left_as_it_was() -> None:
    model = small.llama()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for method in (ac.MultiBounce(model), ac.GradientAttention(model)):
        with torch.no_grad():
            method.attribute_text(TEXT, "a dog", DECODER)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model._forward_hooks
    assert all(parameter.grad is None for parameter in model.parameters())


def test_bad_texts() -> None:
    method = ac.MultiBounce(small.llama())
    with pytest.raises(ac.AttentionError, match="text is 2 texts; attribute them one by one"):
        method.attribute_text([TEXT, TEXT], "a dog", DECODER)  # type: ignore[arg-type]
    for other in (3, TextTemplateInput("{}", ["a"])):
        with pytest.raises(ac.AttentionError, match="It must be one string, or one captum TextTokenInput"):
            method.attribute_text(other, "a dog", DECODER)  # type: ignore[arg-type]
    for empty in ("", " \n"):
        with pytest.raises(ac.AttentionError, match="an empty prompt"):
            method.attribute_text(empty, "a dog", DECODER)
    with pytest.raises(ac.AttentionError, match="skip_tokens skips all"):
        method.attribute_text(TextTokenInput("the", tokenizer(), skip_tokens=["the"]), "a dog")
    with pytest.raises(ac.AttentionError, match="tokenizer is NoneType, which lacks __call__, encode"):
        method.attribute_text(TEXT, "a dog")
    with pytest.raises(ac.AttentionError, match="text takes 41 tokens but LlamaForCausalLM has positions for 32"):
        method.attribute_text("the " * 40, "a dog", DECODER)
    with pytest.raises(ac.AttentionError, match="made without a model"):
        ac.MultiBounce().attribute_text(TEXT, "a dog", DECODER)
    with pytest.raises(ac.AttentionError, match=r"text takes 41 tokens but BertForSequenceClassification"):
        ac.TokenRank(small.bert()).attribute_text("the " * 39, tokenizer=ENCODER)
    few = small.llama()
    few.resize_token_embeddings(10)
    with pytest.raises(
        ac.AttentionError, match="text holds token numbers from 5 to 17, but LlamaForCausalLM has tokens 0 to 9"
    ):
        ac.MultiBounce(few).attribute_text(TEXT, "the", DECODER)


def test_bad_targets() -> None:
    method = ac.MultiBounce(small.llama())
    for empty in ("", [], torch.tensor([], dtype=torch.long)):
        with pytest.raises(ac.AttentionError, match="has no tokens; give at least one"):
            method.attribute_text(TEXT, empty, DECODER)
    for other in (1.5, True, [True], torch.ones(2), [[1, 2]], {"a": 1}, [[1], [2, 3]]):
        with pytest.raises(ac.AttentionError, match="it is the text it goes on with"):
            method.attribute_text(TEXT, other, DECODER)  # type: ignore[arg-type]
    for out in (60, -1, [3, 60]):
        with pytest.raises(ac.AttentionError, match="target holds token numbers .* LlamaForCausalLM has tokens 0 to 59"):
            method.attribute_text(TEXT, out, DECODER)
    with pytest.raises(ac.AttentionError, match="text and target takes 33 tokens"):
        method.attribute_text(TEXT, tokenizer=DECODER)
    assert method.attribute_text(TEXT, "the " * 24, DECODER).token_attr is not None, "the last token is not read"
    for number in (0, 2.5, True):
        with pytest.raises(ac.AttentionError, match="max_new_tokens is"):
            method.attribute_text(TEXT, tokenizer=DECODER, max_new_tokens=number)  # type: ignore[arg-type]
        with pytest.raises(ac.AttentionError, match="internal_batch_size is"):
            method.attribute_text(TEXT, "a", DECODER, internal_batch_size=number)  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="target is a string, and BertForSequenceClassification puts out no text"):
        ac.TokenRank(small.bert()).attribute_text(TEXT, "a dog", ENCODER)
    with pytest.raises(ac.AttentionError, match="target=9 cannot be selected"):
        ac.GradientAttention(small.bert()).attribute_text(TEXT, 9, ENCODER)


def test_bad_methods() -> None:
    model = small.llama()
    with pytest.raises(ac.AttentionError, match='heads="each"'):
        ac.TokenRank(model, heads="each").attribute_text(TEXT, "a dog", DECODER)
    with pytest.raises(ac.AttentionError, match='use select="row"'):
        ac.RawAttention(model, select="column").attribute_text(TEXT, "a dog", DECODER)
    with pytest.raises(ac.AttentionError, match="cannot be summed over the tokens of a word"):
        ac.MetastableStates(small.bert()).attribute_text(TEXT, tokenizer=ENCODER, words=True)
