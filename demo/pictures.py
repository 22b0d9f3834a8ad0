"""Pictures: a small PNG out of a sentence, and what kind of image a data URL holds."""

import base64
import binascii
import struct
import zlib

from demo.conversation import Attachment

WIDTH, HEIGHT = 320, 200
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def draw(subject: str) -> bytes:
    """A PNG file, 320 x 200: a sun over hills, in colours that depend on `subject`."""
    seed = zlib.crc32(subject.encode())
    sky = (90 + seed % 90, 130 + (seed >> 8) % 70, 200 + (seed >> 16) % 50)
    hill = (30 + (seed >> 4) % 60, 110 + (seed >> 12) % 90, 60 + (seed >> 20) % 50)
    sun_x, sun_y = 60 + (seed >> 3) % 200, 50 + (seed >> 7) % 30
    rows = bytearray()
    for y in range(HEIGHT):
        rows.append(0)  # the row's filter: none
        glow = y // 3
        for x in range(WIDTH):
            ground = 120 + (x - 160) ** 2 // 900 + (seed >> 5) % 20
            if y > ground:
                rows += bytes(hill)
            elif (x - sun_x) ** 2 + (y - sun_y) ** 2 < 900:
                rows += b"\xff\xd7\x40"
            else:
                rows += bytes(min(255, part + glow) for part in sky)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(rows), 9)
    return (
        PNG_SIGNATURE
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", data)
        + _chunk(b"IEND", b"")
    )


def describe(attachment: Attachment) -> str:
    """One phrase for an attachment, like "640x480 PNG" or "report.pdf (1200 bytes)"."""
    if attachment.kind == "image":
        return _describe_image(attachment.url)
    data = _decode(attachment.url)
    return f"{attachment.name} ({len(data)} bytes)" if data else attachment.name


def image_size(data: bytes) -> tuple[str, int, int] | None:
    """Format, width and height out of a PNG's or JPEG's header; None for others.

    PNG: width and height stand in IHDR, the first chunk (RFC 2083, section 4.1.1).
    JPEG: they stand in the frame header SOFn (ITU-T T.81, B.2.2).
    """
    if data.startswith(PNG_SIGNATURE) and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return "PNG", width, height
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    return None


def _describe_image(url: str) -> str:
    if not url.startswith("data:"):
        return f"an image at {url[:80]}"
    size = image_size(_decode(url))
    if size:
        return f"{size[1]}x{size[2]} {size[0]}"
    return f"an image of type {url[5:].partition(';')[0]}"


def _jpeg_size(data: bytes) -> tuple[str, int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
        # C4, C8 and CC share the range but are no frame headers.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return "JPEG", width, height
        at += 2 + length
    return None


def _decode(url: str) -> bytes:
    encoded = url.partition(";base64,")[2] if url.startswith("data:") else url
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return b""


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)
