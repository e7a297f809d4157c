from types import SimpleNamespace
from typing import cast

import pytest
import torch

import attnchain_interp as ac
from attnchain_evals import KeyValues, bundled_decoder, bundled_encoder
from studies.choose_text_defaults.candidates import Seen, answer_logits, candidates, score_of


@pytest.mark.parametrize("decoder", [True, False])
def test_every_candidate_ranks_the_tokens(decoder: bool) -> None:
    model = bundled_decoder() if decoder else bundled_encoder()
    batch = next(KeyValues("validation", 2).batches(2))
    with torch.no_grad():
        target = answer_logits(model, input_ids=batch.input_ids).argmax(1)
    store = ac.capture(model, input_ids=batch.input_ids, keep="maps")
    gradients = ac.capture_gradients(model, input_ids=batch.input_ids, target=score_of(target))
    seen = Seen(model, batch, target, store, gradients)
    made = candidates(decoder)
    assert len({(one.method, one.settings) for one in made}) == len(made)
    for candidate in made:
        assert candidate.scores(seen).shape == batch.input_ids.shape, candidate.method


def test_the_score_of_a_decoder_is_read_at_the_last_token() -> None:
    logits = torch.arange(12.0).view(1, 3, 4)
    assert score_of(torch.tensor([2]))(SimpleNamespace(logits=logits)).tolist() == [10.0]
    assert answer_logits(cast("object", lambda **_: SimpleNamespace(logits=logits))).tolist() == [[8.0, 9.0, 10.0, 11.0]]
