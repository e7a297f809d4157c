from attnchain_evals import ClutteredDigits, bundled_vit
from attnchain_evals.bundled import WEIGHTS
from studies.training.vit import accuracy


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
    for word in ("studies.training.vit", "load_digits", "accuracy", "seed"):
        assert word in card
