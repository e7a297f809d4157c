"""Runs `attnchain reproduce` and reads the page that it prints."""

from __future__ import annotations

from pathlib import Path

from ..cli.command_line import run


def reproduce(*arguments: str | Path) -> str:
    return run("reproduce", *arguments)


def row_of(page: str, method: str) -> list[str]:
    (line,) = (line for line in page.splitlines() if line.startswith(f"| {method} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]
