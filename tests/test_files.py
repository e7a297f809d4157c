import resource
from pathlib import Path

import pytest

from attnchain_interp import AttentionError
from attnchain_interp.files import whole, write_text


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    write_text(path, "first")

    def fail_midway() -> None:
        with whole(path) as partial:
            partial.write_text("half of the sec")
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
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
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["table.md"]
