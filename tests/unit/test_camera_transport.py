"""The way of a file: coding against that of Pillow, tables against those of cameras, grids, sizes."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from aior_pack.aior_core.degradations.camera import codecs, tables, transport
from aior_pack.aior_core.degradations.draw import Draw
from PIL import Image

MEASURED = Path(__file__).resolve().parents[3] / "shared" / "data" / "camera" / "jpeg_tables.json"


def drawing(seed: int) -> Draw:
    return Draw(torch.Generator().manual_seed(seed))


def scene(height=96, width=120, seed=0):
    """Return `1 3 H W` in 0..1, in 8 bits: soft hills, edges and some texture."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(1, 3, 6, 8, generator=generator)
    hills = torch.nn.functional.interpolate(small, size=(height, width), mode="bicubic", align_corners=False)
    hills[..., height // 3 : height // 2, width // 4 : width // 2] *= 0.4
    texture = torch.rand(1, 1, height, width, generator=generator) - 0.5
    return transport.round_to_bytes(hills + 0.1 * texture)


def to_pillow(picture):
    return Image.fromarray((picture[0].permute(1, 2, 0).numpy() * 255.0).round().astype(np.uint8))


def from_pillow(image):
    return torch.from_numpy(np.asarray(image.convert("RGB")).astype(np.float32) / 255.0).permute(2, 0, 1)[
        None
    ]


def psnr(first, second):
    return -10.0 * torch.log10(((first - second) ** 2).mean()).item()


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", [15, 60, 92])
def test_jpeg_is_what_pillow_writes_and_reads(subsampling, quality):
    picture = scene()
    steps = tables.standard_tables(quality)
    buffer = io.BytesIO()
    to_pillow(picture).save(buffer, "JPEG", qtables=[steps["luma"], steps["chroma"]], subsampling=subsampling)
    theirs = from_pillow(Image.open(buffer))
    ours = codecs.code_jpeg(picture, steps["luma"], steps["chroma"], subsampling)
    assert psnr(ours, theirs) > psnr(theirs, picture) + 8.0 and psnr(ours, theirs) > 38.0


def test_jpeg_of_steps_of_one_is_nearly_the_picture():
    picture = scene()
    assert (codecs.code_jpeg(picture, [1] * 64, [1] * 64, "4:4:4") - picture).abs().max() * 255.0 < 4.5


def steps_by_phase(picture):
    """Return the mean step between the columns `8 k + phase` and the next ones, over the mean of all steps.

    It is above 1 where blocks meet.
    """
    change = (picture[0, :, :, 1:] - picture[0, :, :, :-1]).abs().mean((0, 1))
    means = torch.stack([change[phase::8].mean() for phase in range(8)])
    return means / means.mean()


def test_twice_coded_pictures_show_both_grids():
    picture = scene(256, 256)
    coarse, fine = tables.standard_tables(12), tables.standard_tables(50)
    once = codecs.code_jpeg(picture, coarse["luma"], coarse["chroma"], "4:2:0", shift=(5, 5))
    twice = steps_by_phase(codecs.code_jpeg(once, fine["luma"], fine["chroma"], "4:4:4"))
    alone = steps_by_phase(codecs.code_jpeg(picture, fine["luma"], fine["chroma"], "4:4:4"))
    # Blocks meet between columns 7 and 8. With 5 columns before the picture they meet between columns 2 and
    # 3.
    others = twice[[0, 1, 3, 4, 5, 6]]
    assert twice[7] > 1.2 and twice[2] > 1.08 and twice[2] > 1.1 * others.max()
    assert alone[7] > 1.02 and alone[2] < 1.0


def test_a_shifted_grid_is_that_of_a_cropped_file():
    picture = scene(64, 64)
    steps = tables.standard_tables(30)
    whole = codecs.code_jpeg(picture, steps["luma"], steps["chroma"], "4:4:4")
    part = codecs.code_jpeg(picture[..., 11:, 13:], steps["luma"], steps["chroma"], "4:4:4", shift=(11, 13))
    assert torch.equal(part[..., 8:, 8:], whole[..., 19:, 21:])


@pytest.mark.parametrize("quality", [10, 40, 70, 90])
def test_webp_loses_what_webp_loses(quality):
    losses, likeness = [], []
    for seed in range(4):
        picture = scene(128, 128, seed)
        buffer = io.BytesIO()
        to_pillow(picture).save(buffer, "WEBP", quality=quality, method=4)
        theirs, ours = from_pillow(Image.open(buffer)), codecs.code_webp(picture, quality)
        losses.append(psnr(ours, picture) - psnr(theirs, picture))
        smooth = [(part[..., 1:] - part[..., :-1]).abs().mean() for part in (ours, theirs)]
        likeness.append((smooth[0] / smooth[1]).item())
    assert abs(sum(losses) / 4) < 3.0
    assert 0.6 < sum(likeness) / 4 < 1.7


def test_tables_follow_quality_and_quality_follows_tables():
    for quality in (10, 35, 50, 75, 95):
        assert tables.nearest_quality(tables.standard_tables(quality)["luma"]) == pytest.approx(
            quality, abs=1.6
        )
    for seed in range(50):
        steps = tables.draw_tables(drawing(seed), 60.0)
        assert all(type(step) is int and 1 <= step <= 255 for step in steps["luma"] + steps["chroma"])
        assert 40.0 < tables.nearest_quality(steps["luma"]) < 80.0


@pytest.mark.slow
@pytest.mark.skipif(not MEASURED.is_file(), reason="the tables of real cameras are not on this machine")
def test_drawn_tables_cover_those_of_cameras():
    real = [entry for entry in json.loads(MEASURED.read_text())["tables"] if not entry["edited"]]
    drawn = [tables.draw_tables(drawing(seed)) for seed in range(800)]
    for name, half, most in (("luma", 0.05, 0.3), ("chroma", 0.03, 0.3)):
        ours = torch.tensor([steps[name] for steps in drawn], dtype=torch.float32).log()
        theirs = torch.tensor([entry[name] for entry in real], dtype=torch.float32).log()
        nearest = torch.stack([(ours - one).abs().mean(1).min() for one in theirs])
        assert nearest.median() < half and nearest.quantile(0.9) < most
    qualities = torch.tensor([tables.nearest_quality(steps["luma"]) for steps in drawn])
    for share, value in ((0.01, 62.0), (0.25, 85.0), (0.5, 93.0), (0.75, 96.0), (0.99, 99.0)):
        assert qualities.quantile(share).item() == pytest.approx(value, abs=6.0)


def test_the_way_is_drawn_in_all_its_forms_and_keeps_the_size():
    picture = scene(50, 61)
    seen, subsamplings = set(), set()
    for seed in range(60):
        params = json.loads(json.dumps(transport.draw_transport(drawing(seed))))
        out = transport.apply_transport(picture, params)
        assert out.shape == picture.shape and torch.equal(out, transport.round_to_bytes(out))
        assert torch.equal(out, transport.apply_transport(picture, params, seed=99))
        seen.add(tuple(step["do"] for step in params["steps"]))
        subsamplings |= {step.get("subsampling") for step in params["steps"]}
    assert {("jpeg",), ("webp",), ("jpeg", "jpeg"), ("resize", "jpeg", "resize", "jpeg")} <= seen
    assert {"4:4:4", "4:2:2", "4:2:0"} <= subsamplings


def test_labels_say_quality_scale_and_count():
    params = transport.draw_transport(drawing(4), quality=40.0, scale=3.0, twice=True)
    labels = transport.transport_labels(params)
    assert (
        labels["scale"] == pytest.approx(3.0, rel=1e-4)
        and labels["codings"] == 2
        and 20 < labels["quality"] < 60
    )
    nothing = transport.transport_labels(transport.NO_TRANSPORT)
    assert nothing == {"quality": None, "scale": 1.0, "codings": 0}
    picture = scene() + 1e-4
    assert transport.apply_transport(picture, transport.NO_TRANSPORT) is picture


@pytest.mark.parametrize("kernel", transport.KERNELS)
def test_resizing_keeps_levels_and_places(kernel):
    ramp = torch.linspace(0.1, 0.9, 96).expand(1, 3, 64, 96)
    for size in ((32, 48), (96, 144), (21, 37)):
        small = transport.resize(ramp, size, kernel)
        back = transport.resize(small, (64, 96), "bilinear")
        assert (back - ramp)[..., 6:-6, 6:-6].abs().max() < (0.02 if kernel != "nearest" else 0.03)


def test_lanczos_is_pillows():
    picture = scene(60, 90)
    theirs = from_pillow(to_pillow(picture).resize((41, 28), Image.LANCZOS))
    assert (transport.resize(picture, (28, 41), "lanczos") - theirs)[
        ..., 2:-2, 2:-2
    ].abs().max() * 255.0 < 2.0


def test_what_does_not_exist_is_named():
    picture = scene(32, 32)
    with pytest.raises(ValueError, match="'fax'"):
        transport.apply_transport(picture, {"steps": [{"do": "fax"}], "enlarge": "bicubic"})
    with pytest.raises(ValueError, match="'sinc'"):
        transport.resize(picture, (8, 8), "sinc")
    with pytest.raises(ValueError, match="4:1:1"):
        codecs.code_jpeg(picture, [1] * 64, [1] * 64, "4:1:1")
    with pytest.raises(ValueError, match="64 steps"):
        codecs.code_jpeg(picture, [1] * 63, [1] * 64, "4:4:4")
    with pytest.raises(ValueError, match="quality is 0"):
        tables.standard_tables(0)
    with pytest.raises(ValueError, match="quality is 101"):
        codecs.code_webp(picture, 101)


@pytest.mark.slow
def test_a_few_tables_are_as_odd_as_those_of_old_cameras():
    """The last row of real tables is 0.66 to 17 times their first, for nine of ten 2 to 6 times. Steps stay
    bytes.
    """
    steep = []
    for seed in range(1500):
        luma = tables.draw_tables(Draw(torch.Generator().manual_seed(seed)), 85.0, standard=0.0)["luma"]
        assert len(luma) == 64 and min(luma) >= 1 and max(luma) <= 255
        steep.append(sum(luma[-8:]) / sum(luma[:8]))
    steep = torch.tensor(steep)
    assert steep.min() < 0.66 and steep.max() > 17.2
    assert 0.02 < (steep < 1.0).float().mean() < 0.08 and 0.01 < (steep > 6.5).float().mean() < 0.08
