"""What a person can say to the browser: one line, one command."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

LIKED_STARS: Final = 4
"""From here on a movie was liked, as the demo's model has it; what opening one is worth without a word on it."""
HELP: Final = """\
N        open movie N; "N 5" says how many stars it got, 1 to 5
s N      skip movie N: don't offer it again
w N      why movie N is where it is
f TEXT   find titles with TEXT; f alone shows all again
h GENRE  hide a genre, or show it again; h alone lists them all
n        next page
l        learn from what was opened; u takes it back
r        forget all about me
i        what the reranker counted
q        quit"""


class Verb(Enum):
    """What to do, by the letter that asks for it."""

    OPEN = ""
    SKIP = "s"
    WHY = "w"
    FIND = "f"
    HIDE = "h"
    NEXT = "n"
    LEARN = "l"
    UNDO = "u"
    FORGET = "r"
    STATS = "i"
    QUIT = "q"
    HELP = "?"


@dataclass(frozen=True)
class Command:
    """A verb with what it takes: ``place`` on the page, from 1, or ``text`` to find or hide."""

    verb: Verb
    place: int = 0
    stars: int = LIKED_STARS
    text: str = ""


def parse(line: str) -> Command:
    """The command in ``line``; a call for help where it holds none."""
    line = line.strip()
    if found := re.fullmatch(r"([sw]?) *([0-9]{1,4})", line):
        return Command(Verb(found[1]), place=int(found[2]))
    if found := re.fullmatch(r"([0-9]{1,4}) +([1-5])", line):
        return Command(Verb.OPEN, place=int(found[1]), stars=int(found[2]))
    if found := re.fullmatch(r"([fh])(?: +(.*))?", line):
        return Command(Verb(found[1]), text=found[2] or "")
    return Command(Verb(line) if line in {*"nluriq"} else Verb.HELP)
