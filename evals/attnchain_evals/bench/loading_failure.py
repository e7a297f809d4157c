"""The reason why a model was not loaded: its name, the network, or the files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attnchain_evals.terminal import did_you_mean

if TYPE_CHECKING:
    from attnchain_interp import AttentionError

# classes of errors by name, since each framework has libraries of its own for the network
_UNREACHED: Final = {
    *("ConnectError", "ConnectTimeout", "ConnectionError", "LocalEntryNotFoundError", "OfflineModeIsEnabled"),
    *("ProxyError", "ReadTimeout", "TimeoutError", "gaierror"),
}
_UNKNOWN: Final = {"HFValidationError", "RepositoryNotFoundError"}


def loading_failure(framework: str, name: str, error: BaseException, known: Iterable[str]) -> AttentionError:
    """Returns the error to raise where a framework could not load a model: a misspelt name is told from an unreachable hub.

    Names that are `known` without the network, or are in the framework's cache, are proposed.
    """
    from attnchain_interp import AttentionError

    classes = {kind.__name__ for each in _chain(error) for kind in type(each).__mro__}
    said, known = " ".join(str(error).split()).rstrip("."), list(known)
    near = "" if name in known else did_you_mean(name, known)
    if name.startswith((".", "/", "~")) and not Path(name).is_dir():
        return AttentionError(f"there is no folder {name}.", "Give the folder of `save_pretrained`, or a name on the hub.")
    if "GatedRepoError" in classes:
        return AttentionError(
            f"the hub has {name!r}, and gives it only to those who asked for it ({said}).",
            "Ask there and log in: hf auth login.",
        )
    if classes & _UNKNOWN or "unknown model" in said.casefold():
        return AttentionError(f"{framework} knows no model {name!r} ({said}).", f"Check the name.{near}")
    if classes & _UNREACHED or ("URLError" in classes and "HTTPError" not in classes):
        return AttentionError(
            f"{framework} could not reach the hub, and {name!r} is neither in its cache nor a folder ({said}).",
            f"Connect to the network, or give a folder.{near}",
        )
    return AttentionError(
        f"{framework} could not load {name!r}: {said}.", f"Check the name, and the files of the model.{near}"
    )


def cached_names(cache: Path | None = None) -> list[str]:
    """Returns the names of the models in the cache of the hub: a folder, or the usual one when None."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        return sorted(repo.repo_id for repo in scan_cache_dir(cache).repos if repo.repo_type == "model")
    except CacheNotFound:
        return []


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
