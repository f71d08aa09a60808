"""Cold starts: functions that empty a board's caches or send it to light sleep."""

from .errors import ModelError

# Armv7-M and Armv8-M: which caches there are, the size of a line, cache maintenance
_CLIDR = 0xE000ED78
_CTR = 0xE000ED7C
_ICIALLU = 0xE000EF50
_DCCIMVAC = 0xE000EF70


def ways_of(names, source):
    """[(name, function that makes the board cold)]. Each function takes the buffers that a cache may hold.

    names: "sleep", "cache"; source: of the counters.Counter, since emulators have no caches.

    Raises ModelError for what the board does not have."""
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
            raise ModelError("no cold start '%s': choose cache or sleep" % name)
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
    memory[address]  # an RP2040 answers when the flush is done


def by_address(memory, buffers):
    """Cleans and invalidates the lines of the buffers in the data cache, and the whole instruction cache.

    memory: machine.mem32; buffers: bytes-like objects."""
    from uctypes import addressof

    line = 4 << (memory[_CTR] >> 16 & 15)
    for buffer in buffers:
        begin = addressof(buffer)
        for address in range(begin & -line, begin + len(buffer), line):
            memory[_DCCIMVAC] = address
    memory[_ICIALLU] = 0
