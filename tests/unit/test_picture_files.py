"""Reading and writing picture files: what goes in is what a person sees, and what comes out is as it was."""

import dataclasses
import io

import numpy
import pytest
from aior_pack.aior_core.picture import profiles
from aior_pack.aior_core.picture.reader import UnreadablePicture, fill_invisible, read_picture, upright
from aior_pack.aior_core.picture.writer import PLACEHOLDER, WriteOptions, check_writable, write_picture
from aior_pack.tests import picture_files as files
from PIL import Image, PngImagePlugin

LOSSLESS = ("png", "tiff")


def write(source, frame=0, image=None, **options):
    texts = {name: options.pop(name) for name in ("workflow", "prompt") if name in options}
    grey = options.pop("grey", True)
    return write_picture(
        source.to_image()[frame] if image is None else image,
        source,
        frame,
        WriteOptions(**options),
        grey=grey,
        **texts,
    )


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright_once(orientation, format):
    data = files.oriented(orientation, format)
    picture = read_picture(data)
    assert (picture.pixels[0] == files.shown(data)).all()
    result = opened(write(picture))
    assert result.getexif().get(0x0112, 1) == 1 and (numpy.asarray(result) == picture.pixels[0]).all()


@pytest.mark.parametrize("format", ["png", "jpg", "webp", "tiff"])
def test_date_camera_and_place_are_kept_or_dropped(format):
    picture = read_picture(files.oriented(6))
    kept, dropped = (
        opened(write(picture, format=format, metadata=keep, workflow={"a": 1}, prompt={"1": {}}))
        for keep in (True, False)
    )
    exif = kept.getexif()
    assert exif[0x010F] == "Kamera" and exif[0x0132] == "2021:05:06 07:08:09"
    assert exif.get_ifd(0x8825)[1] == "N" and exif.get_ifd(0x8769)[0x9003] == "2021:05:06 07:08:09"
    assert 0xA002 not in exif.get_ifd(0x8769)  # the old width
    texts = kept.text if format == "png" else dict(text.split(":", 1) for text in (exif[269], exif[285]))
    assert texts == {"workflow": '{"a": 1}', "prompt": '{"1": {}}'}
    gone = dropped.getexif()
    assert 0x010F not in gone and not gone.get_ifd(0x8825) and not gone.get_ifd(0x8769) and 269 not in gone
    assert not getattr(dropped, "text", {})


@pytest.mark.parametrize("format", ["png", "jpg", "webp", "tiff"])
def test_a_near_profile_is_carried_along_with_its_numbers(format):
    data = files.encode(files.scene(), "PNG", icc_profile=files.rgb_profile())
    picture = read_picture(data)
    result = write(picture, format=format, metadata=False)
    assert opened(result).info["icc_profile"] == files.rgb_profile()
    assert abs(files.shown(result).astype(int) - files.shown(data)).mean() < (
        0.01 if format in LOSSLESS else 3
    )


def test_a_linear_profile_is_converted_and_a_broken_one_does_no_harm():
    data = files.encode(files.scene(), "PNG", icc_profile=files.rgb_profile(1.0))
    picture = read_picture(data)
    assert picture.metadata.icc == b"" and abs(picture.pixels[0].astype(int) - files.shown(data)).max() <= 1
    broken = read_picture(files.encode(files.scene(), "PNG", icc_profile=files.rgb_profile()[:200]))
    assert (broken.pixels[0] == numpy.asarray(files.scene())).all()
    assert not profiles.is_far_from_srgb(files.rgb_profile(1.8), False) and profiles.is_far_from_srgb(
        files.grey_profile(1.0), True
    )


