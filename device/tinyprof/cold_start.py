"""Making a board cold again: its caches emptied, or behind light sleep."""

from .errors import ModelError

# Armv7-M and Armv8-M: what caches there are, the size of a line, cache maintenance
_CLIDR = 0xE000ED78
_CTR = 0xE000ED7C
_ICIALLU = 0xE000EF50
_DCCIMVAC = 0xE000EF70


def ways_of(names, source):
    """[(name, what makes the board cold)], each called with the buffers that a cache may hold. source: of the
    counter; an emulator's has no caches.

    Raises ModelError for one that the board does not have."""
    found = []
    for name in names:
        if name == "sleep":
            try:
                from machine import lightsleep
            except ImportError:
                raise ModelError("this board has no light sleep: leave out sleep")
            found.append((name, lambda buffers: lightsleep(10)))
        elif name == "cache":
            found.append((name, _cache(source)))
        else:
            raise ModelError("no such cold start: %s; there are cache and sleep" % name)
    return found


def _cache(source):
    from .events import here, is_here
    from .registers import CORES, FLUSHES

    machine, core = here(CORES)
    if source[:3] == "hw-":
        from machine import mem32

        if core in ("m7", "m55", "m85") and mem32[_CLIDR] & 7:
            return lambda buffers: by_address(mem32, buffers)
        for where, address, value in FLUSHES:
            if is_here(where, machine, core):
                return lambda buffers: _write(mem32, address, value)
    raise ModelError("this board has no cache that can be emptied: leave out cache")


def _write(memory, address, value):
    memory[address] |= value
    memory[address]  # an RP2040 answers when it is done


def by_address(memory, buffers):
    """Cleans and invalidates each line of the buffers, and invalidates all of the instruction cache."""
    from uctypes import addressof

    line = 4 << (memory[_CTR] >> 16 & 15)
    for buffer in buffers:
        begin = addressof(buffer)
        for address in range(begin & -line, begin + len(buffer), line):
            memory[_DCCIMVAC] = address
    memory[_ICIALLU] = 0
