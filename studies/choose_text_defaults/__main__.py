"""Chooses settings for decoders and encoders of text: `python -m studies.choose_text_defaults`.

The score of a candidate is its faithfulness: comprehensiveness − sufficiency (ERASER, each the mean over the thresholds), the
mean over two ways to erase a token, the attention mask and a filler in its place. Each method gets the plainest candidate
within the margin of its best one on validation texts. Test texts are reported, and choose nothing. Writes
docs/text-defaults.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from studies.choose_text_defaults.page import page, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--validation", type=int, default=256)
    parser.add_argument("--test", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("docs/text-defaults.md"))
    arguments = parser.parse_args()
    size = (arguments.validation, arguments.test, arguments.seed)
    arguments.output.write_text(
        page(*size, [report("Decoder", True, *size), report("Encoder", False, *size)]), encoding="utf-8"
    )
    print(arguments.output)


if __name__ == "__main__":
    main()