@pytest.mark.parametrize("format", ["png", "webp", "tiff"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_as_it_was_and_what_it_hides_is_not_seen(mode, format):
    image = files.scene()
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (0, 0, 20, 48))
    alpha.paste(77, (30, 0, 40, 48))
    image.putalpha(alpha)
    pixels = numpy.asarray(image).copy()
    pixels[pixels[..., 3] == 0] = 0
    image = Image.fromarray(pixels)
    image = image.convert("LA") if mode == "LA" else image.quantize(200) if mode == "P" else image
    picture = read_picture(files.encode(image, "PNG"))
    assert (
        picture.alpha is not None and (picture.alpha[0] == numpy.asarray(image.convert("RGBA"))[..., 3]).all()
    )
    assert picture.to_image()[0][:, :20].min() > 0.15  # no black where nobody sees it
    result = opened(write(picture, format=format)).convert("RGBA")
    assert (numpy.asarray(result)[..., 3] == picture.alpha[0]).all()
    if format in LOSSLESS:
        assert abs(numpy.asarray(result).astype(int) - numpy.asarray(image.convert("RGBA"))).max() <= 1
    with pytest.raises(ValueError, match="transparency"):
        check_writable(picture, "jpg")
    larger = opened(write(picture, format="png", image=numpy.zeros((96, 128, 3), numpy.float32))).convert(
        "RGBA"
    )
    assert (
        larger.size == (128, 96)
        and numpy.asarray(larger)[10, 4, 3] == 0
        and numpy.asarray(larger)[10, 110, 3] == 255
    )


def test_invisible_colours_come_from_around_them():
    colours = numpy.zeros((40, 40, 3), numpy.float32)
    colours[:, 25:] = 1
    visible = numpy.zeros((40, 40), bool)
    visible[:, 30:] = visible[:, :10] = True
    colours[~visible] = 0.5
    filled = fill_invisible(colours, visible)
    assert (
        (filled[visible] == colours[visible]).all()
        and filled[:, 12].max() < 0.2
        and filled[:, 27].min() > 0.8
    )
    assert (fill_invisible(colours, numpy.zeros((40, 40), bool)) == colours).all()


@pytest.mark.parametrize(
    "mode, format", [("1", "PNG"), ("L", "PNG"), ("L", "JPEG"), ("1", "TIFF"), ("LA", "PNG"), ("L", "BMP")]
)
def test_grey_stays_grey_whatever_the_network_made_of_it(mode, format):
    picture = read_picture(files.encode(files.scene().convert(mode), format))
    coloured = picture.to_image()[0] * numpy.array([1.0, 0.8, 0.9], numpy.float32)
    for target in ("png", "tiff"):
        assert opened(write(picture, image=coloured, format=target)).mode in ("L", "LA")
    kept = numpy.asarray(opened(write(picture, image=coloured, grey=False)).convert("RGB")).astype(int)
    assert picture.grey and abs(kept[..., 0] - kept[..., 1]).max() > 10
    assert not read_picture(files.encode(files.scene(), "PNG")).grey


@pytest.mark.parametrize("make", [files.deep_png, files.deep_tiff])
def test_sixteen_bits_come_in_and_go_out(make):
    deep = numpy.random.default_rng(1).integers(0, 65536, (48, 64, 3), dtype=numpy.uint16)
    picture = read_picture(make(deep))
    assert picture.bits == 16 and (picture.pixels[0] == deep).all()
    for format in LOSSLESS:
        again = read_picture(write(picture, format=format, workflow={"a": 1}))
        assert again.bits == 16 and (again.pixels[0] == deep).all()
        assert read_picture(write(picture, format=format, bits=8)).bits == 8
    assert read_picture(write(picture, format="jpg")).bits == 8
    eight = read_picture(files.encode(files.scene(), "PNG"))
    assert read_picture(write(eight, bits=16)).bits == 16 and read_picture(write(eight)).bits == 8


@pytest.mark.parametrize("orientation", [3, 5, 6])
def test_a_deep_tiff_and_its_pages_are_turned_once(orientation):
    """Pillow turns a TIFF while it loads it, PyAV does not."""
    deep = numpy.random.default_rng(1).integers(0, 65536, (48, 64, 3), dtype=numpy.uint16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    small = [files.scene(seed=seed) for seed in range(2)]
    pages = files.encode(small[0], "TIFF", save_all=True, append_images=small[1:], exif=exif)
    assert (read_picture(pages).pixels[0] == files.shown(pages)).all()
    buffer = io.BytesIO()
    tifffile = pytest.importorskip("tifffile")  # it comes with scikit-image
    tifffile.imwrite(buffer, deep, photometric="rgb", extratags=[(0x0112, "H", 1, orientation, True)])
    directory = buffer.getvalue()
    picture = read_picture(directory)
    assert picture.bits == 16 and (picture.pixels[0] == upright(deep, orientation)).all()


def test_sixteen_bits_keep_profile_transparency_and_texts():
    deep = numpy.random.default_rng(2).integers(0, 65536, (20, 30, 4), dtype=numpy.uint16)
    picture = read_picture(files.deep_png(deep))
    assert (picture.alpha[0] == deep[..., 3]).all()
    source = type(picture)(
        picture.pixels,
        picture.alpha,
        False,
        16,
        type(picture.metadata)(icc=files.rgb_profile(), dpi=(300.0, 300.0)),
    )
    for format in LOSSLESS:
        data = write(source, format=format, prompt={"1": {}})
        again = read_picture(data)
        assert (
            again.bits == 16
            and (again.alpha[0] == deep[..., 3]).all()
            and again.metadata.icc == files.rgb_profile()
        )
        assert (again.pixels[0][deep[..., 3] > 0] == deep[..., :3][deep[..., 3] > 0]).all()
        assert opened(data).info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_a_thousand_levels_of_grey_are_kept():
    ramp = numpy.linspace(0, 65535, 1000).round().astype(numpy.uint16)[None].repeat(8, 0)
    picture = read_picture(files.encode(Image.fromarray(ramp), "PNG"))
    for format in LOSSLESS:
        result = read_picture(write(picture, format=format))
        assert result.bits == 16 and result.grey and len(numpy.unique(result.pixels)) == 1000


def test_sixteen_bits_that_cannot_be_read_are_remarked_on():
    """Animated PNG files and pictures that are converted to sRGB lost 8 of their 16 bits without a word."""
    random = numpy.random.default_rng(3)
    deep = random.integers(0, 65536, (2, 24, 32, 3), dtype=numpy.uint16)
    animated = read_picture(files.deep_apng(list(deep)))
    assert animated.bits == 8 and animated.pixels.shape == deep.shape
    linear = read_picture(files.deep_png(deep[0]))
    linear = dataclasses.replace(
        linear, metadata=dataclasses.replace(linear.metadata, icc=files.rgb_profile(1.0))
    )
    converted = read_picture(write(linear))
    assert converted.bits == 8 and converted.metadata.icc == b""
    assert animated.remarks == converted.remarks == ("only 8 of its 16 bits could be read",)
    assert not read_picture(files.deep_png(deep[0])).remarks


def test_a_jpeg_drops_the_maker_note_first_and_then_the_graph():
    """The EXIF block of a JPEG file holds 64 KB at most."""
    note, graph = b"\0" * 40_000, {"nodes": "x" * 40_000}
    exif = Image.Exif()
    exif[0x010F], exif[0x8769] = "Kamera", {0x927C: note}
    picture = read_picture(files.encode(files.scene(), "JPEG", exif=exif.tobytes(), quality=95))

    def written(**options):
        exif = opened(write(picture, format="jpg", **options)).getexif()
        return exif[0x010F], exif.get_ifd(0x8769).get(0x927C), 269 in exif

    assert written() == ("Kamera", note, False)
    assert written(workflow=graph) == ("Kamera", None, True)
    assert written(workflow={"nodes": "x" * 70_000}) == ("Kamera", note, False)


def test_transparency_becomes_a_mask():
    image = files.scene()
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (0, 0, 20, 48))
    alpha.paste(51, (20, 0, 40, 48))
    image.putalpha(alpha)
    mask = read_picture(files.encode(image, "PNG")).to_mask()
    assert mask.shape == (1, 48, 64) and mask.dtype == numpy.float32
    assert mask[0, 0, [0, 20, 40]] == pytest.approx([1, 0.8, 0]) and len(numpy.unique(mask)) == 3
    assert read_picture(files.encode(files.scene(), "PNG")).to_mask() is None


def test_results_are_rounded_and_not_cut_off():
    picture = read_picture(files.encode(files.scene(), "PNG"))
    exact = numpy.asarray(files.scene(), numpy.float32) / 255
    for offset in (-0.49, 0.0, 0.49):
        assert (
            numpy.asarray(opened(write(picture, image=exact + offset / 255))) == numpy.asarray(files.scene())
        ).all()


def test_what_cannot_be_written_is_refused():
    picture = read_picture(files.encode(files.scene(), "PNG"))
    with pytest.raises(ValueError, match="NaN"):
        write(picture, image=numpy.full((8, 8, 3), numpy.nan, numpy.float32))
    long = read_picture(files.encode(Image.new("RGB", (17000, 2)), "PNG"))
    with pytest.raises(ValueError, match="webp holds 16383"):
        check_writable(long, "webp")
    check_writable(long, "png")


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "YCbCr", "P", "RGBX"])
def test_other_colour_models_are_read_as_they_look(mode):
    from PIL import ImageCms

    image = files.scene()
    if mode == "LAB":
        image = ImageCms.profileToProfile(
            image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    elif mode != "P":
        image = image.convert(mode)
    else:
        image = image.quantize(256)
    picture = read_picture(files.encode(image, "PNG" if mode == "P" else "TIFF"))
    assert abs(picture.pixels[0].astype(int) - numpy.asarray(files.scene())).mean() < 3


def test_jpeg_inside_tiff_is_read():
    data = files.encode(files.scene(), "TIFF", compression="jpeg", quality=95)
    assert abs(read_picture(data).pixels[0].astype(int) - numpy.asarray(files.scene())).mean() < 3


def test_floating_point_is_read_where_its_white_is_known_and_refused_elsewhere():
    ramp = numpy.linspace(0, 1, 48 * 64, dtype=numpy.float32).reshape(48, 64)
    picture = read_picture(files.encode(Image.fromarray(ramp), "TIFF"))
    assert picture.bits == 16 and abs(picture.to_image()[0, ..., 0] - ramp).max() < 1e-4
    for wrong in (ramp * 255, ramp - 0.5, ramp * numpy.nan):
        with pytest.raises(UnreadablePicture, match="white|not numbers"):
            read_picture(files.encode(Image.fromarray(wrong), "TIFF"))
    with pytest.raises(UnreadablePicture, match="32 bits"):
        read_picture(files.encode(Image.fromarray((ramp * 9e6).astype(numpy.int32)), "TIFF"))


def test_all_pages_and_frames_of_one_size_are_read_and_others_named():
    frames = [files.scene(seed=seed) for seed in range(3)]
    for format in ("TIFF", "GIF", "WEBP", "PNG"):
        data = files.encode(frames[0], format, save_all=True, append_images=frames[1:])
        assert read_picture(data).pixels.shape == (3, 48, 64, 3), format
    mixed = read_picture(
        files.encode(frames[0], "TIFF", save_all=True, append_images=[frames[1], files.scene((20, 10))])
    )
    assert len(mixed.pixels) == 2 and "1 of 3 pages" in mixed.remarks[0]
    views = read_picture(files.encode(frames[0], "MPO", save_all=True, append_images=[files.scene((32, 24))]))
    assert views.pixels.shape == (1, 48, 64, 3) and not views.remarks
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "somebody")
    info.add_text("workflow", "old")
    assert opened(write(read_picture(files.encode(frames[0], "PNG", pnginfo=info)), workflow=None)).text == {
        "Author": "somebody"
    }


