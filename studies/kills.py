"""Kills of `attnchain bench run` under `accelerate launch`: two processes are killed at random moments, and called again.

    python -m studies.kills --kills 20

A run goes on after each kill until it ends, and its rows are then compared, digit by digit, with those of one process that was
left in peace. After that the next run begins, in a new folder. A third of the kills comes while processes start, the others
after a random number of rows. Half of the kills takes the launcher and both processes, the other half one process alone.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from studies.report_pages import ROOT

METHODS = "RandomRanking,Rollout,TokenRank,GradientAttention"
RUN = ["-m", "attnchain_evals.cli.app", "bench", "run", "--limit", "24", "--batch-size", "2", "--methods", METHODS]
RUN += ["--metrics", "deletion/mean,pointing-game"]
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
LAUNCH += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def rows(folder: Path) -> list[str]:
    """Returns the lines of all tables of a folder, in order, each once."""
    return sorted({line for file in folder.glob("rows-*.csv") for line in file.read_text().splitlines()})


def killed(command: Sequence[str], folder: Path, goal: int, chance: random.Random) -> bool:
    """Starts the command and kills it at a random moment. Returns False where it ended before.

    Args:
        command: the words, without the folder, which is added.
        folder: of the run.
        goal: how many rows the whole run has.
        chance: of the moment and of the processes that die.

    Raises:
        RuntimeError: the command ended by itself with an error.
    """
    begun = len(rows(folder))
    more = chance.randrange(1, max(2, goal - begun)) if chance.random() < 2 / 3 else 0
    process = subprocess.Popen([*command, str(folder)], cwd=ROOT, env=_environment(), start_new_session=True, **QUIET)  # type: ignore[call-overload] # noqa: S603
    while process.poll() is None and more and len(rows(folder)) < begun + more:
        time.sleep(0.02)
    try:
        process.wait(chance.uniform(0, 0.2 if more else 8))
    except subprocess.TimeoutExpired:
        _kill(process, alone=chance.random() < 0.5)
        return True
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} {folder} ended with {process.returncode}.")
    return False


def _kill(process: subprocess.Popen[bytes], alone: bool) -> None:
    """Kills the launcher and its processes, or one process, whose launcher then ends the other."""
    workers = [int(word) for word in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    for victim in workers[-1:] if alone and workers else [process.pid, *workers]:
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(victim, signal.SIGKILL)
    process.wait()


def attack(kills: int, folder: Path, run: Sequence[str], launch: Sequence[str]) -> tuple[int, int]:
    """Returns how often a run was killed, and how many of the kills a run with the same rows survived.

    Args:
        kills: how many.
        folder: for the runs.
        run: the command in one process, without its folder.
        launch: the command that is killed.
    """
    chance = random.Random(0)  # noqa: S311
    subprocess.run([*run, str(folder / "alone")], cwd=ROOT, env=_environment(), check=True, **QUIET)  # type: ignore[call-overload] # noqa: S603
    expected, tried, survived, number = rows(folder / "alone"), 0, 0, 0
    while tried < kills:
        own, number, ended = 0, number + 1, False
        while tried + own < kills and not ended:
            ended = not killed(launch, folder / str(number), len(expected), chance)
            own += not ended
        if not ended:
            subprocess.run([*launch, str(folder / str(number))], cwd=ROOT, env=_environment(), check=True, **QUIET)  # type: ignore[call-overload] # noqa: S603
        same = rows(folder / str(number)) == expected
        tried, survived = tried + own, survived + own * same
        print(f"run {number}: {own} kills, {'the same' if same else 'other'} rows", flush=True)
    return tried, survived


def _environment() -> dict[str, str]:
    path = os.pathsep.join(str(ROOT / part) for part in ("", "adapters", "evals"))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def main(words: Sequence[str] | None = None) -> tuple[int, int]:
    """Kills runs of the bundled model, prints and returns how many of the kills were survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    kills = parser.parse_args(words).kills
    with tempfile.TemporaryDirectory() as folder:
        alone, shared = ([sys.executable, *command, "--output"] for command in (RUN, [*LAUNCH, *RUN]))
        tried, survived = attack(kills, Path(folder), alone, shared)
    print(f"{survived} of {tried} kills: the same rows")
    return tried, survived


if __name__ == "__main__":
    main()
