"""Puts the table into the READMEs, between two comments that are there already."""

from pathlib import Path

#: Where the table goes; everything between the two is replaced.
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"

#: The same table stands in both languages.
READMES = ("README.md", "README.ja.md")


class NoBlock(Exception):
    """A README has no place for the table; the message says which."""


def check(root: Path) -> None:
    """Raise NoBlock unless every README has the two comments, once each and in order."""
    for name in READMES:
        text = (root / name).read_text(encoding="utf-8")
        if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
            raise NoBlock(f"{name} needs one line {BEGIN} and, below it, one line {END}")


def write(root: Path, block: str) -> None:
    """Replace what stands between the comments. Raises NoBlock before anything is written."""
    check(root)
    for name in READMES:
        file = root / name
        before, _, rest = file.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        file.write_text(f"{before}{BEGIN}\n\n{block}\n\n{END}{after}", encoding="utf-8")
