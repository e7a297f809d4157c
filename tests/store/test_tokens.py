import pytest
import torch

import attnchain_interp as ac
from attnchain_interp import Role, TokenLayout


def layout() -> TokenLayout:
    return TokenLayout.image(2, (2, 3), prefix=[Role.CLASS, Role.REGISTER, Role.REGISTER])


def test_image_layout() -> None:
    tokens = layout()
    assert (len(tokens), tokens.batch, tokens.grid) == (9, 2, (2, 3))
    assert tokens.class_token == 0
    assert tokens.class_tokens.tolist() == [0, 0]
    assert tokens.center == 3 + 1 * 3 + 1
    assert tokens.select(None)[0].tolist() == [False] * 3 + [True] * 6
    assert tokens.select("all").all()
    assert tokens.select(["class", "register"])[1].tolist() == [True] * 3 + [False] * 6
    assert tokens.select([0, -1])[0].nonzero()[:, 0].tolist() == [0, 8]


def test_scores_go_onto_the_grid() -> None:
    scores = torch.arange(9.0).expand(2, 4, 9)
    assert torch.equal(layout().to_grid(scores)[1, 3], torch.tensor([[3.0, 4, 5], [6, 7, 8]]))


def test_padding_is_never_selected() -> None:
    tokens = TokenLayout.text(torch.tensor([[1, 1, 0], [1, 1, 1]]), labels=[["a", "b", ""], ["c", "d", "e"]])
    assert tokens.select(None).tolist() == [[True, True, False], [True, True, True]]
    assert tokens.select([0, 2]).tolist() == [[True, False, False], [True, False, True]]
    assert tokens.mask.tolist() == [[True, True, False], [True, True, True]]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TokenLayout(torch.zeros(3)), r"shape \(3,\)"),
        (lambda: TokenLayout(torch.full((1, 2), 9)), "codes outside"),
        (lambda: TokenLayout.text(torch.zeros(1, 2)), "only padding"),
        (lambda: TokenLayout(torch.full((1, 5), int(Role.PATCH)), grid=(2, 2)), "4 places but there are .5. patch"),
        (lambda: TokenLayout(torch.tensor([[2, 3], [3, 2]]), grid=(1, 1)), "same positions"),
        (lambda: TokenLayout.text(torch.ones(1, 2), labels=[["a"]]), "1 lists of 2 strings"),
        (lambda: layout().select("word"), "'word' is not a token role.\nThe roles are 'class', 'register'"),
        (lambda: layout().select("text"), "selects nothing in an example.\nThis layout holds class, patch, register"),
        (lambda: layout().select([9]), "token 9 does not exist; there are 9"),
        (lambda: TokenLayout.text(torch.ones(1, 2)).center, "needs an image grid"),
        (lambda: TokenLayout.text(labels=[["a"], ["b", "c"]]), "labels"),
        (lambda: TokenLayout.text(torch.ones(1, 2)).class_token, "0 class tokens"),
        (lambda: TokenLayout(torch.tensor([[0, 3], [0, 0]])).class_tokens, "an example of this layout has 2 class tokens"),
        (
            lambda: TokenLayout(torch.tensor([[5, 0], [0, 3]])).class_token,
            r"(?s)at positions \[0, 1\] \(padding on the left\).*Use class_tokens",
        ),
        (lambda: TokenLayout.text(torch.ones(1, 2)).to_grid(torch.ones(1, 2)), 'output="tokens"'),
        (lambda: layout().to_grid(torch.ones(2, 6)), r"scores has shape \(2, 6\); it must be \(…, 9\)"),
    ],
)
def test_bad_layouts_and_selections(build: object, message: str) -> None:
    with pytest.raises(ac.AttentionError, match=message):
        build()  # type: ignore[operator]


def test_a_member_of_role_is_no_position() -> None:
    layout = TokenLayout.image(2, (2, 3), prefix=[Role.CLASS, Role.REGISTER])
    for role in (Role.CLASS, Role.REGISTER, Role.PATCH):
        for tokens in (role, [role], [role.name.lower()]):
            assert torch.equal(layout.select(tokens), layout.roles == role)
    assert layout.select([Role.CLASS, -1])[0].tolist() == [True, *[False] * 6, True]


def test_one_example_stands_for_a_batch() -> None:
    image = TokenLayout.image(grid=(2, 3), class_token=True)
    assert (image.batch, len(image), image.grid, image.class_token) == (1, 7, (2, 3), 0)
    assert image.fitted(4, 7).roles.tolist() == image.roles.tolist() * 4
    assert image.fitted(1, 9) is image, "its size is checked where it is used"
    two = TokenLayout.text(torch.ones(2, 3))
    assert two.fitted(4, 3) is two
    labelled = TokenLayout.text(torch.ones(1, 2), labels=[["a", "b"]]).fitted(2, 2)
    assert labelled.labels == [["a", "b"], ["a", "b"]]


def test_labels_alone_are_those_of_text_tokens() -> None:
    found = TokenLayout.text(labels=[["a", "b"], ["c", "d"]])
    assert found.labels == [["a", "b"], ["c", "d"]]
    assert found.roles.tolist() == [[int(Role.TEXT)] * 2] * 2
    assert not found.any_length


def test_a_text_of_any_length() -> None:
    anything = TokenLayout.text()
    assert anything.any_length
    assert anything.fitted(2, 5).roles.tolist() == [[int(Role.TEXT)] * 5] * 2
    assert not anything.fitted(2, 5).any_length


@pytest.mark.parametrize(
    "layout",
    [
        TokenLayout.image(grid=(2, 3)),
        TokenLayout.image(grid=(2, 3), class_token=True),
        TokenLayout.image(1, (2, 3), prefix=[Role.CLASS, Role.REGISTER]),
        TokenLayout.text(),
    ],
)
def test_a_layout_is_written_as_code(layout: TokenLayout) -> None:
    made = eval(f"ac.{layout.written}", {"ac": ac})  # noqa: S307 - of our own making
    assert torch.equal(made.roles, layout.roles)
    assert made.grid == layout.grid


def test_a_layout_with_other_roles_is_the_users_own() -> None:
    assert TokenLayout.image(1, (2, 3), suffix=[Role.SPECIAL]).written == "TokenLayout(your_roles)"
