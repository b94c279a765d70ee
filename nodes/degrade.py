"""Synthesize Degradation: damage a picture on purpose, to test a graph or to make training pairs."""

from comfy_api.latest import io

from ..aior_core.degradations import (
    KINDS,
    PRESETS,
    Recipe,
    apply_recipe,
    named_recipe,
    preset_recipe,
    random_mixture,
    random_world,
)
from ..aior_core.picture import distance_of, from_unit, join_alpha, split_alpha, to_unit
from ..aior_core.pipeline.validate import require_numbers
from .named_errors import in_its_name

RANDOM, WORLD = "random mixture", "random world"
WRITTEN = "from recipe"


class Degrade(io.ComfyNode):
    """Wraps `apply_recipe`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_Degrade",
            display_name="Synthesize Degradation",
            category="image/restoration",
            description=(
                "Damages a picture with noise, blur, low resolution, rain, snow, haze, low light or JPEG, or as a phone does at night or an "
                "old file has it, the same way for the same seed, and tells the recipe."
            ),
            search_aliases=[
                "degrade",
                "add noise",
                "add rain",
                "add snow",
                "add fog",
                "haze",
                "darken",
                "jpeg artifacts",
                "corrupt",
                "synthetic damage",
                "film grain",
                "film scan",
                "old photo",
                "webcam",
                "security camera",
                "messenger",
                "camera noise",
                "motion blur",
                "AIOR",
            ],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The clean picture, or several. All of a batch are damaged alike. Alpha stays as it is.",
                ),
                io.Combo.Input(
                    "degradation",
                    options=[*KINDS, *PRESETS, RANDOM, WORLD, WRITTEN],
                    default="noise",
                    tooltip=(
                        "What to do to the picture: one damage; a mixture as it is met outside, from 'phone at night' to 'security camera'; or "
                        f"one look of a damage, such as 'rain: rain100l', as a paper or a camera makes it. '{RANDOM}' draws one to three "
                        f"damages and their strengths from the seed, '{WORLD}' does so as training does; '{WRITTEN}' repeats the recipe given below."
                    ),
                ),
                io.Float.Input(
                    "severity",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip=(
                        "How strong: 0 leaves the picture as it is, 1 is the worst (noise sigma 60, x4 low resolution, JPEG quality 10, 5 "
                        "stops of light). A mixture with a name is as it is named at 0.5. A random mixture and a recipe bring their own."
                    ),
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**31 - 1,
                    control_after_generate=True,
                    tooltip="Where the drops, flakes and grains fall. The same seed gives the same damage. A recipe brings its own.",
                ),
                io.String.Input(
                    "recipe",
                    default="",
                    multiline=True,
                    optional=True,
                    dynamic_prompts=False,
                    tooltip=f"The recipe text of an earlier run, used with '{WRITTEN}' only.",
                ),
                io.Image.Input(
                    "depth",
                    optional=True,
                    tooltip=(
                        "How far everything is, as depth estimators give it: bright is near. Haze, snow and rain with a veil, and blur by "
                        "distance follow it. Open: depth is invented."
                    ),
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The damaged picture, of the same size."),
                io.String.Output(
                    display_name="recipe",
                    tooltip=f"What was done, as JSON: feed it back with '{WRITTEN}' to do it again.",
                ),
            ],
        )

    @classmethod
    @in_its_name
    def execute(
        cls, image, degradation: str, severity: float, seed: int, recipe: str = "", depth=None
    ) -> io.NodeOutput:
        require_numbers(severity=severity, seed=seed)
        if degradation == WRITTEN:
            if not recipe.strip():
                raise ValueError(
                    f"'{WRITTEN}' needs a recipe; connect the recipe output of another Synthesize Degradation node."
                )
            plan = Recipe.from_json(recipe)
        elif degradation == RANDOM:
            plan = random_mixture(seed)
        elif degradation == WORLD:
            plan = random_world(seed)
        elif degradation in PRESETS:
            plan = named_recipe(degradation, severity, seed)
        else:
            plan = preset_recipe(degradation, severity, seed)
        distance = None if depth is None else distance_of(depth)
        damaged = from_unit(apply_recipe(to_unit(image), plan, depth=distance))
        return io.NodeOutput(join_alpha(damaged, split_alpha(image)[1]), plan.to_json())
