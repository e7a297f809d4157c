"""The command line, called as its user calls it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from attnchain_evals.cli import app as cli


def commands(group: Any = None, before: str = "") -> dict[str, Any]:
    """Every command by its name, such as "bench run"."""
    group = get_command(cli.app) if group is None else group
    if not hasattr(group, "commands"):
        return {before.strip(): group}
    return {name: each for own, sub in group.commands.items() for name, each in commands(sub, f"{before} {own}").items()}


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path, status: int = 1
) -> str:
    """What the program says when it exits with 1, or with 2 for wrong usage."""
    monkeypatch.setattr(sys, "argv", ["attnchain", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == status
    return capsys.readouterr().err
