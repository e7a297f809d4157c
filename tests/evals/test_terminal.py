"""The words of a command beside its result."""

from __future__ import annotations

import pytest

from attnchain_evals.terminal import did_you_mean, working


def test_near_names_are_proposed_whatever_their_case() -> None:
    assert did_you_mean("tokenrank", ["Rollout", "TokenRank"]) == " Did you mean 'TokenRank'?"
    assert did_you_mean("Zzz", ["Rollout", "TokenRank"]) == ""


def test_nothing_is_written_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with working("reading"):
        pass
    assert capsys.readouterr() == ("", "")
