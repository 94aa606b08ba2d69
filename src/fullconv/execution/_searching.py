"""Which steps it pays to search covers for: a search that finds nothing is time lost."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

# Covers between the ends are searched for where the better end takes so many times as long as that: a
# search in vain makes a step a twentieth longer at most.
TIMES = 20
# Until one has been timed: the seconds of a search.
SEARCH_S = 5e-3
# After searches in vain, one in so many steps that are alike is searched for at least.
RAREST = 32


@dataclass(slots=True)
class _Luck:
    """How searches for steps of one kind went.

    Attributes:
        pause: Steps that are not searched for after the last search.
        waiting: How many of those there still are.
    """

    pause: int = 0
    waiting: int = 0


class Searches:
    """Says for which steps covers are searched for, and learns from what comes of it.

    Steps of one kind follow each other in training. After a search in vain the next step of that kind is
    left out, then two, four and so on; a search that finds a cheaper cover starts from anew.
    """

    def __init__(self) -> None:
        self.seconds = SEARCH_S
        self._lucks: dict[Hashable, _Luck] = {}

    def could_pay(self, seconds: float) -> bool:
        """Return whether to think of a search for a step that takes so many seconds as it is."""
        return seconds > TIMES * self.seconds

    def pays(self, kind: Hashable) -> bool:
        """Return whether to search for a step of a kind."""
        luck = self._lucks.setdefault(kind, _Luck())
        if luck.waiting:
            luck.waiting -= 1
            return False
        return True

    def note(self, kind: Hashable, seconds: float, saved: float) -> None:
        """Note how long a search took, and the seconds that its cover saves beside what there was."""
        self.seconds = seconds
        luck = self._lucks[kind]
        luck.pause = 0 if saved > seconds else min(2 * luck.pause + 1, RAREST)
        luck.waiting = luck.pause
