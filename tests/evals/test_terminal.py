"""The words of a command beside its result."""

from __future__ import annotations

import io
import re
import sys

import pytest

from attnchain_evals.terminal import announce, did_you_mean, progress, working


def test_near_names_are_proposed_whatever_their_case() -> None:
    assert did_you_mean("tokenrank", ["Rollout", "TokenRank"]) == " Did you mean 'TokenRank'?"
    assert did_you_mean("Zzz", ["Rollout", "TokenRank"]) == ""


def test_a_name_that_is_no_text_is_announced(capsys: pytest.CaptureFixture[str]) -> None:
    announce("the model \ud800")
    assert capsys.readouterr().err == "the model \\ud800\n"


def test_nothing_is_written_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with working("reading"):
        assert list(progress([1, 2], "steps")) == [1, 2]
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    shown.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", shown)
    assert list(progress([1, 2], "steps")) == [1, 2]
    assert "steps:   0%" in shown.getvalue()
    assert re.search(r"\[\d\d:\d\d<", shown.getvalue())


def test_what_is_announced_stands_beside_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    announce("scores, in out/")
    assert capsys.readouterr() == ("", "scores, in out/\n")
