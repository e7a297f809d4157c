import pytest

from attnchain_evals.bench.method_settings import check_settings
from attnchain_interp import AttentionError, MultiBounce, RandomRanking, TokenRank


def test_settings_that_a_class_takes() -> None:
    check_settings("x", TokenRank, {"damping": 1, "heads": [0, 1], "layers": -1, "maps": None, "layer_weights": "late"})
    check_settings("x", RandomRanking, {})


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        (MultiBounce, {"steps": "a"}, "steps is 'a'; it must be a valid integer.\nThe default is"),
        (MultiBounce, {"steps": 1.5}, "steps is 1.5; it must be a valid integer"),
        (TokenRank, {"direction": "left"}, "direction is 'left'; it must be 'incoming' or 'outgoing'"),
        (TokenRank, {"layers": {}}, "layers is {}; it must be "),
        (RandomRanking, {"maps": "alti"}, "has no setting 'maps'.\nIts settings are seed, tokens"),
        (TokenRank, {"forward_func": None}, "has no setting 'forward_func'"),
    ],
)
def test_other_settings_are_refused_with_those_that_are_allowed(kind: type, settings: dict, said: str) -> None:
    with pytest.raises(AttentionError) as refusal:
        check_settings("x", kind, settings)
    assert said in str(refusal.value)
