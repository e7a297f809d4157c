"""Scores without some tokens, beside the model's own output for inputs that were changed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import KernelShap, ShapleyValueSampling
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp import attribution
from attnchain_interp.attribution import TokenAblation
from attnchain_interp.attribution.model_call import Call

from . import small_models as small

LEFT = torch.tensor([[1.0] * 7, [1, 0, 1, 1, 1, 1, 1], [1, 1, 0, 0, 1, 1, 1]])


def log_probability(logits: Tensor, target: int) -> Tensor:
    return logits.log_softmax(-1)[..., target]


def test_tokens_that_no_token_attends_to() -> None:
    model, ids = small.llama(), small.ids(1)
    found = TokenAblation(model, Call(ids, (6, 3)))(LEFT)
    logits = model(ids.expand(3, -1), attention_mask=LEFT.long()).logits[:, 6]
    assert torch.allclose(found, log_probability(logits, 3))
    assert len(found.unique()) == 3
    assert torch.allclose(TokenAblation(model, Call(ids, (6, 3)), score="probability")(LEFT), found.exp())
    assert torch.allclose(TokenAblation(model, Call(ids, (6, 3)), score="logit")(LEFT), logits[:, 3])


def test_deleted_tokens_and_the_place_of_the_target() -> None:
    model, ids = small.llama(), small.ids(1)
    rows = [ids[:, row.bool()] for row in LEFT]
    last = torch.stack([log_probability(model(row).logits[0, -1], 3) for row in rows])
    assert torch.allclose(TokenAblation(model, Call(ids, (6, 3)), "token-delete")(LEFT), last)
    assert torch.allclose(TokenAblation(model, Call(ids, (-1, 3)), "token-delete")(LEFT), last)
    inner = torch.stack([log_probability(model(row).logits[0, place], 3) for row, place in zip(rows, (2, 1, 1), strict=True)])
    assert torch.allclose(TokenAblation(model, Call(ids, (2, 3)), "token-delete")(LEFT), inner)
    with pytest.raises(ac.AttentionError, match="a text has no token left"):
        TokenAblation(model, Call(ids, (6, 3)), "token-delete")(torch.zeros(1, 7))
    with pytest.raises(ac.AttentionError, match="token 9 does not exist"):
        TokenAblation(model, Call(ids, (9, 3)), "token-delete")(LEFT)


@pytest.mark.parametrize("embedded", [False, True])
def test_tokens_with_the_mean_embedding(embedded: bool) -> None:
    model, ids = small.bert(), small.ids(1)
    weight = model.get_input_embeddings().weight.detach()
    given = weight[ids] if embedded else ids
    found = TokenAblation(model, Call(given, 2), "mean-embedding", "logit")(LEFT)
    changed = torch.where(LEFT[..., None] > 0, weight[ids], weight.mean(0))
    assert torch.allclose(found, model(inputs_embeds=changed).logits[:, 2])


@pytest.mark.parametrize("model", small.seq2seq_classifiers(), ids=lambda model: type(model).__name__)
def test_the_mean_embedding_of_an_encoder(model: Any) -> None:
    ids, encoder = small.ids(1), ac.Reading(kind="encoder")
    ids[0, -1] = model.config.eos_token_id
    found = TokenAblation(model, Call(ids, 2, options={"reading": encoder}), "mean-embedding", "logit")(LEFT)
    embedding = model.get_encoder().embed_tokens
    changed = torch.where(LEFT[..., None] > 0, embedding(ids), embedding(torch.arange(60)).mean(0))
    with embedding.register_forward_hook(lambda *_: changed):
        expected = model(ids.expand(3, -1)).logits[:, 2]
    assert torch.allclose(found, expected)
    assert len(found.unique()) == 3
    with pytest.raises(ac.AttentionError, match="of the tokens of the decoder, and inputs are others"):
        TokenAblation(model, Call(ids, 2, options={"reading": ac.Reading(kind="decoder")}), "mean-embedding")


@pytest.mark.parametrize("model", small.seq2seq_classifiers(), ids=lambda model: type(model).__name__)
def test_the_end_at_which_a_class_is_read_is_not_deleted(model: Any) -> None:
    ids = small.ids(1).clamp_min(3)
    ids[0, -1] = model.config.eos_token_id
    call = Call(ids, 2, options={"reading": ac.Reading(kind="encoder")})
    with pytest.raises(ac.AttentionError, match='removal="token-delete"'):
        TokenAblation(model, call)
    ablation = TokenAblation(model, call, "token-delete", "logit")
    assert ablation.ablated.tolist() == [0, 1, 2, 3, 4, 5]
    expected = torch.stack([model(ids[:, row.bool()]).logits[0, 2] for row in LEFT])
    assert torch.allclose(ablation(LEFT[:, :6]), expected)
    of_the_end = Call(ids, lambda output: output.encoder_last_hidden_state[:, -1].sum(1), options=call.options)
    assert TokenAblation(model, of_the_end, "token-delete").ablated.tolist() == list(range(7))
    embedded = Call(model.get_encoder().embed_tokens(ids).detach(), lambda output: output[0].sum((1, 2)))
    assert TokenAblation(model.get_encoder(), embedded, "token-delete").ablated.tolist() == list(range(7))


def test_tokens_beside_those_of_an_image() -> None:
    """All are hidden, and those of the text alone have an embedding to remove."""
    model, ids = small.llava(), torch.tensor([[1, 50, 50, 50, 50, 7, 8, 9]])
    arguments = {"pixel_values": torch.randn(1, 3, 16, 16).double()}
    call = Call(ids, (7, 3), options={"reading": ac.Reading(tower="text", arguments=arguments)})
    left = torch.ones(8, 8) - torch.eye(8)
    several = {"pixel_values": arguments["pixel_values"].expand(8, -1, -1, -1)}
    hidden = model(ids.expand(8, -1), attention_mask=left.long(), **several).logits[:, 7, 3]
    assert torch.allclose(TokenAblation(model, call, score="logit")(left), hidden)
    assert len(hidden.unique()) == 8
    ablation = TokenAblation(model, call, "mean-embedding", "logit")
    assert ablation.ablated.tolist() == [0, 5, 6, 7]
    embedding = model.get_input_embeddings()
    changed = torch.where(left[..., None] > 0, embedding(ids), embedding.weight.mean(0))
    with embedding.register_forward_hook(lambda *_: changed):
        expected = model(ids.expand(8, -1), **several).logits[[0, 5, 6, 7], 7, 3]
    assert torch.allclose(ablation(torch.ones(4, 4) - torch.eye(4)), expected)
    assert len(expected.unique()) == 4
    with pytest.raises(ac.AttentionError, match=r'(?s)needs as many tokens of an image as it has.*removal="attention-mask"'):
        TokenAblation(model, call, "token-delete")


@pytest.mark.parametrize("removal", ["attention-mask", "token-delete", "mean-embedding"])
def test_padding_stays_padding(removal: Any) -> None:
    model, ids, mask = small.bert(), small.ids(1), torch.tensor([[1, 1, 1, 1, 0, 0, 0]])
    options = {"reading": ac.Reading(arguments={"attention_mask": mask})}
    ablation = TokenAblation(model, Call(ids, 2, options=options), removal)
    assert ablation.ablated.tolist() == [0, 1, 2, 3]
    alone = TokenAblation(model, Call(ids[:, :4], 2), removal)
    assert torch.allclose(ablation(LEFT[:, :4]), alone(LEFT[:, :4]), atol=1e-7)
    by_place = TokenAblation(model, Call(ids, 2, extra=(mask,)), removal)
    assert torch.equal(by_place(LEFT[:, :4]), ablation(LEFT[:, :4]))
    assert ablation.on_tokens(torch.ones(1, 4)).tolist() == [[1, 1, 1, 1, 0, 0, 0]]


def test_patches_with_the_mean_colour() -> None:
    model, image = small.vit(), small.images(1)
    ablation = TokenAblation(model, Call(image, 1), score="logit")
    left = torch.ones(2, 6)
    left[1, 4] = 0
    changed = image.clone()
    changed[0, :, 4:8, 4:8] = image[0].mean((1, 2), keepdim=True)
    assert torch.allclose(ablation(left), model(torch.cat([image, changed]))[:, 1])
    assert ablation.on_tokens(torch.arange(1.0, 7)[None]).tolist() == [[0, 1, 2, 3, 4, 5, 6]]


def test_targets_of_other_forms() -> None:
    model, image = small.vit(), small.images(1)
    plain = TokenAblation(model, Call(image, 1))(torch.ones(1, 6))
    numbers = (torch.tensor(1), torch.tensor([1]), [torch.tensor(1)], np.int64(1), np.array([1]))
    for target in (*numbers, [1], (1,), lambda output: output.log_softmax(-1)[:, 1]):
        assert torch.allclose(TokenAblation(model, Call(image, target))(torch.ones(1, 6)), plain)
    single = nn.Sequential(model, nn.Linear(4, 1).double())
    number = TokenAblation(single, Call(image))(torch.ones(2, 6))
    assert torch.allclose(number, single(image)[:, 0].expand(2))


def test_captum_samples_shapley_values() -> None:
    """They add up to the score with all tokens less that without any."""
    model, ids = small.llama(), small.ids(1)
    ablation = TokenAblation(model, Call(ids, (6, 3)), "mean-embedding")
    expected = ablation(torch.tensor([[1.0] * 7, [0.0] * 7]))
    values = ShapleyValueSampling(ablation).attribute(torch.ones(1, 7), 0, n_samples=2, perturbations_per_eval=5)
    assert torch.allclose(values.sum().double(), expected[0] - expected[1], atol=1e-5)
    torch.manual_seed(0)
    assert KernelShap(ablation).attribute(torch.ones(1, 7), 0, n_samples=12, perturbations_per_eval=4).shape == (1, 7)


def test_refusals() -> None:
    image, ids = small.images(1), small.ids(1)
    with pytest.raises(ac.AttentionError, match="removal='mask'"):
        TokenAblation(small.llama(), Call(ids, (6, 3)), "mask")  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="score='p'"):
        TokenAblation(small.llama(), Call(ids, (6, 3)), score="p")  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="removal='attention-mask' is not of an image"):
        TokenAblation(small.vit(), Call(image, 1), "attention-mask")
    with pytest.raises(ac.AttentionError, match="removal='mean-colour' is not of a text"):
        TokenAblation(small.llama(), Call(ids, (6, 3)), "mean-colour")
    with pytest.raises(ac.AttentionError, match="target=99 cannot be selected"):
        TokenAblation(small.vit(), Call(image, 99))(torch.ones(1, 6))


@pytest.mark.parametrize("method", [attribution.LeaveOneOut, attribution.ShapleyValues, attribution.IntegratedGradients])
def test_one_logit_has_no_probability(method: Any) -> None:
    """The probability of the only logit is 1, whatever the model reads."""
    model = small.bert()
    model.classifier = nn.Linear(48, 1).double()
    with pytest.raises(ac.AttentionError, match=r"(?s)one logit.*score=\"logit\""):
        method(model).attribute(small.ids(1), 0, output="tokens")
    assert method(model, score="logit").attribute(small.ids(1), 0, output="tokens").any()
    assert method(model).attribute(small.ids(1), output="tokens").any(), "the one number itself"


@pytest.mark.parametrize("removal", ["attention-mask", "token-delete"])
def test_packed_texts_are_not_parted_beside_a_mask(removal: Any) -> None:
    """The first text is not read by the second one, so its tokens have no effect."""
    model, ids = small.llama(), small.ids(1)
    packed = {"position_ids": torch.tensor([[0, 1, 2, 3, 0, 1, 2]]), "use_cache": False}
    with pytest.raises(ac.AttentionError, match="parts packed texts by their position_ids"):
        attribution.LeaveOneOut(model, removal=removal).attribute(ids, (6, 3), model_kwargs=packed)
    method = attribution.LeaveOneOut(model, removal="mean-embedding")
    found, alone = method.attribute(ids, (6, 3), model_kwargs=packed)[0], method.attribute(ids[:, 4:], (2, 3))[0]
    assert torch.allclose(found, torch.cat([torch.zeros(4, dtype=found.dtype), alone]), atol=1e-5)


def test_a_deleted_token_does_not_part_a_text_with_positions() -> None:
    model, ids, places = small.llama(), small.ids(1), torch.arange(7)[None]
    method = attribution.LeaveOneOut(model, removal="token-delete", score="logit")
    found = method.attribute(ids, (6, 3), model_kwargs={"position_ids": places, "use_cache": False})[0]
    for token in range(6):
        left = torch.arange(7) != token
        given = {"position_ids": places[:, left], "attention_mask": torch.ones(1, 6, dtype=torch.long)}
        change = model(ids, attention_mask=torch.ones_like(ids)).logits[0, 6, 3] - model(ids[:, left], **given).logits[0, 5, 3]
        assert torch.allclose(found[token], change.to(found), atol=1e-5)


def test_a_model_without_a_mask_takes_positions() -> None:
    class Maskless(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small.llama()
            self.config = self.inner.config

        def forward(self, input_ids: Tensor, position_ids: Tensor | None = None) -> Any:
            return self.inner(input_ids, position_ids=position_ids)

    ids, places = small.ids(1), {"position_ids": torch.arange(7)[None]}
    found, plain = (
        attribution.LeaveOneOut(model, removal="token-delete").attribute(ids, (-1, 3), model_kwargs=places)
        for model in (Maskless().eval(), small.llama())
    )
    assert torch.allclose(found, plain, atol=1e-5)