@pytest.mark.parametrize(
    "head, name",
    [
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x0cJXL ", "JPEG XL"),
        (b"%PDF-1.7", "PDF"),
        (b"<svg ", "SVG"),
        (b"<!DOCTYPE html>", "web page"),
        (b"8BPS", "Photoshop"),
        (b"\0\0\0\x18ftypisom", "video"),
    ],
)
def test_what_is_no_picture_that_is_read_is_called_by_its_name(head, name):
    with pytest.raises(UnreadablePicture, match=name):
        read_picture(head + bytes(200))


def test_damaged_files_are_refused_with_a_sentence_or_read_as_far_as_they_go():
    whole = files.encode(files.scene(), "PNG")
    for data in (b"", b"not a picture at all", whole[:20], bytes(5000)):
        with pytest.raises(UnreadablePicture):
            read_picture(data)
    half = read_picture(files.encode(files.scene(), "JPEG", quality=95)[:1500])
    assert half.pixels.shape == (1, 48, 64, 3)
    with pytest.raises(UnreadablePicture):
        read_picture(files.encode(files.scene((300, 200)), "WEBP")[:400])
    cut = files.encode(files.scene(), "BMP")
    assert "cut off" in read_picture(cut[: len(cut) // 2]).remarks[0]
    from PIL import ImageFile

    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_byte_of_a_header_may_be_wrong():
    """Whatever Pillow and PyAV raise for it becomes a sentence."""
    draw = numpy.random.default_rng(4)
    deep = numpy.full((6, 7, 3), 30000, numpy.uint16)
    for whole in (
        files.oriented(5),
        files.deep_png(deep),
        files.encode(files.scene((9, 8)), "TIFF"),
        files.encode(files.scene((9, 8)), "WEBP"),
        files.encode(files.scene((9, 8)), "GIF"),
        files.encode(files.scene((9, 8)), "AVIF"),
    ):
        for _ in range(60):
            data = bytearray(whole)
            for place in draw.integers(0, min(len(data), 400), 3):
                data[place] = draw.integers(0, 256)
            try:
                picture = read_picture(bytes(data))
            except UnreadablePicture as error:
                assert str(error)
            else:
                write(picture)


def test_the_key_has_its_place_in_every_other_format():
    picture = read_picture(files.oriented(1))
    for format in ("jpg", "webp", "tiff"):
        assert write(picture, format=format, metadata=False).count(b"aior_key=" + PLACEHOLDER.encode()) == 1
