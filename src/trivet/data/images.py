"""An image file -> RGB pixels, whatever it holds: any bit depth, palette, alpha, CMYK, EXIF rotation."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from trivet.errors import DataError

SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".png",
        ".bmp",
        ".dib",
        ".gif",
        ".tif",
        ".tiff",
        ".webp",
        ".ppm",
        ".pgm",
        ".pbm",
    }
    | {".jp2", ".avif", ".tga", ".jfif", ".mpo"}
)
"""What counts as an image file when a folder is looked through (lower case)."""

MAX_PIXELS = 2**27
"""Larger images (about 11,600 x 11,600) are refused before they are decoded: 400 MB as RGB."""

_AS_RGB: int | None = getattr(cv2, "IMREAD_COLOR_RGB", None)  # since OpenCV 4.11
_ORIENTATION_TAG = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_JPEG_SCAN, _JPEG_FRAMES = 0xDA, (0xC0, 0xC1, 0xC2)
_JPEG_NEUTRAL = frozenset({0xC4, 0xCC, 0xDB, 0xDD, 0xE0, *range(0xE2, 0xF0), 0xFE})
"""Segments that say nothing of size or orientation: tables, restarts, JFIF, applications' own but EXIF and XMP, comments."""
_FAULTS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    cv2.error,
    Image.DecompressionBombError,
)
"""What Pillow's and OpenCV's decoders raise for files that are not what they say."""


def read_image(path: Path, *, upright: bool = True) -> np.ndarray:
    """Decode an image file to uint8 RGB `[h, w, 3]`.

    Grayscale and palette become RGB; alpha is composited on white; 16 bits are scaled by their full range
    (65535 -> 255), floats from 0-1; of an animation the first frame is read. JPEG goes through OpenCV
    (measured 1.2 to 3 times Pillow's rate, the same pixels).

    Args:
        path: The file.
        upright: Apply the EXIF orientation; otherwise return the pixels as stored.

    Raises:
        DataError: If the file is missing, cannot be decoded, is cut short, or has more than `MAX_PIXELS`.
    """
    data = _bytes(path)
    with _decoding(path):
        size = _plain_jpeg_size(data)
        if size is not None:
            _check_size(path, size)
            plain = _decoded_jpeg(data)
            if plain is not None:
                return plain
        try:
            picture = Image.open(io.BytesIO(data))
        except UnidentifiedImageError:
            return _with_opencv(path, data)
        _check_size(path, picture.size)
        turn = _orientation(picture) if upright else 1
        pixels = _quick_jpeg(picture, data)
        return _turned(_with_pillow(picture) if pixels is None else pixels, turn)


def read_mask_values(path: Path, *, coloured: bool) -> np.ndarray:
    """Decode a mask's pixels as whole numbers `[h, w]`, exactly as stored: no scaling, no mixing.

    Args:
        path: The file: gray of any depth, palette, or colour.
        coloured: Whether a pixel's number is its colour, 0xRRGGBB (int32); otherwise its palette index or gray
            level (uint8, uint16 or int32).

    Raises:
        DataError: As `read_image`, or if indices are wanted and the file is in colour.
    """
    with _decoding(path), Image.open(path) as picture:
        _check_size(path, picture.size)
        if coloured:
            red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB"), np.int32), 2, 0)
            return (red << 16) | (green << 8) | blue
        if picture.mode in ("P", "L", "1", "I", "I;16", "I;16B"):
            values = np.asarray(picture)
            return values.astype(np.uint8) if values.dtype == np.bool_ else values
        channels = np.asarray(picture.convert("RGB"))
        if (channels == channels[..., :1]).all():
            return np.ascontiguousarray(channels[..., 0])
        raise DataError(
            f"{path}: the mask is in colour, and nothing says which colour stands for which class",
            "put a table of colours into the data set's folder, such as class_dict.csv with the columns name, r, g, b",
        )


def read_mode(path: Path) -> str:
    """Return how an image file keeps its pixels, as Pillow calls it: `L`, `P`, `RGB`, `I;16`.

    Raises:
        DataError: If the file is missing or is no image.
    """
    with _decoding(path), Image.open(path) as picture:
        return picture.mode


def read_thumbnail(path: Path, side: int) -> np.ndarray:
    """Decode an image to uint8 RGB `[side, side, 3]`, squeezed to a square; JPEG is decoded at a reduced size.

    Raises:
        DataError: As `read_image`.
    """
    with _decoding(path):
        try:
            with Image.open(path) as picture:
                _check_size(path, picture.size)
                picture.draft("RGB" if picture.mode == "RGB" else None, (2 * side, 2 * side))
                pixels = _turned(_with_pillow(picture), _orientation(picture))
        except UnidentifiedImageError:
            pixels = _with_opencv(path, _bytes(path))
        return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)


