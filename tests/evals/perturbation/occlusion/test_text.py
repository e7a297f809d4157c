from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import nn

import attnchain_interp as ac
from attnchain_evals import KeyValues, Perturbation, bundled_decoder, bundled_encoder, perturbation_curve
from attnchain_evals.perturbation.occlusion import (
    AttentionMask,
    MeanColour,
    PadToken,
    ReplaceToken,
    TokenDelete,
)
from attnchain_interp.attribution import LeaveOneOut

from ...summed_tokens import IDS, ORACLE, WORDS, Next, Sum, p


@pytest.mark.parametrize("occlusion", [AttentionMask(), ReplaceToken(9), PadToken(), TokenDelete(), "pad-token"])
@pytest.mark.parametrize("model", [Sum(), Next()])
def test_curves_by_hand(occlusion: Any, model: nn.Module) -> None:
    """x: 2 + 1 + 0 − 1 − 1.5 = 0.5; then without 2, without 1, without 0, without all. The first token stays."""
    options: dict[str, Any] = {"occlusion": occlusion, "features": WORDS, "fractions": 4, "target": 1}
    curve = perturbation_curve(model.eval(), IDS, ORACLE, **options)
    assert curve.fractions.tolist() == [[0, 0.25, 0.5, 0.75, 1]] * 2
    assert curve.scores[1].tolist() == pytest.approx(p(0.5, -1.5, -2.5, -2.5, -1.5))
    insertion = perturbation_curve(model, IDS, ORACLE, mode="insertion", **options)
    assert insertion.scores[0].tolist() == pytest.approx(p(-1.5, 0.5, 1.5, 1.5, 0.5))
    random = perturbation_curve(model, IDS, ORACLE, order="random", **options)
    assert random.scores[0, [0, -1]].tolist() == pytest.approx(p(0.5, -1.5))


@pytest.mark.parametrize("decoder", [True, False])
def test_the_mean_embedding_takes_the_place_of_a_token(decoder: bool) -> None:
    """Against the same model on embeddings that were replaced by hand."""
    model: Any = bundled_decoder() if decoder else bundled_encoder()
    ids = next(KeyValues("validation", 2).batches(2)).input_ids
    removed = torch.zeros(2, 2, ids.shape[1], dtype=torch.bool)
    removed[0, :, 3], removed[1, 0, 5:9] = True, True
    found = Perturbation(model, ids, "mean-embedding").without(torch.arange(ids.shape[1]).expand(2, -1), list(removed))
    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        embedded = torch.where(removed[..., None], weight.mean(0), weight[ids])
        logits = [model(inputs_embeds=each).logits for each in embedded]
    expected = torch.stack([each[:, -1] if decoder else each for each in logits], 1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ac.AttentionError, match="Sum does not tell its embedding by get_input_embeddings"):
        Perturbation(Sum().eval(), IDS, "mean-embedding")


@pytest.mark.parametrize("occlusion", [TokenDelete(), PadToken(), ReplaceToken(9)])
@pytest.mark.parametrize("kind", ["Bart", "T5"])
def test_the_end_at_which_a_class_is_read_is_not_removed(kind: str, occlusion: Any) -> None:
    """transformers said that all examples must have the same number of <eos> tokens."""
    sizes: dict[str, Any] = {"vocab_size": 30, "num_layers": 1, "encoder_layers": 1, "decoder_layers": 1, "d_model": 16}
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_heads": 2, "d_kv": 8, "eos_token_id": 2}
    sizes |= {"pad_token_id": 1, "decoder_start_token_id": 1}
    config = getattr(transformers, f"{kind}Config")(**sizes)
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config).eval()
    ids, scores = torch.tensor([[5, 6, 7, 2], [8, 9, 5, 2]]), torch.arange(8.0).view(2, 4)
    with pytest.raises(ac.AttentionError, match="reads its class at the end of a text, the token 2, and the features remove"):
        perturbation_curve(model, ids, scores, occlusion=occlusion, fractions=2)
    labels = torch.tensor([[0, 1, 2, -1]] * 2)
    assert perturbation_curve(model, ids, scores, occlusion=occlusion, features=labels, fractions=2).scores.shape == (2, 3)
    if isinstance(config, transformers.BartConfig):  # its model of language reads the last token, whichever it is
        writes, some = transformers.BartForConditionalGeneration(config).eval(), (0.5, 0.75)
        assert len(perturbation_curve(writes, ids, scores, occlusion=occlusion, ends=False, fractions=some).scores) == 2


