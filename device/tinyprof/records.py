"""Writes records: one JSON object per line, numbered, with the CRC-32 of its own text.

    {"tp":1,"run":"5f3a","seq":7,"kind":"samples",...,"crc":"1c291ca3"}

The CRC is over the bytes before ',"crc"'. Records are written at once, so they need little RAM."""

import json

import _tinyprof

SCHEMA = 1
CHUNK = 16  # values in one record at most, so that lines stay short


class Records:
    """Writes the records of a run.

    run: id of the run; out: function of a line without its end, default print; count: records so far."""

    def __init__(self, run, out=None):
        self._head = '{"tp":%d,"run":"%s","seq":' % (SCHEMA, run)
        self._out = out or print
        self.count = 0

    def write(self, kind, **fields):
        """Writes a record of a kind with these fields."""
        body = json.dumps(fields, separators=(",", ":"))[1:-1]
        line = '%s%d,"kind":"%s"%s%s' % (self._head, self.count, kind, "," if fields else "", body)
        self._out('%s,"crc":"%s"}' % (line, _tinyprof.crc32_hex(line)))
        self.count += 1

    def chunks(self, kind, values, **fields):
        """Writes a long sequence of values as records of CHUNK values each. Field at is the place of the first."""
        for at in range(0, len(values), CHUNK):
            self.write(kind, at=at, v=list(values[at : at + CHUNK]), **fields)

    def end(self, error=None):
        """Writes the last record. error: the exception that ended the run early, None if it is complete."""
        if error is None:
            self.write("end", records=self.count + 1, ok=True)
        else:
            self.write("end", records=self.count + 1, ok=False, error=type(error).__name__, reason=str(error))
