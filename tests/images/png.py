"""A PNG writer of its own, for kinds that Pillow cannot write. From the PNG specification."""

import struct
import zlib

import numpy as np


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour_type: int, rows: list[bytes]) -> bytes:
    """Return a file of rows that are packed already, each without a filter."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def grey_png(levels: np.ndarray, depth: int) -> bytes:
    """Return a grey PNG of `depth` bits, its width a multiple of 8."""
    bits = np.unpackbits(levels[..., np.newaxis].astype(np.uint8), axis=-1)[..., -depth:]
    rows = [np.packbits(row.reshape(-1)).tobytes() for row in bits]
    return png(levels.shape[1], levels.shape[0], depth, 0, rows)


def colour_png_16(pixels: np.ndarray) -> bytes:
    """Return a 16-bit PNG of (height, width, 2, 3 or 4) pixels: grey+alpha, RGB, RGBA."""
    colour_type = {2: 4, 3: 2, 4: 6}[pixels.shape[-1]]
    rows = [row.astype(">u2").tobytes() for row in pixels]
    return png(pixels.shape[1], pixels.shape[0], 16, colour_type, rows)
