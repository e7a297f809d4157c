"""Marks of tensors that were made of softmaxes."""

from __future__ import annotations

import torch
from torch import nn

from attnchain_adapters.softmaxes.marks import Mark, Marks

MAPS = torch.rand(2, 3, 4).softmax(-1)


def test_a_mark_says_how_many_keys_and_which_axis() -> None:
    marks = [Mark.along(MAPS, axis) for axis in (-1, 2, 1)]
    assert [(mark.keys, mark.last) for mark in marks] == [(4, True), (4, True), (3, False)]


def test_a_softmax_comes_before_the_output_of_a_gate() -> None:
    marks, gate, values = Marks(), MAPS.clone(), MAPS.clone()
    assert marks.first([values, gate]) is None
    marks[gate], marks[MAPS] = Mark(4, True, gated=True), Mark(4, True, exact=values)
    assert [marks.rank(each) for each in (MAPS, gate, values)] == [0, 1, 2]
    assert marks.first([values, gate, MAPS]) is MAPS
    assert (marks.exact(MAPS) is values, marks.exact(gate) is gate) == (True, True)
    assert None not in marks


def test_marks_keep_no_tensor_alive() -> None:
    marks = Marks()
    marks[MAPS.clone()] = Mark(4, True)
    assert not marks


def test_the_second_factor_of_a_linear_function() -> None:
    marks, maps, values = Marks(), MAPS[0], torch.rand(5, 4)
    assert marks.multiplied(maps, values) is None
    marks[maps] = Mark(4, True)
    turned = marks.multiplied(maps, values)
    assert turned is not None
    assert torch.equal(turned, values.mT)
    assert isinstance(marks.multiplied(maps, nn.Parameter(values)), nn.Parameter)
    assert marks.multiplied(values, maps) in marks, "values by a map that is transposed"
    assert marks.multiplied(values[None], maps) is None, "learnt weights out of a softmax"
