import pytest
import torch
from torch import Tensor

from attnchain_evals import KeyValues, TextExample, bundled_decoder, bundled_encoder
from attnchain_evals.bundled.text_models import DECODER_WEIGHTS, ENCODER_WEIGHTS
from attnchain_evals.tasks.key_values import FILLERS, VALUES
from studies.training.text_models import accuracy, predicted

BATCH = next(KeyValues("test", 64, seed=1).batches(64))
MODELS = pytest.mark.parametrize("bundled", [bundled_decoder, bundled_encoder])


def test_size() -> None:
    for bundled, path in ((bundled_decoder, DECODER_WEIGHTS), (bundled_encoder, ENCODER_WEIGHTS)):
        model = bundled()
        assert not model.training
        assert sum(parameter.numel() for parameter in model.parameters()) < 150_000
        assert path.stat().st_size <= 2**20


@MODELS
def test_it_looks_up_test_keys(bundled) -> None:  # type: ignore[no-untyped-def]
    assert accuracy(bundled(), KeyValues("test", 64)) >= 0.9


def answers(model, batch: TextExample, input_ids: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    logits = predicted(model, input_ids)
    return logits.argmax(1) + (VALUES.start if logits.shape[1] == len(VALUES) else 0)


@MODELS
@torch.no_grad()
def test_the_answer_stands_on_the_evidence(bundled) -> None:  # type: ignore[no-untyped-def]
    """Another value in the pair is the new answer; fillers in place of the others change nothing."""
    model = bundled()
    values = BATCH.evidence & (BATCH.input_ids >= VALUES.start)
    other = VALUES.start + (BATCH.label + 1) % len(VALUES)
    swapped = torch.where(values, other[:, None], BATCH.input_ids)
    assert float((answers(model, BATCH, swapped) == other).float().mean()) >= 0.9
    rest = BATCH.context & ~BATCH.evidence
    some = rest & (torch.rand(rest.shape, generator=torch.Generator().manual_seed(0)) < 0.5)
    kept = answers(model, BATCH, BATCH.input_ids.masked_fill(some, FILLERS.start))
    assert float((kept == BATCH.answer).float().mean()) >= 0.9
    gone = answers(model, BATCH, BATCH.input_ids.masked_fill(BATCH.evidence, FILLERS.start))
    assert float((gone == BATCH.answer).float().mean()) <= 0.2


def test_the_card_says_where_they_come_from() -> None:
    card = DECODER_WEIGHTS.with_name("CARD.md").read_text(encoding="utf-8")
    for word in ("studies.training.text_models", "KeyValues", "decoder.safetensors", "encoder.safetensors"):
        assert word in card
