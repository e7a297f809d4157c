"""Runs `attnchain reproduce` and reads the page that it prints."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from attnchain_evals.cli import app as cli


def reproduce(*arguments: str | Path) -> str:
    result = CliRunner().invoke(cli.app, ["reproduce", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def row_of(page: str, method: str) -> list[str]:
    (line,) = (line for line in page.splitlines() if line.startswith(f"| {method} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]
