import torch

from attnchain_evals import ClutteredDigits, bundled_vit
from attnchain_evals.bundled import WEIGHTS, build_vit
from attnchain_evals.bundled.train import Curriculum, accuracy, train, window_logits


def test_size() -> None:
    model = bundled_vit()
    assert not model.training
    assert 0.6e6 < sum(parameter.numel() for parameter in model.parameters()) < 0.8e6
    assert WEIGHTS.stat().st_size <= 4 * 2**20
    assert model.patch_embed.grid_size == (14, 14)


def test_it_reads_test_digits_at_full_difficulty() -> None:
    assert accuracy(bundled_vit(), ClutteredDigits("test", 256)) >= 0.9


def test_the_card_says_where_it_comes_from() -> None:
    card = WEIGHTS.with_name("CARD.md").read_text(encoding="utf-8")
    for word in ("attnchain_evals.bundled.train", "load_digits", "accuracy", "seed"):
        assert word in card


def test_a_whole_window_is_the_model_itself() -> None:
    model = build_vit().eval()
    batch = next(ClutteredDigits("train", 4, difficulty=0.5).batches(4))
    assert torch.allclose(window_logits(model, batch, 14), model(batch.image), atol=1e-5)


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


def test_training_writes_weights_that_load(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from safetensors.torch import load_file

    train(images=128, seed=0, out=tmp_path / "vit.safetensors")
    build_vit().load_state_dict(load_file(tmp_path / "vit.safetensors"))