def read_size(path: Path, *, upright: bool = True) -> tuple[int, int]:
    """Return an image file's (height, width) from its header, without decoding the pixels.

    Args:
        path: The file.
        upright: The size after the EXIF orientation; otherwise that of the pixels as stored.

    Raises:
        DataError: If the file is missing, is no image, or has more than `MAX_PIXELS`.
    """
    with _decoding(path):
        try:
            with Image.open(path) as picture:
                _check_size(path, picture.size)
                width, height = picture.size
                swapped = upright and _orientation(picture) >= 5
        except UnidentifiedImageError:
            height, width = _with_opencv(path, _bytes(path)).shape[:2]
            swapped = False
    return (width, height) if swapped else (height, width)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise DataError(f"{path}: the image cannot be read: {fault.strerror or fault}") from fault


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    # Pillow warns of odd metadata and large files on stderr; what matters of it is checked or raised here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except DataError:
            raise
        except _FAULTS as fault:
            raise DataError(
                f"{path}: the image cannot be decoded: {type(fault).__name__}: {fault}",
                "replace the file or take it out of the data set",
            ) from fault


def _check_size(path: Path, size_wh: tuple[int, int]) -> None:
    width, height = size_wh
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{path}: the image is {width} x {height} pixels, more than the {MAX_PIXELS:,} that are decoded",
            "cut it into tiles",
        )


def _orientation(picture: Image.Image) -> int:
    if picture.format == "PNG" and "exif" not in picture.info:
        return 1  # asking further would decode the pixels
    try:
        value = picture.getexif().get(_ORIENTATION_TAG, 1)
    except _FAULTS:
        return 1  # broken EXIF says nothing about the pixels
    return value if value in range(1, 9) else 1


def _quick_jpeg(picture: Image.Image, data: bytes) -> np.ndarray | None:
    return _decoded_jpeg(data) if picture.format == "JPEG" and picture.mode in ("RGB", "L") else None


def _decoded_jpeg(data: bytes) -> np.ndarray | None:
    # OpenCV fills what is missing of a cut file with gray and goes on, so a file without its end is Pillow's.
    if _JPEG_END not in data[-1024:]:
        return None
    flags = (_AS_RGB or cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return pixels if pixels is None or _AS_RGB else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _plain_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return (width, height) of a gray or colour JPEG of 8 bits that nothing turns, from its header.

    `None` for any other file, and where EXIF, XMP or a second picture follow, which Pillow reads: that takes as long as
    a third of decoding a small picture.
    """
    if data[:2] != _JPEG_START:
        return None
    at, size = len(_JPEG_START), None
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _JPEG_SCAN:
            return size
        if marker in _JPEG_FRAMES:
            bits, height, width, colours = struct.unpack_from(">BHHB", data, at + 4)
            size = (width, height) if bits == 8 and colours in (1, 3) else None
        elif marker not in _JPEG_NEUTRAL or data[at + 4 : at + 8] == b"MPF\0":
            return None
        at += 2 + length
    return None


def _with_pillow(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I"):
        return _three_channels(_to_uint8(np.asarray(picture).astype(np.uint16)))
    if picture.mode == "F":
        return _three_channels(_to_uint8(np.asarray(picture)))
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        return np.array(Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB"))
    return np.array(picture.convert("RGB"))


def _with_opencv(path: Path, data: bytes) -> np.ndarray:
    """Decode what Pillow does not know, such as TIFF with 16 bits a channel."""
    if data[:4] in (b"II*\0", b"MM\0*"):
        _check_size(path, _tiff_size(data))
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if pixels is None:
        raise DataError(
            f"{path}: the file is no image that Pillow or OpenCV can decode ({len(data):,} bytes)",
            "replace the file or take it out of the data set",
        )
    pixels = _to_uint8(pixels)
    if pixels.ndim == 2:
        return _three_channels(pixels)
    colour = cv2.cvtColor(pixels[..., :3], cv2.COLOR_BGR2RGB)
    if pixels.shape[2] == 3:
        return colour
    alpha = pixels[..., 3:].astype(np.float32) / 255
    return (colour * alpha + 255 * (1 - alpha)).round().astype(np.uint8)


def _tiff_size(data: bytes) -> tuple[int, int]:
    directory = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
    stream = io.BytesIO(data)
    stream.seek(directory.next)
    directory.load(stream)
    return int(directory[_TIFF_WIDTH]), int(directory[_TIFF_HEIGHT])


def _to_uint8(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(
            f"its {pixels.dtype} pixels go from {pixels.min()} to {pixels.max()}, where 0 to 1 is wanted"
        )
    return (pixels * 255).round().astype(np.uint8)


def _three_channels(gray: np.ndarray) -> np.ndarray:
    return np.repeat(gray[..., None], 3, axis=2)


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation: 2-4 mirror, 180 degrees, flip; 5-8 the same after swapping the axes."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
