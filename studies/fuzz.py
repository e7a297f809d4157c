"""A long hunt for bytes that break the reading of stores: atheris changes files until they reach new code.

    pip install atheris
    python -m studies.fuzz store --minutes 60
    python -m studies.fuzz header --minutes 60

"store" changes the bytes of a whole file. "header" changes the values in the headers of one, which is JSON all the time. The
corpus stands in `.fuzzing/NAME`: every input that reached something new. The next hunt begins with it. An input that breaks
something is kept there as `crash-…`, and the command ends with its traceback.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from studies.report_pages import ROOT

NAMES = ("store", "header")


def target(name: str, instrumented: AbstractContextManager[Any]) -> tuple[Callable[[bytes], Any], list[bytes]]:
    """Returns what is called with the bytes of each input, and the first inputs.

    Args:
        name: one of `NAMES`.
        instrumented: the context in which the modules under attack are imported.
    """
    tests = sys.modules.setdefault("tests", ModuleType("tests"))  # not another `tests`, which may be installed
    tests.__path__ = [str(ROOT / "tests")]
    with instrumented:
        suite = import_module("tests.store.test_damaged_files")
    if name == "store":
        return suite.read_and_used, suite.FILES
    return suite.test_a_header_with_another_value_is_refused_or_read_whole.hypothesis.fuzz_one_input, []


def arguments(corpus: Path, minutes: float, seeds: Sequence[bytes]) -> list[str]:
    """Writes the first inputs into the corpus, and returns the arguments of libFuzzer."""
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    limits = [f"-max_total_time={round(60 * minutes)}", f"-max_len={2 * max(map(len, seeds), default=2048)}"]
    return [sys.argv[0], str(corpus), f"-artifact_prefix={corpus}/", *limits]


def main() -> None:
    """Hunts for as long as it is told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--corpus", type=Path, help=".fuzzing/NAME if not given")
    given = parser.parse_args()
    atheris: Any = import_module("atheris")
    called, seeds = target(given.name, atheris.instrument_imports(include=["attnchain_interp"]))
    corpus = given.corpus or ROOT / ".fuzzing" / given.name
    atheris.Setup(arguments(corpus, given.minutes, seeds), called)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
