"""Prints the table of letters, digits and spaces in device/tinyprof/pretokenize.py, from Python's own of Unicode.

python host/tools/unicode_table.py"""

import unicodedata

OTHER, LETTER, NUMBER, SPACE = range(4)
# White_Space in Unicode's PropList.txt is category Z and these control characters
CONTROLS = "\t\n\v\f\r\x85"


def kind(character: str) -> int:
    """Returns the class of a character: OTHER, LETTER, NUMBER or SPACE."""
    category = unicodedata.category(character)
    if category[0] == "Z" or character in CONTROLS:
        return SPACE
    return {"L": LETTER, "N": NUMBER}.get(category[0], OTHER)


def runs() -> list[tuple[int, int]]:
    """Returns length and class of each run of characters from U+0000. Unassigned ones extend the run before them."""
    found: list[tuple[int, int]] = []
    before = OTHER
    for code in range(0x110000):
        if unicodedata.category(chr(code)) != "Cn":
            before = kind(chr(code))
        if found and found[-1][1] == before:
            found[-1] = found[-1][0] + 1, before
        else:
            found.append((1, before))
    return found


def number(value: int) -> bytes:
    """Returns a number in base 128, the most significant digit first; all bytes but the last have bit 7 set."""
    some = [value & 127]
    while value := value >> 7:
        some.append(value & 127 | 128)
    return bytes(reversed(some))


def table() -> bytes:
    """Returns the packed table: for each run 4 * length + class as a `number`, for the last one only its class."""
    *packed, (_, last) = runs()
    return b"".join(number(4 * length + kind_) for length, kind_ in packed) + bytes([last])


if __name__ == "__main__":
    text, width = "".join(f"\\x{byte:02x}" for byte in table()), 112
    print(f"# Unicode {unicodedata.unidata_version}")
    print("\n".join(f'    b"{text[i : i + width]}"' for i in range(0, len(text), width)))
