"""Options of a run: flags over files, and each of a wrong kind is refused by its name."""

from pathlib import Path

import pytest

from attnchain_evals.bench.settings import BenchSettings
from attnchain_interp import AttentionError


def test_flags_stand_over_a_file(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('model = "bundled-encoder"\nlimit = 3\nbatch_size = "auto"\n[grid.Rollout]\nlayers = ["all", -1]\n')
    found = BenchSettings.of({"limit": 2, "methods": "Rollout"}, file)
    assert (found.model, found.limit, found.batch_size, found.methods) == ("bundled-encoder", 2, "auto", "Rollout")
    assert (found.seed, found.data, found.grid) == (0, "digits:validation", {"Rollout": {"layers": ["all", -1]}})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"models": 3}', "has the unknown option models.\nUse model, data"),
        ('{"seed": "a"}', "has seed = 'a', which does not fit: Input should be a valid integer"),
        ('{"seed": -1}', "has seed = -1, which does not fit: .* greater than or equal to 0"),
        ('{"limit": true}', "has limit = True"),
        ('{"methods": [5]}', "has methods = "),
        ('{"batch_size": "0"}', "has batch_size = '0', which does not fit: it is a whole number from 1 on, or auto"),
        ('{"grid": {"Rollout": 5}}', "has grid = 5"),
        ("[]", "holds list, not options by name"),
        ("{", "not a readable"),
        ("[" * 100_000, "not a readable"),
    ],
)
def test_a_file_of_other_kinds_is_refused(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(text)
    with pytest.raises(AttentionError, match=said):
        BenchSettings.of({}, file)
    with pytest.raises(AttentionError, match="not a readable"):
        BenchSettings.of({}, tmp_path / "none.json")


def test_a_flag_that_does_not_fit() -> None:
    with pytest.raises(AttentionError, match="there is batch_size = '1.5'"):
        BenchSettings.of({"batch_size": "1.5"})
