"""Finds damage in a JPEG's compressed data that its decoder ignores silently.

A decoder turns any bits into some image. A crashed copy or a bad disk leaves a hole: zero bytes up
to the end of the file, or a block of them inside. Both can be detected without
decoding.
"""

from typing import NamedTuple

HOLE = 1024  # zero bytes in a row
END = b"\xff\xd9"  # marker
FRAMES = range(0xC0, 0xD0)  # markers that start a frame, except for NO_FRAMES
NO_FRAMES = (0xC4, 0xC8, 0xCC)
HUFFMAN_TABLES, SCAN = 0xC4, 0xDA
SEQUENTIAL = (0xC0, 0xC1)  # baseline and extended: each block is coded at once
WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD9))


class _Header(NamedTuple):
    """What a file states before its compressed data."""

    scan: int  # offset of the data, bytes
    frame: int  # marker of the frame, 0 if there is none
    components: int
    first_symbols: dict[int, int]  # AC table -> what a code of zeros stands for
    tables: list[int]  # AC table of each component of the first scan


def damage(data: bytes) -> str | None:
    """Look for damage in the compressed data of a JPEG file.

    Bytes after the end marker do not matter. A hole inside is damage if a code of zeros stands for
    a coefficient of the first component, as in the standard tables: 1,024 zero bytes would be
    thousands of coefficients of -1 in a row. In files with optimized tables such a code may stand
    for "nothing more in this block", so that zeros are a flat area. There, and in progressive
    files, holes inside are not judged.

    Args:
        data: The whole file.

    Returns:
        What is wrong; None if no damage can be recognised.
    """
    header = _read_header(data)
    if header is None:
        return None
    if data.rfind(END, header.scan) < 0:
        return "its end is missing"
    hole = data.find(bytes(HOLE), header.scan)
    # The data of a scan cannot contain the end marker: what follows the first one is not the image
    if hole < 0 or data.find(END, header.scan, hole) >= 0:
        return None
    if header.frame not in SEQUENTIAL or len(header.tables) != header.components:
        return None
    size_of_first_symbol = header.first_symbols.get(header.tables[0], 0) & 0x0F
    if not size_of_first_symbol:
        return None
    return f"a hole of zeros in the compressed data at byte {hole}"


def _read_header(data: bytes) -> _Header | None:
    """Read up to the first scan; None for a header that its decoder will refuse."""
    at, frame, components = 2, 0, 0
    first_symbols: dict[int, int] = {}
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in WITHOUT_LENGTH:
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        content = data[at + 4 : at + 2 + length]
        if length < 2 or len(content) != length - 2:
            return None
        at += 2 + length
        if marker in FRAMES and marker not in NO_FRAMES and len(content) > 5:
            frame, components = marker, content[5]
        elif marker == HUFFMAN_TABLES:
            first_symbols.update(_first_symbols(content))
        elif marker == SCAN and content and len(content) > 2 * content[0]:
            tables = [content[2 + 2 * i] & 0x0F for i in range(content[0])]
            return _Header(at, frame, components, first_symbols, tables)
    return None


def _first_symbols(content: bytes) -> dict[int, int]:
    """Read the first symbol, whose code is all zeros, of each AC table of a segment, by number."""
    symbols, at = {}, 0
    while at + 18 <= len(content):
        kind, number = content[at] >> 4, content[at] & 0x0F
        if kind == 1:
            symbols[number] = content[at + 17]
        at += 17 + sum(content[at + 1 : at + 17])
    return symbols
