"""The samples of one test, stored as columns of numbers because a long run has millions of them."""

from array import array
from collections.abc import Iterator
from itertools import groupby

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


class Samples:
    """Units of each token of each repetition, in order of arrival. Exact below 2^53."""

    def __init__(self) -> None:
        # One entry per record: its repetition, its first token, and the index of its first unit. _begins has one more
        # entry, the end of the last record.
        self._reps, self._ats, self._begins = array("q"), array("q"), array("q", [0])
        self._units = array("d")

    def add(self, rep: int, at: int, units: list[int]) -> None:
        """Adds the units of one record.

        rep: repetition.
        at: token of the first unit."""
        if units:
            self._reps.append(rep)
            self._ats.append(at)
            self._units.extend(units)
            self._begins.append(len(self._units))

    def __len__(self) -> int:
        return len(self._units)

    @property
    def units(self) -> Floats:
        """All units, in order of arrival. While this view is in use, add() fails."""
        return np.asarray(self._units)

    @property
    def positions(self) -> Whole:
        """The token of each of the units, as an index in its repetition."""
        begins = np.asarray(self._begins)
        positions: Whole = np.repeat(np.asarray(self._ats) - begins[:-1], np.diff(begins))
        positions += np.arange(len(self))
        return positions

    def totals(self, wanted: int) -> Floats:
        """Returns the sum of units of each complete repetition, in order of repetition.

        wanted: the number of units in a complete repetition; others are left out."""
        if not len(self):
            return np.array([])
        begins = np.asarray(self._begins)
        _, record = np.unique(np.asarray(self._reps), return_inverse=True)
        sums = np.bincount(record, np.add.reduceat(self.units, begins[:-1]))
        whole: Floats = sums[np.bincount(record, np.diff(begins)) == wanted]
        return whole

    def repetitions(self) -> Iterator[list[tuple[int, float]]]:
        """Yields for each repetition, in order, its list of (token, units), in order of tokens."""
        order = np.lexsort((self._ats, self._reps)).tolist()
        for _, records in groupby(order, self._reps.__getitem__):
            yield [
                (token, units)
                for i in records
                for token, units in enumerate(self._units[self._begins[i] : self._begins[i + 1]], self._ats[i])
            ]
