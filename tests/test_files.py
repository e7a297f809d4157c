import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from attnchain_interp import AttentionError
from attnchain_interp.files import as_path, whole, write_text


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    write_text(path, "first")

    def fail_midway() -> None:
        with whole(path) as partial:
            partial.write_text("half of the sec")
            raise OSError("No space left on device")

    with pytest.raises(AttentionError, match=r"table.md could not be written \(No space"):
        fail_midway()
    assert path.read_text() == "first"
    write_text(path, "second")
    assert path.read_text() == "second"
    assert [file.name for file in tmp_path.iterdir()] == ["table.md"]


def test_no_room_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    write_text(path, "first")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(AttentionError, match=r"table.md could not be written \("):
            write_text(path, "second" * 100)
        with pytest.raises(AttentionError, match=r"table.md could not be written \(.*I/O error"), whole(path) as partial:
            save_file({"a": torch.zeros(100)}, partial)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["table.md"]


@pytest.fixture
def umask() -> Iterator[int]:
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def test_the_umask_rules_a_new_file_and_an_earlier_one_keeps_its_mode(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "table.md"
    write_text(path, "first")
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    path.chmod(0o600)
    with whole(path) as partial:
        partial.unlink()  # some writers replace the file
        partial.write_text("second")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "table.md", tmp_path / "there" / "target"
    link.symlink_to(target)
    for text in ("first", "second"):
        write_text(link, text)
        assert link.is_symlink()
        assert target.read_text() == text
    assert [file.name for file in target.parent.iterdir()] == ["target"]


def test_places_that_are_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "kept").write_text("kept")
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != "kept")  # root may write everywhere
    for name in ("loop", "pipe", "kept", "missing/table.md", "kept/table.md", "", "x" * 300):
        before = {file.name for file in tmp_path.iterdir()}
        with pytest.raises(AttentionError, match="could not be written"):
            write_text(tmp_path / name, "text")
        assert {file.name for file in tmp_path.iterdir()} == before
    with pytest.raises(AttentionError, match="cannot hold its text"):
        write_text(tmp_path / "table.md", "\ud800")
    with pytest.raises(AttentionError, match="not a path of a file"):
        as_path(5)


def test_what_a_killed_writer_left_is_swept_and_a_living_one_is_not(tmp_path: Path) -> None:
    if not (writer := os.fork()):
        with whole(tmp_path / "table.md") as partial:
            partial.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(writer, 0)
    (left,) = tmp_path.rglob("table.md")
    assert left.read_text() == "half"
    with whole(tmp_path / "living.md") as partial:
        assert not left.parent.exists()
        write_text(tmp_path / "table.md", "whole")
        partial.write_text("alive")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["living.md", "table.md"]
