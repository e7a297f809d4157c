import pytest
import torch

from attnchain_evals import KeyValues
from attnchain_evals.bundled.text_models import build_decoder, build_encoder
from studies.training.text_models import predicted, thinned, train, wanted

BATCH = next(KeyValues("test", 64, seed=1).batches(64))


def test_thinning_leaves_the_evidence_and_the_query() -> None:
    data = next(KeyValues("train", 256).batches(256))
    ids, mask = thinned(data, torch.Generator().manual_seed(0))
    stays = data.evidence | ~data.context
    assert torch.equal(ids[stays], data.input_ids[stays])
    assert bool(mask[stays].all())
    assert 0.05 < float((ids != data.input_ids).float().mean()) < 0.3
    assert 0.05 < float((mask == 0).float().mean()) < 0.3


@pytest.mark.parametrize("build", [build_decoder, build_encoder])
def test_training_writes_weights_that_load(build, tmp_path) -> None:  # type: ignore[no-untyped-def]
    from safetensors.torch import load_model

    torch.manual_seed(0)
    train(build(), 2, seed=0, out=tmp_path / "weights.safetensors")
    model = build()
    load_model(model, tmp_path / "weights.safetensors")
    assert wanted(predicted(model.eval(), BATCH.input_ids), BATCH).shape == (64,)
