"""Measure Restoration: how close a picture is to its reference."""

from comfy_api.latest import io, ui

from ..aior_core.host.csv_file import save_csv
from ..aior_core.metrics.perceptual import INSTALL
from ..aior_core.metrics.protocol import CHANNELS
from ..aior_core.metrics.scores import measure
from ..aior_core.picture import from_unit, to_unit
from ..aior_core.pipeline.validate import require_numbers
from ..aior_core.report.measurement import error_map, score_csv, score_table
from .named_errors import RestorationNode
from .sockets import CATEGORY


class Measure(RestorationNode):
    """Wraps `measure`, `score_table`, `save_csv` and `error_map`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_Measure",
            display_name="Measure Restoration",
            category=CATEGORY,
            description="Compares a picture with its reference: PSNR, SSIM, optionally a learned distance, "
            "a table and an error map.",
            search_aliases=[
                "psnr",
                "ssim",
                "lpips",
                "compare images",
                "image quality",
                "metric",
                "difference",
                "error map",
                "AIOR",
            ],
            is_output_node=True,
            inputs=[
                io.Image.Input(
                    "reference",
                    tooltip="The picture as it should be: one for each picture, or one for all. Alpha is "
                    "ignored.",
                ),
                io.Image.Input(
                    "image", tooltip="The picture to measure, in the size of the reference. Alpha is ignored."
                ),
                io.Int.Input(
                    "border",
                    default=0,
                    min=0,
                    max=64,
                    tooltip="Pixels to ignore on every side. Super-resolution papers use the scale: 2, 3 "
                    "or 4.",
                ),
                io.Combo.Input(
                    "channel",
                    options=list(CHANNELS),
                    default="rgb",
                    advanced=True,
                    tooltip="rgb: all three channels, as denoising papers do. y: brightness only, "
                    "as super-resolution and deraining papers do (MATLAB's rgb2ycbcr).",
                ),
                io.Boolean.Input(
                    "perceptual",
                    default=False,
                    advanced=True,
                    tooltip="Also measures the learned distance ST-LPIPS, which is close to LPIPS but not "
                    f"LPIPS. Needs an optional package: {INSTALL}",
                ),
                io.Float.Input(
                    "error_gain",
                    default=8.0,
                    min=1.0,
                    max=64.0,
                    step=0.5,
                    advanced=True,
                    tooltip="How much the error map amplifies errors. "
                    "At 8, an error of an eighth of the full range is white.",
                ),
                io.String.Input(
                    "csv",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Saves the table as a CSV file below ComfyUI's output folder. Enter the start "
                    "of its name, for example measurements/restored. Files are numbered, so nothing is "
                    "overwritten. Empty: no file.",
                ),
            ],
            outputs=[
                io.Float.Output(
                    "psnr",
                    display_name="psnr",
                    tooltip="Peak signal-to-noise ratio in dB, mean over the batch. "
                    "Higher is better; 100 means identical.",
                ),
                io.Float.Output(
                    "ssim",
                    display_name="ssim",
                    tooltip="Structural similarity, mean over the batch. 1 means identical.",
                ),
                io.Float.Output(
                    "distance",
                    display_name="perceptual",
                    tooltip="ST-LPIPS (not LPIPS), mean over the batch. "
                    "Lower is better; 0 means identical, -1 means not measured.",
                ),
                io.String.Output(
                    "table",
                    display_name="table",
                    tooltip="All numbers as a Markdown table, one row per picture.",
                ),
                io.Image.Output(
                    "error_map",
                    display_name="error map",
                    tooltip="Where the errors are. Black means none, then red, yellow and white.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        reference,
        image,
        border: int = 0,
        channel: str = "rgb",
        perceptual: bool = False,
        error_gain: float = 8.0,
        csv: str = "",
    ) -> io.NodeOutput:
        require_numbers(error_gain=error_gain)
        wanted, given = to_unit(reference), to_unit(image)
        scores = measure(given, wanted, border=border, channel=channel, learned=perceptual)
        text = score_table(scores)
        heat = from_unit(error_map(given, wanted, gain=error_gain))
        saved = save_csv(score_csv(scores), csv)
        shown = ui.PreviewText(f"{text}\n\nSaved: {saved}" if saved else text)
        return io.NodeOutput(
            scores.mean("psnr"), scores.mean("ssim"), scores.mean("perceptual"), text, heat, ui=shown
        )
