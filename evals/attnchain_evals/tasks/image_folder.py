"""The image, or the mask, in a file, and a folder of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter
from torch import Tensor

from attnchain_evals.tasks.digest import digest, sha256
from attnchain_evals.tasks.examples import Picture
from attnchain_evals.tasks.mask_placement import pixels_of, placed
from attnchain_evals.tasks.published_files import check_folder, contents
from attnchain_interp import AttentionError
from attnchain_interp.capture import rgb_image
from attnchain_interp.reprs import counted

SUFFIXES: Final = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
MASKS: Final = ("masks", "ground_truth_mask")
"""The names of a folder of masks beside `images`; the second is that of ECSSD as published."""
MOST_PIXELS: Final = 178_000_000
MOST_ELONGATED: Final = 200
COLOURED: Final = 32
"""The difference between the channels of a pixel from which it has a colour. Greys of a JPEG differ by less."""


@final
class ImageFolder:
    """The images of a folder, read on demand, with masks if the folder holds `images/` and `masks/` (or `ground_truth_mask/`).

    An image is read as a viewer shows it (`open_image`): upright, transparent places white. A mask is an image of the same
    relative name, with any suffix, white on the object (`open_mask`). It is resized and cropped like the image.

    Args:
        folder: images at any depth, in the order of their names. Hidden ones (`._a.jpg`, `__MACOSX/a.jpg`) are left out.
        preprocess: a PIL image → the model's input (1, channel, height, width).

    Raises:
        AttentionError: no image, a link to a missing file, masks for only some of the images, two images or two masks of one
            name, or folders of images and masks further down, of which one is meant. On reading an image: a file that
            `open_image` or `open_mask` refuses, or a mask that is not of the image's proportions.
    """

    def __init__(self, folder: str | Path, preprocess: Callable[[Any], Tensor]) -> None:
        root = Path(folder)
        self._root = root / "images" if (root / "images").is_dir() else root
        below = sorted(
            str(each.parent) for name in MASKS for each in root.glob(f"*/{name}/") if (each.parent / "images").is_dir()
        )
        if self._root == root and below:
            raise AttentionError(f"{root} holds images and masks in {', '.join(below)}.", f"Pass one of them: {below[0]}.")
        self.files = images_in(self._root)
        self._preprocess = preprocess
        folders = [root / name for name in MASKS if self._root != root and (root / name).is_dir()]
        self._masks = _by_stem(_images(folders[0]), folders[0]) if folders else None
        if self._masks is not None:
            bare = [file for stem, file in _by_stem(self.files, self._root).items() if stem not in self._masks]
            if bare:
                raise AttentionError(
                    f"{len(bare)} of {len(self.files)} images have no mask; the first is {bare[0]}.",
                    "Add the masks, or pass the folder of the images alone.",
                )

    def __repr__(self) -> str:
        masks = "" if self._masks is None else ", with masks"
        return f"ImageFolder({str(self._root)!r}: {counted(len(self), 'image')}{masks})"

    @property
    def identity(self) -> dict[str, Any]:
        """The sha256 of all names and contents, and of the first image after preprocessing."""
        sha256 = files_digest((*self.files, *(self._masks or {}).values()), self._root.parent)
        return {"name": "ImageFolder", "sha256": sha256, "first": digest(self[0].image), "length": len(self)}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Picture:
        file = self.files[index]
        opened = open_image(file)
        image = pixels_of(self._preprocess, opened)
        if self._masks is None:
            return Picture(image)
        name = self._masks[_stem(file, self._root)]
        mask = open_mask(name)
        if abs(mask.width * opened.height - mask.height * opened.width) > max(*mask.size, *opened.size):
            turned = mask.size[::-1] == opened.size
            why = ": the orientation in the EXIF data turns one of them" if turned else ", so it is not the image's"
            fix = "Turn the pixels of both upright and save them without that orientation." if turned else "Put its own there."
            raise AttentionError(
                f"{name} is {mask.width} × {mask.height} and its image {opened.width} × {opened.height}{why}.", fix
            )
        return Picture(image, placed(mask, self._preprocess))


def images_in(folder: Path) -> list[Path]:
    """Returns the files of images in a folder, at any depth, in the order of their names. Hidden ones are left out."""
    check_folder(folder, "Pass the folder that holds the images.")
    files = _images(folder)
    if not files:
        raise AttentionError(
            f"{folder} holds no image ({', '.join(sorted(SUFFIXES))}), but {contents(folder)}.",
            "Pass the folder that holds the images.",
        )
    return files


def _images(folder: Path) -> list[Path]:
    named = (each for each in folder.rglob("*") if each.suffix.lower() in SUFFIXES and not hidden(each.relative_to(folder)))
    found = sorted(each for each in named if not each.is_dir())
    if lost := [file for file in found if not file.exists()]:
        raise AttentionError(f"{lost[0]} is a link to a file that is not there.", "Repair the link, or remove it.")
    return found


def files_digest(files: Iterable[Path], root: Path) -> str:
    """Returns the sha256 of the names below a folder, and of the contents."""
    found = hashlib.sha256()
    for file in files:
        found.update(file.relative_to(root).as_posix().encode() + bytes.fromhex(sha256(file)))
    return found.hexdigest()


def hidden(path: Path) -> bool:
    """Says whether a part of the path is hidden: it begins with a dot, or is the folder that macOS adds to archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _stem(file: Path, folder: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def _by_stem(files: Iterable[Path], folder: Path) -> dict[str, Path]:
    """Returns relative name without suffix → file. Two files of one such name are refused: an image has one mask."""
    found: dict[str, Path] = {}
    for file in files:
        first = found.setdefault(_stem(file, folder), file)
        if first != file:
            raise AttentionError(
                f"{first} and {file} have one name but for the suffix, and a mask belongs to the image of its name.",
                "Rename or remove one of them.",
            )
    return found


def open_image(path: str | Path) -> Any:
    """Reads the image of a file, in RGB, as a viewer shows it. See `attnchain_interp.capture.rgb_image`."""
    return _read(path, rgb_image)


def open_mask(path: str | Path) -> Any:
    """Reads the mask of a file, like an image. White, which is any grey above 127, is the object.

    A mask is refused if it is transparent somewhere, has colours, or has greys and none of them above 127. It is also refused
    if it has areas of one grey from 1 to 127 and no grey from 128 to 254: these are numbers of classes, with 255 where nobody
    labelled it. A soft edge is no area.
    """
    return _read(path, _white_on_black)


def _white_on_black(image: Any) -> Any:
    if image.has_transparency_data and image.convert("RGBA").getextrema()[3][0] < 255:
        raise AttentionError(
            "the mask is transparent in places, so it is not known what is white there.",
            "Save it without transparency, white on the object and black elsewhere.",
        )
    mask, own = rgb_image(image), np.asarray(image)
    levels = np.asarray(mask)
    colours = levels.max(2) - levels.min(2) >= COLOURED
    grey = levels[..., 0]
    dark = (grey > 0) & (grey <= 127)
    areas = dark & (maximum_filter(grey, 3) == minimum_filter(grey, 3)) if grey.max() > 127 else dark
    if colours.any():
        told = f"has colours, such as {tuple(levels[colours][0].tolist())}"
    elif areas.any() and not np.any((levels > 127) & (levels < 255)):
        told = f"has areas of the level {int(grey[areas].max())} and no level from 128 to 254, as numbers of classes have"
    elif not levels.any() and own.ndim == 2 and own.min() < own.max():
        told = f"has levels from {own.min()} to {own.max()}, which are all black in 8 bits"
    else:
        return mask
    raise AttentionError(
        f"the mask {told}, so it is not known where the object is.", "Save it with 255 on the object and 0 elsewhere."
    )


def _check_size(width: int, height: int) -> None:
    """Refuses an image that would fill the memory: as it is, or once its short side has the size that a model takes."""
    if width * height > MOST_PIXELS or max(width, height) > MOST_ELONGATED * min(width, height):
        raise AttentionError(
            f"the image has {width} × {height} pixels; {MOST_PIXELS // 10**6} million are allowed, and a long side of at most"
            f" {MOST_ELONGATED} short ones.",
            "Scale or crop it first.",
        )


def _read(path: str | Path, convert: Callable[[Any], Any]) -> Any:
    from PIL import Image

    try:
        with Image.open(path) as image:
            _check_size(*image.size)
            return convert(image)
    except FileNotFoundError:
        raise AttentionError(f"there is no file {path}.", "Pass the path of an image file.") from None
    except IsADirectoryError:
        raise AttentionError(f"{path} is a folder.", f"Pass its image files: {path}/*.jpg.") from None
    except AttentionError as error:
        raise AttentionError(f"{path}: {error}") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise AttentionError(
            f"{path} is not a readable image ({error}).", "Replace the file by a PNG, a JPEG or the like."
        ) from error
