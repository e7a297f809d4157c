"""Values that hold tensors are equal to themselves alone: comparing their fields would compare tensors entry by entry."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import torch

import attnchain_interp as ac

ROOT = Path(__file__).parents[1]
FILES = [path for home in ("attnchain_interp", "adapters", "evals") for path in sorted((ROOT / home).rglob("*.py"))]
HOLDS = re.compile(
    r"(?<!\[)\b(Tensor|NDArray\b.*|LayerAttention|Factors|TokenLayout|AttentionStore|AttentionGradients|Chain)\b"
)


def without_callables(annotation: str) -> str:
    return re.sub(r"Callable\[\[[^]]*\], [^]]*\]", "", annotation)


def compared(source: str) -> list[str]:
    """Returns the dataclasses with tensors whose `==` compares fields."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef):
            continue
        made = [ast.unparse(each) for each in node.decorator_list if "dataclass" in ast.unparse(each)]
        fields = [ast.unparse(part.annotation) for part in node.body if isinstance(part, ast.AnnAssign)]
        own = any(isinstance(part, ast.FunctionDef) and part.name == "__eq__" for part in node.body)
        if made and not own and "eq=False" not in made[0] and any(HOLDS.search(without_callables(field)) for field in fields):
            found.append(node.name)
    return found


def test_no_dataclass_compares_tensors() -> None:
    found = {str(path.relative_to(ROOT)): names for path in FILES if (names := compared(path.read_text("utf-8")))}
    assert found == {}, "write @dataclass(eq=False)"


def test_the_rule_sees_them() -> None:
    source = (
        "@dataclass(frozen=True)\nclass A:\n    x: Tensor | None\n\n@dataclass\nclass B:\n    x: Callable[[Tensor], Any]\n"
    )
    assert compared(source) == ["A"]


@pytest.mark.parametrize("labels", [None, [["a", "b"]]])
def test_layouts_are_compared_and_hashed(labels: list[list[str]] | None) -> None:
    layout = ac.TokenLayout(torch.zeros(1, 2, dtype=torch.uint8), labels=labels)
    other = ac.TokenLayout(torch.zeros(1, 2, dtype=torch.uint8), labels=labels)
    assert layout == layout
    assert layout != other
    assert len({layout, other}) == 2
