"""`attnchain bench`: run, ls, report."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnchain_interp import AttentionError

from .command_line import refused, run


def test_the_commands(tmp_path: Path) -> None:
    config = tmp_path / "choices.toml"
    config.write_text(
        'metrics = "acc,miou"\nmethods = ["RandomRanking"]\nlimit = 9\n'
        '[grid.MultiBounce]\nsteps = [1, 2]\nlayers = ["all", [-2, -1]]\n'
    )
    out = tmp_path / "out"
    printed = run("bench", "run", "--config", config, "--limit", "3", "--sanity", "2", "-o", out)
    assert printed.split() == [str(out / f"report.{kind}") for kind in ("md", "json", "html")]
    report = run("bench", "report", out, "--baseline", "RandomRanking")
    assert "limited to 3 examples" in report
    assert "| minus RandomRanking |" in report
    assert "| MultiBounce | acc ↑ | difference from the first | miou ↑ | difference from the first |" in report
    assert "| steps=2 |" in report
    assert "| layers=[-2, -1] |" in report
    assert "| MultiBounce(steps=2, layers=[-2, -1]) |" in report
    assert "| RandomRanking | 1 failed |" in report
    assert "Passes none of the sanity checks: RandomRanking." in report
    before = (out / "rows-00000.csv").read_bytes()
    run("bench", "run", "--config", config, "--limit", "3", "-o", out)
    assert (out / "rows-00000.csv").read_bytes() == before
    with pytest.raises(AttentionError, match="holds another run .*limit: 4, not 3"):
        run("bench", "run", "--config", config, "--limit", "4", "-o", out)


def test_the_lists_and_what_is_refused(tmp_path: Path) -> None:
    assert "TokenRank" in run("bench", "ls", "methods").split("\n")
    assert "deletion/mean" in run("bench", "ls", "metrics").split("\n")
    assert "folder:PATH" in run("bench", "ls", "data")
    fitting = run("bench", "ls", "methods", "--model", "bundled-encoder").split("\n")
    assert "LeGrad" in fitting
    assert "centre prior" not in fitting
    assert "evidence-ap" in run("bench", "ls", "metrics", "--model", "bundled-encoder").split("\n")
    assert "acc" not in run("bench", "ls", "metrics", "--model", "bundled-encoder").split("\n")
    bad = tmp_path / "bad.toml"
    bad.write_text("models = 3")
    with pytest.raises(AttentionError, match="has the unknown option models.\nUse model"):
        run("bench", "run", "--config", bad, "-o", tmp_path / "x")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--data", "nope", "data 'nope' is unknown"),
        ("--data", "folder:", "data 'folder:' is unknown"),
        ("--data", "folder:none", "there is no file or folder none"),
        ("--methods", "TokenRank(damping=2)", "damping is 2"),
        ("--methods", "MultiBounce(steps=-1)", "steps is -1"),
    ],
)
def test_names_and_settings_are_checked_before_a_model_is_loaded(
    option: str, value: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["bench", "run", "--model", "hf:/none", option, value, "--output", "out"]
    error = refused(monkeypatch, capsys, *words, status=2)
    assert said in error
    assert error.startswith("error: "), "nothing is announced"
    assert not list(tmp_path.iterdir())
