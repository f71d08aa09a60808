"""Lines to records and back (docs/records.md). Every line of a board is checked, as links lose and damage bytes."""

import json
import re
import zlib
from dataclasses import dataclass, field

from pydantic import ValidationError

from .schema import ADAPTER, SCHEMA, AnyRecord

MAX_LINE = 16384  # bytes; records are far shorter, so a longer line is one that lost its newlines
_NEWER = re.compile(rb'\{"tp":(\d{1,9})[,}]')
_LINE = re.compile(rb'(\{"tp":.*),"crc":"([0-9a-f]{8})"\}', re.DOTALL)


class Torn(ValueError):
    """A damaged record: a line that was meant to be one, but is incomplete, altered or not of the schema."""


class Newer(Torn):
    """A record of a newer schema than this version understands."""


def encode(fields: dict[str, object]) -> bytes:
    """Returns a record as a line with its CRC, without a newline.

    fields: all fields of the record but "crc"."""
    # errors="replace": a file name on the host need not be valid UTF-8.
    body = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)[:-1].encode(errors="replace")
    return body + b',"crc":"%08x"}' % zlib.crc32(body)


def decode(line: bytes) -> AnyRecord | None:
    """Returns the record in a line; None for a line without one, such as printed text or a prompt.

    Raises Torn for a damaged record, and Newer for one of a newer schema."""
    line = line.strip(b"\r\n \x00")
    start = line.find(b'{"tp":')
    if start < 0:
        if b'"crc":"' in line or (line.startswith(b"{") and b'"kind"' in line):
            raise Torn("the start of a record is missing")
        return None
    match = _LINE.fullmatch(line[start:])
    if match is None or len(line) > MAX_LINE:
        raise Torn("the end of a record is missing")
    if zlib.crc32(match[1]) != int(match[2], 16):
        raise Torn("the checksum of a record is wrong")
    try:
        return ADAPTER.validate_json(line[start:])
    except ValueError as error:
        version = _NEWER.match(line, start)
        if version and int(version[1]) > SCHEMA:
            raise Newer(f"record schema {int(version[1])} is newer than this tinyprof-bridge: update it") from None
        raise Torn(f"a record does not follow the schema: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}"
    return str(error).splitlines()[0]


@dataclass
class Stream:
    """Picks one run's records out of the lines of a board, and keeps track of missing ones.

    run: id of the run; None takes that of the first record.
    last: the last record of the run; earlier ones are not kept.
    torn: number of damaged records.
    newer: why a record of a newer schema was refused, else empty.
    log: the first 1000 lines that are no records."""

    run: str | None = None
    last: AnyRecord | None = None
    torn: int = 0
    newer: str = ""
    log: list[str] = field(default_factory=list)
    _seen: bytearray = field(default_factory=bytearray)  # 1 at each sequence number + 1 that has arrived
    _own: set[int] = field(default_factory=set)  # sequence numbers below -1: records that the host adds later

    def feed(self, line: bytes) -> AnyRecord | None:
        """Returns the record in a line if it is a new one of this run, else None."""
        try:
            record = decode(line)
        except Newer as error:
            self.torn += 1
            self.newer = str(error)
            return None
        except Torn:
            self.torn += 1
            return None
        if record is None:
            text = line.decode("utf-8", "replace").strip()
            if text and len(self.log) < 1000:
                self.log.append(text[:500])
            return None
        if self.run is None:
            self.run = record.run
        at = record.seq + 1
        if record.run != self.run or record.seq in self._own or (0 <= at < len(self._seen) and self._seen[at]):
            return None
        if at < 0:
            self._own.add(record.seq)
            return record
        if at >= len(self._seen):
            self._seen.extend(bytes(at + 1 - len(self._seen)))
        self._seen[at] = 1
        self.last = record
        return record

    @property
    def gaps(self) -> list[range]:
        """Ranges of missing sequence numbers before the last record that arrived."""
        found, at = [], 1
        while (begin := self._seen.find(0, at)) >= 0:
            at = self._seen.find(1, begin)  # always found, as the last entry is 1
            found.append(range(begin - 1, at - 1))
        return found

    @property
    def complete(self) -> bool:
        """Whether the run ended without an error and no record is missing."""
        last = self.last
        ended = last is not None and last.kind == "end" and last.ok and last.records == len(self._seen) - 1
        return ended and not self.gaps
