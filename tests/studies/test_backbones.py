import attnchain_interp as ac
from studies.backbones import TRAINED

from .comparisons import images


def test_backbones_read_their_answer_off_in_different_ways() -> None:
    for backbone in TRAINED.values():
        store = ac.capture(backbone.build().eval(), images(1))
        assert store.tokens.grid == (8, 8)
        classes = int((store.tokens.roles == ac.Role.CLASS).sum())
        assert classes == (0 if backbone.architecture.get("global_pool") == "avg" else 1)
