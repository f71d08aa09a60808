"""Prints the table of letters, digits and spaces in device/tinyprof/words.py, from Python's own of Unicode.

python host/unicode_table.py"""

import unicodedata

OTHER, LETTER, NUMBER, SPACE = range(4)
# White_Space of Unicode's PropList.txt: category Z, and these
CONTROLS = "\t\n\v\f\r\x85"


def kind(character: str) -> int:
    category = unicodedata.category(character)
    if category[0] == "Z" or character in CONTROLS:
        return SPACE
    return {"L": LETTER, "N": NUMBER}.get(category[0], OTHER)


def runs() -> list[tuple[int, int, int]]:
    """First and last character and kind of each run beyond ASCII but OTHER; what is not assigned goes with what is
    before it."""
    found: list[tuple[int, int, int]] = []
    before = OTHER
    for code in range(128, 0x110000):
        if unicodedata.category(chr(code)) != "Cn":
            before = kind(chr(code))
        if before == OTHER:
            continue
        if found and found[-1][1] == code - 1 and found[-1][2] == before:
            found[-1] = found[-1][0], code, before
        else:
            found.append((code, code, before))
    return found


def number(value: int) -> bytes:
    """Seven bits a byte, the lowest first, with the eighth on all but the last."""
    some = bytearray()
    while value > 127:
        some.append(value & 127 | 128)
        value >>= 7
    return bytes([*some, value])


def table() -> bytes:
    """Of each run how many characters lie before it, and three times its length less one, plus its kind less one."""
    packed, at = b"", 128
    for first, last, kind_ in runs():
        packed += number(first - at) + number(3 * (last - first) + kind_ - 1)
        at = last + 1
    return packed


if __name__ == "__main__":
    text, width = "".join(f"\\x{byte:02x}" for byte in table()), 112
    print(f"# Unicode {unicodedata.unidata_version}")
    print("\n".join(f'    b"{text[i : i + width]}"' for i in range(0, len(text), width)))
