"""Hidden tokens are not read, and the others keep their places: of eager and fused attention, in the core and in evals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_evals import Perturbation
from attnchain_interp.attribution import HiddenTokens, LeaveOneOut, ShapleyValues, TokenAblation
from attnchain_interp.attribution.model_call import Call

from . import small_models as small

SIZES: dict[str, Any] = {"vocab_size": 60, "hidden_size": 48, "num_attention_heads": 3, "num_hidden_layers": 2}
OPT: dict[str, Any] = {**SIZES, "ffn_dim": 32, "word_embed_proj_dim": 48, "max_position_embeddings": 32}
LEFT = torch.tensor([[1.0] * 7, [1, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0]])


def scores(model: Any, position: int = 6) -> Tensor:
    return TokenAblation(model, Call(small.ids(1), (position, 3)), "attention-mask", "logit")(LEFT)


def logits(model: Any) -> Tensor:
    removed = list((LEFT == 0)[:, None])
    ids = small.ids(1)
    return Perturbation(model, ids, "attention-mask").without(torch.arange(7)[None], removed)[0]


class Pooled(nn.Module):
    """The mean over all tokens of a model's last layer, also of those that the mask hides."""

    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        self.inner, self.config = small.bert().bert, small.bert().config
        self.bias = bias * torch.eye(48)[2]

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.inner(input_ids, attention_mask=attention_mask).last_hidden_state.mean(1) + self.bias


class ByHand(nn.Module):
    """Attention whose softmax is exponentials over their sum."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(60, 48)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.embedding(input_ids)
        logits = (x @ x.mT).masked_fill(attention_mask[:, None] == 0, -1e9)
        weights = (logits - logits.amax(-1, keepdim=True)).exp()
        return x + weights / weights.sum(-1, keepdim=True) @ x


def test_a_text_without_any_token_is_that_of_fused_attention() -> None:
    """An eager softmax over hidden keys alone is their mean."""
    fused, eager = small.llama("sdpa").float(), small.llama("eager").float()
    assert torch.allclose(scores(eager), scores(fused), atol=1e-4)
    assert torch.allclose(scores(eager, 3), scores(fused, 3), atol=1e-4)
    assert torch.allclose(logits(eager), logits(fused), atol=1e-4)
    assert {module.config._attn_implementation for module in eager.modules() if hasattr(module, "config")} == {"eager"}


@pytest.mark.parametrize("name", ["Mistral", "Gemma3"])
def test_a_sliding_window_without_any_token_is_that_of_fused_attention(name: str) -> None:
    """The window of three holds hidden tokens alone, while others are left before it."""
    found, logit = [], []
    for implementation in ("sdpa", "eager"):
        torch.manual_seed(0)
        text = {"Gemma3": "Text"}.get(name, "")
        sizes: dict[str, Any] = {**SIZES, "num_key_value_heads": 3, "head_dim": 16, "intermediate_size": 32}
        sizes |= {"sliding_window": 3, "attn_implementation": implementation}
        config = getattr(transformers, f"{name}{text}Config")(**sizes)
        model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
        left, ids = torch.tensor([[1.0, 1, 1, 0, 0, 0, 0]]), small.ids(1)
        found.append(TokenAblation(model, Call(ids, (6, 3)), "attention-mask", "logit")(left))
        logit.append(Perturbation(model, ids, "attention-mask").without(torch.arange(7)[None], [left == 0])[0])
    assert torch.allclose(*found, rtol=1e-4)
    assert torch.allclose(*logit, atol=1e-5)


def test_an_encoder_decoder_is_read_at_a_place_of_its_decoder() -> None:
    found = []
    for implementation in ("sdpa", "eager"):
        torch.manual_seed(0)
        sides = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads", "ffn_dim")}
        sizes: dict[str, Any] = {"vocab_size": 60, "d_model": 48, "attn_implementation": implementation, **sides}
        model = transformers.BartForConditionalGeneration(transformers.BartConfig(**sizes)).eval()
        options = {"decoder_input_ids": small.ids(1, 9), "reading": ac.Reading(kind="encoder")}
        found.append(TokenAblation(model, Call(small.ids(1), (8, 3), options=options), score="logit")(LEFT))
    assert torch.allclose(*found, atol=1e-5)
    assert len(found[0].unique()) == 4


def test_the_places_of_other_tokens_stay() -> None:
    """OPT takes the cumulative sum of the mask for positions."""
    torch.manual_seed(0)
    model: Any = transformers.OPTForCausalLM(transformers.OPTConfig(**OPT)).eval()
    positions = torch.arange(7).expand(4, -1)
    with torch.no_grad():
        expected = model(small.ids(1).expand(4, -1), attention_mask=LEFT.long(), position_ids=positions).logits[:, -1]
    assert torch.allclose(logits(model), expected, atol=1e-5)
    assert torch.allclose(scores(model), expected[:, 3], atol=1e-5)
    counted = model(small.ids(1), attention_mask=LEFT[1:2].long()).logits[0, -1]
    assert not torch.allclose(counted, expected[1], atol=1e-2)


class Adapted(nn.Module):
    """Passes its arguments on to the model that it adapts, as PEFT's modules do."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def get_base_model(self) -> Any:
        return self.model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)


