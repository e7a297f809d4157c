"""Files with published names, and their JSON records. Each record knows its place, for messages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

from attnchain_interp import AttentionError

T = TypeVar("T")


def published_file(path: str | Path, names: Sequence[str]) -> Path:
    """Returns the file of a path: itself, or the one file of the folder that has one of the published names."""
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise AttentionError(f"there is no file or folder {path}.", f"Pass the path of {_or(names)}.")
    there = [path / name for name in names if (path / name).is_file()]
    if len(there) == 1:
        return there[0]
    raise AttentionError(
        f"{path} holds {contents(path)}; exactly one of {_or(names)} is wanted.", "Pass the path of the file itself."
    )


def check_folder(path: Path, fix: str) -> None:
    """Refuses a path that is not one of a folder."""
    if path.is_dir():
        return
    if path.exists():
        raise AttentionError(f"{path} is a file, not a folder.", f"{fix} An archive must be unpacked first.")
    raise AttentionError(f"there is no folder {path}.", fix)


def contents(folder: Path) -> str:
    """Returns the first names of a folder, for messages."""
    names = sorted(each.name + "/" * each.is_dir() for each in folder.iterdir())
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "nothing"


def _or(names: Sequence[str]) -> str:
    return " or ".join(", ".join(names).rsplit(", ", 1))


@final
@dataclass(frozen=True)
class Record:
    """A JSON object of a file.

    Attributes:
        place: for messages: "facts.jsonl, line 3".
        fields: name → value.
        wanted: the fields that the format has, for messages.
    """

    place: str
    fields: Mapping[str, Any]
    wanted: str

    def field(self, name: str, kind: type[T]) -> T:
        """Returns a field, checked."""
        value = self.fields.get(name)
        if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
            came = f"{name!r} of type {type(value).__name__}" if name in self.fields else f"no {name!r}"
            raise self.refusal(f"has {came}; its fields are {', '.join(map(repr, self.fields)) or 'none'}")
        return value

    def text(self, name: str) -> str:
        """Returns a field that is a text of at least one word."""
        found = self.field(name, str)
        if not found.strip():
            raise self.refusal(f"has an empty {name!r}")
        if lone := [character for character in found if "\ud800" <= character <= "\udfff"]:
            raise self.refusal(f"has {lone[0]!r} in {name!r}, which is half of a character")
        return found

    def part(self, name: str) -> Record:
        """Returns a field that is an object itself."""
        return Record(f"{self.place}, {name!r}", self.field(name, dict), self.wanted)

    def parts(self, name: str) -> list[Record]:
        """Returns the objects of a field that is a list."""
        return records_of(self.field(name, list), f"{self.place}, {name!r}", self.wanted)

    def refusal(self, cause: str) -> AttentionError:
        return AttentionError(f"{self.place} {cause}.", f"Correct it: {self.wanted}.")


def records(path: Path, wanted: str) -> list[Record]:
    """Returns the objects of a `.jsonl` file, one a line, or of the list in a `.json` file."""
    found = list(_lines(path, wanted)) if is_jsonl(path) else records_of(_parsed(path, wanted), path.name, wanted)
    if not found:
        raise AttentionError(f"{path} holds no record.", f"Pass a file of another content: {wanted}.")
    return found


def is_jsonl(path: Path) -> bool:
    """Says whether a file holds an object a line, by its name."""
    return path.suffix.lower() == ".jsonl"


def records_of(values: Any, place: str, wanted: str) -> list[Record]:
    """Returns the objects of a list."""
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise AttentionError(f"{place} is not a list of objects.", f"Correct it: {wanted}.")
    return [Record(f"{place}, entry {number}", value, wanted) for number, value in enumerate(values)]


def whole_record(path: Path, wanted: str) -> Record:
    """Returns the one object of a `.json` file."""
    value = _parsed(path, wanted)
    if not isinstance(value, dict):
        raise AttentionError(f"{path} holds a {type(value).__name__}, not an object.", f"Pass another file: {wanted}.")
    return Record(path.name, value, wanted)


def _lines(path: Path, wanted: str) -> Iterator[Record]:
    for number, line in enumerate(text_of(path).split("\n"), 1):
        place = f"{path.name}, line {number}"
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise AttentionError(f"{place} is not JSON ({error}).", f"Correct it: {wanted}.") from error
        if not isinstance(value, dict):
            raise AttentionError(f"{place} holds a {type(value).__name__}, not an object.", f"Correct it: {wanted}.")
        yield Record(place, value, wanted)


def _parsed(path: Path, wanted: str) -> Any:
    text = text_of(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AttentionError(f"{path} is not JSON ({error}).", f"Pass another file: {wanted}.") from error


def text_of(path: Path) -> str:
    """Returns the text of a file in UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise AttentionError(f"{path} cannot be read ({error}).", "Pass a file of text in UTF-8.") from error