@pytest.mark.parametrize("kind", ["Bart", "T5"])
def test_the_mean_embedding_of_a_classifier_with_a_decoder(kind: str) -> None:
    """Its decoder reads the text too, by its own embeddings, which stay: as `LeaveOneOut` removes tokens."""
    options: dict[str, Any] = {"vocab_size": 30, "num_layers": 1, "encoder_layers": 1, "decoder_layers": 1, "d_model": 16}
    options |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_heads": 2, "d_kv": 8, "num_labels": 3}
    options |= {"eos_token_id": 2, "pad_token_id": 1, "decoder_start_token_id": 1, "init_std": 0.5}
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**options)
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config).eval()
    ids = torch.tensor([[5, 6, 7, 8, 2]])
    removed = [torch.eye(5, dtype=torch.bool)[None, 1]]
    found = Perturbation(model, ids, "mean-embedding").without(torch.arange(5)[None], removed)
    scores = LeaveOneOut(model, removal="mean-embedding", score="logit")
    left_out = scores.attribute(ids, target=1, output="tokens", reading=ac.Reading(kind="encoder"))
    with torch.no_grad():
        assert float(model(ids).logits[0, 1] - found[0, 0, 1]) == pytest.approx(float(left_out[0, 1]), abs=1e-5)
    assert abs(float(left_out[0, 1])) > 1e-3
    with pytest.raises(ac.AttentionError, match="(?s)reads tokens past the attention mask.*Use MeanEmbedding"):
        Perturbation(model, ids, "attention-mask")


def test_bad_calls() -> None:
    model = Sum().eval()
    for options, message in (
        ({"occlusion": MeanColour()}, "(?s)'mean' removes no parts of texts.*occlusion=.attention-mask."),
        ({"features": "patch"}, "features='patch' are not features of a text"),
        ({"features": "word"}, 'Use "token", or a label map'),
        ({"features": WORDS[:, :4]}, r"label map is \(2, 4\) .* need \(2, 5\) of integers from -1"),
        ({"features": torch.full((2, 5), -1)}, "an example has no feature"),
        ({"features": torch.tensor([[0, 2, 2, 2, 2]] * 2)}, "has gaps"),
        ({"attributions": ORACLE[:, :4]}, '(?s)not one score per token.*Ask the method for output="tokens"'),
        ({"occlusion": "token-delete", "features": "token"}, "has no token left"),
        ({"rounding": "down"}, "rounding='down' is unknown.\nUse 'nearest' or 'up'"),
        ({"inputs": IDS.float()}, "or token numbers"),
    ):
        arguments: dict[str, Any] = {
            "inputs": IDS,
            "attributions": ORACLE,
            "occlusion": "pad-token",
            "features": WORDS,
        } | options
        with pytest.raises(ac.AttentionError, match=message):
            perturbation_curve(model, **arguments)
    with pytest.raises(ac.AttentionError, match="takes no attention_mask"):
        Perturbation(lambda ids: model(ids), IDS, "attention-mask")
    with pytest.raises(ac.AttentionError, match="reads tokens past the attention mask"):
        Perturbation(lambda ids, attention_mask=None: model(ids), torch.tensor([[1, 2, 3, 4, 5, 5]]), "attention-mask")
    with pytest.raises(ac.AttentionError, match="names no padding"):
        Perturbation(lambda ids: model(ids), IDS, "pad-token")


def test_a_function_may_take_positions() -> None:
    model = Sum().eval()

    def run(input_ids: Any, attention_mask: Any = None, position_ids: Any = None) -> Any:
        return model(input_ids, attention_mask=attention_mask)

    own, other = (perturbation_curve(each, IDS, ORACLE, occlusion="attention-mask", target=1) for each in (model, run))
    assert torch.equal(own.scores, other.scores)
