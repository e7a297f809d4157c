"""Hidden tokens are not read, and the others keep their places: of eager and fused attention, in the core and in evals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_evals import Perturbation
from attnchain_interp.attribution import HiddenTokens, LeaveOneOut, TokenAblation
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

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.config = small.bert().bert, small.bert().config

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.inner(input_ids, attention_mask=attention_mask).last_hidden_state.mean(1)


def test_a_text_without_any_token_is_that_of_fused_attention() -> None:
    """An eager softmax over hidden keys alone is their mean."""
    fused, eager = small.llama("sdpa").float(), small.llama("eager").float()
    assert torch.allclose(scores(eager), scores(fused), atol=1e-4)
    assert torch.allclose(scores(eager, 3), scores(fused, 3), atol=1e-4)
    assert torch.allclose(logits(eager), logits(fused), atol=1e-4)
    assert {module.config._attn_implementation for module in eager.modules() if hasattr(module, "config")} == {"eager"}


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


def test_a_model_that_must_see_a_token_is_refused_where_none_is_left() -> None:
    """MPT has no fused attention, and a softmax over hidden keys alone."""
    torch.manual_seed(0)
    config = transformers.MptConfig(vocab_size=60, d_model=48, n_heads=3, n_layers=2, max_seq_len=32)
    model: Any = transformers.MptForCausalLM(config).eval()
    hidden = HiddenTokens(model, lambda rows, **named: model(rows, **named).logits[:, -1], small.ids(1), 6)
    rows = small.ids(1).expand(3, -1)
    assert torch.allclose(hidden(rows, LEFT[:3] > 0), model(rows, attention_mask=LEFT[:3].long()).logits[:, -1], atol=1e-6)
    with pytest.raises(ac.AttentionError, match="MptForCausalLM reads hidden tokens where no other is left"):
        hidden(small.ids(1).expand(4, -1), LEFT > 0)