def test_the_places_in_an_adapted_model_stay() -> None:
    """Its own forward names no positions."""
    torch.manual_seed(0)
    model: Any = transformers.OPTForCausalLM(transformers.OPTConfig(**OPT)).eval()
    assert torch.equal(scores(Adapted(model)), scores(model))


@pytest.mark.parametrize(("mask", "hidden"), [([1, 1], [0]), ([1], [0]), ([0, 0, 0, 1, 1], [3]), ([0, 1, 1, 1, 1, 1], [1, 3])])
def test_the_places_in_short_and_in_padded_texts_stay(mask: list[int], hidden: list[int]) -> None:
    torch.manual_seed(0)
    model: Any = transformers.OPTForCausalLM(transformers.OPTConfig(**OPT)).eval()
    ids, own = small.ids(1, len(mask)), torch.tensor([mask])
    left = own.clone()
    left[:, hidden] = 0
    run = HiddenTokens(model, lambda rows, **named: model(rows, **named).logits[:, -1], ids, -1, own)
    with torch.no_grad():
        places = (own.cumsum(1) - 1).clamp_min(0)
        expected = model(ids, attention_mask=left, position_ids=places).logits[:, -1]
        counted = model(ids, attention_mask=left).logits[:, -1]
    assert torch.allclose(run(ids, left > 0), expected, atol=1e-5)
    assert not torch.allclose(counted, expected, atol=1e-3)


def test_configurations_keep_their_attention() -> None:
    """An eager parent hands its attention on to the configurations inside it."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 48, "intermediate_size": 32, "num_attention_heads": 3, "num_hidden_layers": 2}
    image: dict[str, Any] = {"model_type": "clip_vision_model", "image_size": 8, "patch_size": 4, **sizes}
    text: dict[str, Any] = {"model_type": "llama", "vocab_size": 60, **sizes}
    own = {"": "eager", "text_config": "eager", "vision_config": "sdpa"}
    config = transformers.LlavaConfig(vision_config=image, text_config=text, image_token_index=59)
    model: Any = transformers.LlavaForConditionalGeneration._from_config(config, attn_implementation=own).eval()

    def implementations() -> list[str]:
        configs = model.config, model.config.text_config, model.config.vision_config
        return [each._attn_implementation for each in configs]

    assert implementations() == ["eager", "eager", "sdpa"]
    hidden = HiddenTokens(model, lambda rows, **named: model(rows, **named).logits[:, -1], small.ids(1), 6)
    found = hidden(small.ids(1).expand(4, -1), LEFT > 0)
    assert implementations() == ["eager", "eager", "sdpa"]
    model.set_attn_implementation("sdpa")
    assert torch.allclose(found, hidden(small.ids(1).expand(4, -1), LEFT > 0), atol=1e-5)


@pytest.mark.parametrize("falcon", [False, True])
def test_models_that_count_visible_tokens_are_refused_by_name(falcon: bool) -> None:
    model: Any = (
        transformers.FalconForCausalLM(transformers.FalconConfig(**SIZES, alibi=True))
        if falcon
        else transformers.BloomForCausalLM(transformers.BloomConfig(vocab_size=60, hidden_size=48, n_head=3, n_layer=2))
    )
    for run in (scores, logits):
        with pytest.raises(ac.AttentionError, match=f"{type(model).__name__} counts the tokens that its mask shows"):
            run(model.eval())


def test_outputs_that_read_past_the_mask_are_refused() -> None:
    ids = small.ids(2)
    with pytest.raises(ac.AttentionError, match="(?s)Pooled reads tokens past the attention mask.*token-delete"):
        LeaveOneOut(Pooled().eval()).attribute(ids, 2)
    with pytest.raises(ac.AttentionError, match="(?s)Pooled reads tokens past the attention mask.*TokenDelete"):
        Perturbation(Pooled().eval(), ids, "attention-mask")


@pytest.mark.parametrize("name", ["Llama", "GPTNeoX"])
def test_a_classifier_finds_the_end_of_a_padded_text(name: str) -> None:
    """It reads the last token that is not padding, by the token numbers."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**SIZES, intermediate_size=32, pad_token_id=0, num_labels=3)
    model = getattr(transformers, f"{name}ForSequenceClassification")(config).double().eval()
    ids, mask = small.ids(1), torch.tensor([[1, 1, 1, 1, 1, 0, 0]])
    found = LeaveOneOut(model).attribute(ids * mask, 1, model_kwargs={"attention_mask": mask})
    assert torch.allclose(found[:, :5], LeaveOneOut(model).attribute(ids[:, :5], 1))
    assert not found[:, 5:].any()


