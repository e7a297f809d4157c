"""The embeddings of a model's tokens."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp.attribution import embeddings
from attnchain_interp.attribution.embeddings import changed_embeddings, embedding_of, mean_embedding

from . import small_models as small


def test_embeddings_are_changed_while_open() -> None:
    model, ids = small.bert(), small.ids()
    zeros = torch.zeros(2, 7, 48).double()
    embedding = embedding_of(model)
    with changed_embeddings(embedding, lambda given: given * 0):
        assert torch.equal(model(ids).logits, model(inputs_embeds=zeros).logits)
    assert not torch.allclose(model(ids).logits, model(inputs_embeds=zeros).logits)
    with pytest.raises(ValueError, match="stop"), changed_embeddings(embedding, lambda given: given * 0):
        raise ValueError("stop")
    with pytest.raises(ac.AttentionError, match="ran no Embedding"), changed_embeddings(embedding, lambda given: given * 0):
        model(inputs_embeds=zeros)
    assert not embedding._forward_hooks


def test_the_mean_of_a_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    embedding = nn.Embedding(10, 4)
    monkeypatch.setattr(embeddings, "_ROWS", 3)
    assert torch.allclose(mean_embedding(embedding, torch.device("cpu")), embedding.weight.detach().mean(0))
    coarse = nn.Embedding(40_000, 1, dtype=torch.bfloat16)
    coarse.weight.data[:] = 1
    assert mean_embedding(coarse, torch.device("cpu")).item() == 1, "a sum in 16 bits stops at 256"


@pytest.mark.parametrize("model", small.seq2seq_classifiers(), ids=lambda model: type(model).__name__)
def test_the_embedding_of_an_encoder_is_its_own(model: Any) -> None:
    """It is another module than `get_input_embeddings` of the whole."""
    ids, own = small.ids(1), []
    ids[0, -1] = model.config.eos_token_id
    model.get_encoder().embed_tokens.register_forward_hook(lambda *given: own.append(given[-1]))
    found = []
    with changed_embeddings(embedding_of(model), lambda given: found.append(given) or given):
        model(ids)
    assert torch.equal(found[0], own[0])
    assert embedding_of(model.get_encoder()) is embedding_of(model)


@pytest.mark.parametrize("name", ["T5EncoderModel", "MT5EncoderModel", "UMT5EncoderModel", "T5ForTokenClassification"])
def test_an_encoder_whose_named_embedding_does_not_run(name: str) -> None:
    """Those of T5's kind share the weight of `get_input_embeddings` with the module that runs."""
    kind = getattr(transformers, name)
    sizes = {"vocab_size": 60, "d_model": 48, "d_kv": 16, "d_ff": 32, "num_layers": 2, "num_heads": 3}
    model, ids = kind(kind.config_class(**sizes)).double().eval(), small.ids()

    def read(output: Any) -> Tensor:
        return (output.logits if "logits" in output else output.last_hidden_state)[:, 4, 1]

    relevance = ac.AttnLRP(model).attribute(ids, read, output="tokens")
    embedded = model.get_input_embeddings()(ids).detach()
    assert torch.allclose(relevance, ac.AttnLRP(model).attribute(embedded, read, output="tokens"), atol=1e-12)
    assert relevance.any(1).all()
    drops = ac.LeaveOneOut(model, removal="mean-embedding").attribute(ids, read, output="tokens")
    assert drops.any(1).all()


@pytest.mark.parametrize("model", small.seq2seq_classifiers(), ids=lambda model: type(model).__name__)
def test_the_tokens_of_a_decoder_stay_where_it_shares_the_module(model: Any) -> None:
    """`resize_token_embeddings` makes the encoder's and the decoder's one."""
    ids, shared = small.ids(1), copy.deepcopy(model)
    ids[0, -1] = model.config.eos_token_id
    shared.set_input_embeddings(shared.get_encoder().embed_tokens)
    assert shared.get_encoder().embed_tokens is shared.get_decoder().embed_tokens
    with changed_embeddings(embedding_of(model), lambda given: given * 0.5):
        wanted = model(ids).logits
    with changed_embeddings(embedding_of(shared), lambda given: given * 0.5):
        assert torch.allclose(shared(ids).logits, wanted)


@pytest.mark.parametrize("name", ["CLIP", "Siglip"])
def test_the_embedding_of_a_tower(name: str) -> None:
    model = small.two_towers(name)
    assert embedding_of(model, "text") is model.text_model.embeddings.token_embedding
    with pytest.raises(ac.AttentionError, match=f"{name}VisionModel has no get_input_embeddings of token numbers"):
        embedding_of(model, "vision")


def test_a_model_without_embeddings_is_refused() -> None:
    with pytest.raises(ac.AttentionError, match="Linear has no get_input_embeddings"):
        embedding_of(nn.Linear(2, 2))


def test_get_encoder_of_a_module_of_ones_own_is_not_called() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = small.bert()
            self.config = self.bert.config

        def get_input_embeddings(self) -> nn.Module:
            return self.bert.get_input_embeddings()

        def get_encoder(self, name: str) -> nn.Module:
            return getattr(self, name)

    model = Own()
    assert embedding_of(model) is model.bert.get_input_embeddings()
