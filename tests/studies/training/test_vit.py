import torch

import studies.training.vit as training
from attnchain_evals import ClutteredDigits
from attnchain_evals.bundled import build_vit, fresh_vit
from studies.training.vit import Curriculum, train, window_logits


def test_a_whole_window_is_the_model_itself() -> None:
    model = build_vit().eval()
    batch = next(ClutteredDigits("train", 4, difficulty=0.5).batches(4))
    assert torch.allclose(window_logits(model, batch, 14), model(batch.image), atol=1e-5)


def test_a_whole_window_of_a_model_without_class_token_is_the_model_itself() -> None:
    shape = {"patch_size": 7, "embed_dim": 32, "depth": 1, "num_heads": 2}
    batch = next(ClutteredDigits("train", 4, difficulty=0.5).batches(4))
    for prefix in ({"class_token": False, "global_pool": "avg"}, {"reg_tokens": 4}):
        model = fresh_vit(**shape, **prefix).eval()
        assert torch.allclose(window_logits(model, batch, 8), model(batch.image), atol=1e-5)
        assert model.get_parameter("pos_embed")[0, -64:].std() > 0.2, "patches know their place from the start"
        assert window_logits(model, batch, 4).shape == (4, 10)


def test_windows_hold_the_deciding_digit() -> None:
    """What lies outside every window around the digit cannot matter; the digit does."""
    model = build_vit().eval()
    batch = next(ClutteredDigits("train", 8, difficulty=0).batches(8))  # centred: a corner is in no 7 × 7 window
    torch.manual_seed(0)
    logits = window_logits(model, batch, 7)
    corner = batch._replace(image=batch.image.clone())
    corner.image[:, :, :4, :4] = 1
    torch.manual_seed(0)
    assert torch.equal(window_logits(model, corner, 7), logits)
    erased = batch._replace(image=torch.where(batch.mask[:, None], 0.5, batch.image))
    torch.manual_seed(0)
    assert not torch.allclose(window_logits(model, erased, 7), logits)


def test_the_curriculum_rises_while_the_model_keeps_up() -> None:
    curriculum = Curriculum()
    curriculum.advance(0.5, 0.1)
    assert (curriculum.difficulty, curriculum.side) == (0, 7)
    for _ in range(40):
        curriculum.advance(0.9, 0.1)
    assert (curriculum.difficulty, curriculum.side) == (1, 14)
    coarser = Curriculum(grid=8)
    assert coarser.side == 4
    for _ in range(40):
        coarser.advance(0.9, 0.1)
    assert (coarser.difficulty, coarser.side) == (1, 8)


def test_training_writes_weights_that_load(  # type: ignore[no-untyped-def]
    tmp_path, monkeypatch
) -> None:
    """The curriculum is told how much of the planned images has been seen."""
    from safetensors.torch import load_file

    seen: list[float] = []
    monkeypatch.setattr(training, "CHECK", 1)
    monkeypatch.setattr(Curriculum, "advance", lambda _, accuracy, progress: seen.append(progress))
    shape = {"patch_size": 14, "embed_dim": 32, "depth": 1, "num_heads": 2}
    train(128, 0, tmp_path / "vit.safetensors", build=lambda: fresh_vit(**shape))
    assert seen == [0, 0.5]
    fresh_vit(**shape).load_state_dict(load_file(tmp_path / "vit.safetensors"))