def test_a_probability_that_does_not_move_hides_no_reading() -> None:
    """A confident classifier: all its probabilities are 1, and its logits differ."""
    model = Pooled(bias=40.0).eval()
    with torch.no_grad():
        assert model(small.ids(2)).softmax(1)[:, 2].tolist() == [1, 1]
    for score in ("probability", "log-probability"):
        with pytest.raises(ac.AttentionError, match="reads tokens past the attention mask"):
            TokenAblation(model, Call(small.ids(1), 2), "attention-mask", score)


def test_capped_logits_of_eager_attention() -> None:
    """Gemma 2 has no fused attention in transformers, for its cap; the greatest cap leaves the logits as they are."""
    sizes: dict[str, Any] = {**SIZES, "num_key_value_heads": 3, "head_dim": 16, "intermediate_size": 32}
    models = []
    for cap, implementation in ((1e4, "eager"), (None, "sdpa")):
        torch.manual_seed(0)
        config = transformers.Gemma2Config(**sizes, attn_logit_softcapping=cap)
        models.append(transformers.Gemma2ForCausalLM(config).eval())
        models[-1].config._attn_implementation = implementation
    assert torch.allclose(scores(models[0]), scores(models[1]), atol=1e-4)
    assert torch.allclose(logits(models[0]), logits(models[1]), atol=1e-4)
    assert len(scores(models[0]).unique()) == 4
    assert ShapleyValues(models[0], n_samples=1).attribute(small.ids(1), (6, 3)).isfinite().all()


def test_mpt_reads_nothing_where_no_token_is_left() -> None:
    """MPT has no fused attention."""
    torch.manual_seed(0)
    config = transformers.MptConfig(vocab_size=60, d_model=48, n_heads=3, n_layers=2, max_seq_len=32)
    model: Any = transformers.MptForCausalLM(config).eval()
    hidden = HiddenTokens(model, lambda rows, **named: model(rows, **named).logits[:, -1], small.ids(1), 6)
    rows, others = small.ids(1).expand(4, -1), small.ids(1).clone()
    found = hidden(rows, LEFT > 0)
    assert torch.allclose(found[:3], model(rows[:3], attention_mask=LEFT[:3].long()).logits[:, -1], atol=1e-6)
    others[:, :6] = 9
    assert torch.allclose(hidden(others, LEFT[3:] > 0), found[3:], atol=1e-5)


def test_a_model_that_must_see_a_token_is_refused_where_none_is_left() -> None:
    model = ByHand().eval()
    hidden = HiddenTokens(model, lambda rows, **named: model(rows, **named)[:, -1], small.ids(1), 6)
    assert torch.equal(hidden(small.ids(1), LEFT[1:2] > 0), model(small.ids(1), LEFT[1:2])[:, -1])
    with pytest.raises(ac.AttentionError, match="ByHand reads hidden tokens where no other is left"):
        hidden(small.ids(1).expand(4, -1), LEFT > 0)


def test_a_mean_over_no_token_is_refused() -> None:
    """The class of these models is read off the mean over the tokens that the mask shows."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {**SIZES, "num_key_value_heads": 3, "intermediate_size": 32, "num_labels": 3, "pad_token_id": 0}
    model: Any = transformers.EuroBertForSequenceClassification(
        transformers.EuroBertConfig(classifier_pooling="mean", **sizes)
    ).eval()
    ids, shown = small.ids(1), torch.ones(7, 7, dtype=torch.long) - torch.eye(7, dtype=torch.long)
    left_out = model(ids.expand(7, -1), attention_mask=shown).logits[:, 1]
    found = LeaveOneOut(model, score="logit").attribute(ids, 1)
    assert torch.allclose(found[0], model(ids).logits[:, 1] - left_out, atol=1e-5)
    for refused, text in ((ShapleyValues(model, n_samples=2), ids), (LeaveOneOut(model), ids[:, :1])):
        with pytest.raises(ac.AttentionError, match='(?s)gives NaN where no token is left.*Use removal="mean-embedding".$'):
            refused.attribute(text, 1)
    assert ShapleyValues(model, n_samples=2, removal="mean-embedding").attribute(ids, 1).isfinite().all()
