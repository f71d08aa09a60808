"""The samples of one test: columns of numbers, since a long run has millions."""

from array import array
from collections.abc import Iterator
from itertools import groupby

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


class Samples:
    """Units by repetition and token, in the order in which they came. Exact below 2^53."""

    def __init__(self) -> None:
        # one entry a record: its repetition, its first token, where its units begin; and where the last end
        self._reps, self._ats, self._begins = array("q"), array("q"), array("q", [0])
        self._units = array("d")

    def add(self, rep: int, at: int, units: list[int]) -> None:
        if units:
            self._reps.append(rep)
            self._ats.append(at)
            self._units.extend(units)
            self._begins.append(len(self._units))

    def __len__(self) -> int:
        return len(self._units)

    @property
    def units(self) -> Floats:
        """All, in the order in which they came. Nothing can be added while this view is held."""
        return np.asarray(self._units)

    @property
    def positions(self) -> Whole:
        """The token of each of the units."""
        begins = np.asarray(self._begins)
        positions: Whole = np.repeat(np.asarray(self._ats) - begins[:-1], np.diff(begins))
        positions += np.arange(len(self))
        return positions

    def totals(self, wanted: int) -> Floats:
        """The sum of each repetition that has so many units, by their order."""
        if not len(self):
            return np.array([])
        begins = np.asarray(self._begins)
        _, record = np.unique(np.asarray(self._reps), return_inverse=True)
        sums = np.bincount(record, np.add.reduceat(self.units, begins[:-1]))
        whole: Floats = sums[np.bincount(record, np.diff(begins)) == wanted]
        return whole

    def repetitions(self) -> Iterator[list[tuple[int, float]]]:
        """(token, units) of each repetition, by their order, tokens in order."""
        order = np.lexsort((self._ats, self._reps)).tolist()
        for _, records in groupby(order, self._reps.__getitem__):
            yield [
                (token, units)
                for i in records
                for token, units in enumerate(self._units[self._begins[i] : self._begins[i + 1]], self._ats[i])
            ]
