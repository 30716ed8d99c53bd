import contextlib
import io
import warnings

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from trivet.data import images
from trivet.data.images import read_image, read_size
from trivet.errors import DataError


@pytest.fixture
def picture():
    """A picture whose halves, corners and channels all differ: 6 high, 9 wide."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)


def smooth(height=40, width=60):
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 4, y * 6, 255 - x * 4], axis=2).clip(0, 255).astype(np.uint8)


def test_rgb_is_returned_as_it_is(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture)


def test_grayscale_becomes_three_equal_channels(tmp_path, picture):
    Image.fromarray(picture[..., 0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.repeat(picture[..., :1], 3, axis=2))


@pytest.mark.parametrize("quality", [60, 95])
@pytest.mark.parametrize("gray", [False, True])
def test_jpeg_has_the_pixels_pillow_gives(tmp_path, quality, gray):
    source = Image.fromarray(smooth())
    (source.convert("L") if gray else source).save(tmp_path / "a.jpg", quality=quality)
    expected = np.asarray(Image.open(tmp_path / "a.jpg").convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), expected)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"icc_profile": b"x" * 99}]
)
def test_a_plain_jpeg_is_read_without_pillow(tmp_path, monkeypatch, options):
    Image.fromarray(smooth()).save(tmp_path / "a.jpg", comment=b"a picture", **options)
    expected = np.asarray(Image.open(tmp_path / "a.jpg").convert("RGB"))
    monkeypatch.setattr(images.Image, "open", lambda _: pytest.fail("its header says all that is needed"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), expected)


def test_a_jpeg_whose_orientation_is_in_xmp_is_turned(tmp_path):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    Image.fromarray(smooth()).save(tmp_path / "a.jpg", xmp=xmp)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg")))
    assert expected.shape == (60, 40, 3)
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), expected)


def test_of_several_pictures_in_a_jpeg_the_first_is_read(tmp_path):
    first, second = Image.fromarray(smooth()), Image.fromarray(255 - smooth())
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[second])
    with Image.open(tmp_path / "a.mpo") as picture:
        expected = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.mpo"), expected)


@given(cut=st.integers(0, 700), at=st.integers(0, 700), byte=st.integers(0, 255))
@settings(max_examples=60)
def test_a_damaged_head_of_a_jpeg_is_no_crash(cut, at, byte):
    file = io.BytesIO()
    Image.fromarray(smooth()).save(file, "JPEG")
    data = bytearray(file.getvalue())
    data[at % len(data)] = byte
    size = images._plain_jpeg_size(bytes(data[: cut + 2]))
    assert size is None or len(size) == 2


def test_palette_becomes_its_colours(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_transparent_palette_entry_becomes_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    assert read_image(tmp_path / "a.png").tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_alpha_is_composited_on_white(tmp_path):
    pixels = np.array([[[100, 0, 0, 0], [100, 0, 50, 255], [100, 0, 0, 51]]], np.uint8)
    Image.fromarray(pixels, "RGBA").save(tmp_path / "a.png")
    result = read_image(tmp_path / "a.png")[0]
    assert result[0].tolist() == [255, 255, 255]
    assert result[1].tolist() == [100, 0, 50]
    np.testing.assert_allclose(result[2], [224, 204, 204], atol=1)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_gray_is_scaled_by_its_full_range(tmp_path, suffix):
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    assert read_image(tmp_path / f"a.{suffix}")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_sixteen_bit_colour_tiff_is_scaled_and_keeps_its_channels(tmp_path):
    values = np.zeros((2, 3, 3), np.uint16)
    values[..., 0], values[..., 1], values[..., 2] = 65535, 257 * 7, 257 * 100
    assert cv2.imwrite(str(tmp_path / "a.tif"), values[..., ::-1])
    result = read_image(tmp_path / "a.tif")
    assert result.shape == (2, 3, 3)
    assert result[0, 0].tolist() == [255, 7, 100]
    assert read_size(tmp_path / "a.tif") == (2, 3)


def test_floats_from_0_to_1_are_scaled_and_others_refused(tmp_path):
    Image.fromarray(np.array([[0, 0.5, 1]], np.float32)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[0, :, 1].tolist() == [0, 128, 255]
    Image.fromarray(np.array([[0, 3000.0]], np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(DataError, match=r"b\.tif.*go from 0.0 to 3000.0, where 0 to 1 is wanted"):
        read_image(tmp_path / "b.tif")


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    Image.fromarray(smooth()).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - smooth()).mean() < 4


def test_bilevel_and_animated_images_are_read(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[255] * 3, [0] * 3]]
    frames = [Image.new("RGB", (3, 2), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "b.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "b.gif")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_every_exif_orientation_is_undone_as_pillow_undoes_it(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(smooth(24, 36)).save(path, exif=exif)
    stored = Image.open(path)
    expected = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    np.testing.assert_array_equal(read_image(path), expected)
    np.testing.assert_array_equal(read_image(path, upright=False), np.asarray(stored.convert("RGB")))
    assert read_size(path) == expected.shape[:2]
    assert read_size(path, upright=False) == (24, 36)
    assert read_image(path).flags["C_CONTIGUOUS"]


def test_an_orientation_that_does_not_exist_is_none(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 77
    Image.fromarray(smooth()).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (40, 60, 3)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "tif"])
def test_a_file_cut_short_is_named(tmp_path, suffix):
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()))
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(stream.getvalue()[: len(stream.getvalue()) // 2])
    with pytest.raises(DataError, match=rf"cut\.{suffix}: the (image|file) (cannot be decoded|is no image)"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff\xe0", b"GIF89a", b"II*\0"])
@pytest.mark.parametrize("reader", [read_image, read_size])
def test_what_is_no_image_is_named(tmp_path, content, reader):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.jpg"):
        reader(tmp_path / "a.jpg")


@pytest.mark.parametrize("reader", [read_image, read_size])
def test_a_missing_file_and_a_folder_are_named(tmp_path, reader):
    for path in (tmp_path / "missing.jpg", tmp_path):
        with pytest.raises(DataError, match=path.name):
            reader(path)


@pytest.mark.parametrize("reader", [read_image, read_size])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, reader):
    """A PNG head that claims 50,000 x 50,000 pixels; there are none."""
    chunk = PngImagePlugin.putchunk
    with (tmp_path / "bomb.png").open("wb") as stream:
        stream.write(b"\x89PNG\r\n\x1a\n")
        chunk(stream, b"IHDR", (50_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0]))
        chunk(stream, b"IDAT", b"")
        chunk(stream, b"IEND", b"")
    with pytest.raises(DataError, match=r"bomb\.png"):
        reader(tmp_path / "bomb.png")


@pytest.mark.parametrize("reader", [read_image, read_size])
def test_the_largest_size_counts(tmp_path, monkeypatch, reader):
    monkeypatch.setattr(images, "MAX_PIXELS", 60 * 40 - 1)
    Image.fromarray(smooth()).save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"60 x 40 pixels, more than the 2,399.*\ncut it into tiles"):
        reader(tmp_path / "a.jpg")


def test_a_large_tiff_that_only_opencv_reads_is_refused_by_its_head(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "a.tif"), np.zeros((20, 30, 3), np.uint16))
    monkeypatch.setattr(images, "MAX_PIXELS", 599)
    with pytest.raises(DataError, match="30 x 20 pixels, more than the 599"):
        read_image(tmp_path / "a.tif")


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(max_size=300),
    head=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0"]),
)
def test_hostile_bytes_give_pixels_or_one_clear_error(tmp_path_factory, data, head):
    path = tmp_path_factory.mktemp("hostile") / "a.img"
    path.write_bytes(head + data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.suppress(DataError):
            assert read_image(path).dtype == np.uint8
