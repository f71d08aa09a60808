"""Lines to records and back. What a board sends is not to be trusted: every line is checked."""

import json
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import ValidationError

from .schema import ADAPTER, SCHEMA, AnyRecord

MAX_LINE = 16384
_NEWER = re.compile(rb'\{"tp":(\d{1,9})[,}]')
_LINE = re.compile(rb'(\{"tp":.*),"crc":"([0-9a-f]{8})"\}', re.DOTALL)


class Torn(ValueError):
    """A line that was meant to be a record and is not whole."""


def encode(fields: dict[str, object]) -> bytes:
    """A record line without its newline, as the board writes it. Names of files need not be UTF-8."""
    body = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)[:-1].encode(errors="replace")
    return body + b',"crc":"%08x"}' % zlib.crc32(body)


def decode(line: bytes) -> AnyRecord | None:
    """The record in a line, None for a line that is none (a print, a prompt).

    Raises Torn for a damaged record, and for one that this version does not understand."""
    line = line.strip(b"\r\n \x00")
    start = line.find(b'{"tp":')
    if start < 0:
        if b'"crc":"' in line or (line.startswith(b"{") and b'"kind"' in line):
            raise Torn("the begin of a record is missing")
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
            raise Torn(f"schema {int(version[1])} is newer than this tinyprof-bridge: update it") from None
        raise Torn(f"a record does not follow the schema: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}"
    return str(error).splitlines()[0]


@dataclass
class Stream:
    """Records of one run as they arrive, with what went wrong on the way.

    run: take only this run's records; None takes the first that comes."""

    run: str | None = None
    records: list[AnyRecord] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)

    def feed(self, line: bytes) -> AnyRecord | None:
        """Takes one line; returns its record if it is a new one of this run."""
        try:
            record = decode(line)
        except Torn as error:
            self.torn.append(str(error))
            return None
        if record is None:
            text = line.decode("utf-8", "replace").strip()
            if text and len(self.log) < 1000:
                self.log.append(text[:500])
            return None
        if self.run is None:
            self.run = record.run
        if record.run != self.run or record.seq in self._seen:
            return None
        self._seen.add(record.seq)
        self.records.append(record)
        return record

    def feed_all(self, lines: Iterable[bytes]) -> "Stream":
        for line in lines:
            self.feed(line)
        return self

    @property
    def missing(self) -> list[int]:
        """Sequence numbers that should be there and are not; the end's absence is told apart."""
        numbers = [n for n in self._seen if n >= 0]
        expected = range(max(numbers) + 1) if numbers else range(0)
        return [n for n in expected if n not in self._seen]

    @property
    def complete(self) -> bool:
        """Whether the run ended well and nothing of it is missing."""
        last = self.records[-1] if self.records else None
        return (
            last is not None
            and last.kind == "end"
            and last.ok
            and last.records == len([n for n in self._seen if n >= 0])
            and not self.missing
        )
