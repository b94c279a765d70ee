"""Synthesize Degradation: damages a picture on purpose, to test a graph or to make training pairs."""

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
from .named_errors import RestorationNode
from .sockets import CATEGORY, seed_input

RANDOM, WORLD = "random mixture", "random world"
WRITTEN = "from recipe"


class Degrade(RestorationNode):
    """Wraps `apply_recipe`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_Degrade",
            display_name="Synthesize Degradation",
            category=CATEGORY,
            description="Damages a picture on purpose: with noise, blur, low resolution, rain, snow, haze, "
            "low light or JPEG, or as a phone at night or an old file does. The same seed gives the same "
            "damage. It also outputs the recipe of what it did.",
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
                    tooltip="One clean picture or a batch. All pictures of a batch are damaged alike. "
                    "Alpha is kept unchanged.",
                ),
                io.Combo.Input(
                    "degradation",
                    options=[*KINDS, *PRESETS, RANDOM, WORLD, WRITTEN],
                    default="noise",
                    tooltip=(
                        "What to do to the picture: one degradation; a mixture as it occurs in practice, "
                        "from 'phone at night' to 'security camera'; or one style of a degradation, as a "
                        f"paper or a camera produces it, such as 'rain: rain100l'. '{RANDOM}' draws one to "
                        f"three degradations and their strengths from the seed. '{WORLD}' draws them as "
                        f"training does. '{WRITTEN}' repeats the recipe given below."
                    ),
                ),
                io.Float.Input(
                    "severity",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How strong the damage is. 0 leaves the picture unchanged, 1 is the worst: "
                    "noise sigma 60, x4 low resolution, JPEG quality 10, 5 stops darker. A named mixture "
                    "matches its name at 0.5. A random mixture and a recipe have their own severity.",
                ),
                seed_input(
                    "Decides where drops, flakes and grain fall. The same seed gives the same damage. "
                    "A recipe has its own seeds.",
                    most=2**31 - 1,
                    control=True,
                ),
                io.String.Input(
                    "recipe",
                    default="",
                    multiline=True,
                    optional=True,
                    dynamic_prompts=False,
                    tooltip=f"The recipe of an earlier run. Only used with '{WRITTEN}'.",
                ),
                io.Image.Input(
                    "depth",
                    optional=True,
                    tooltip="A depth map as depth estimators make it: bright is near. Haze, the veils of "
                    "rain and snow, and blur by distance follow it. If it is not connected, the node "
                    "invents the depth.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The damaged picture, in the same size."),
                io.String.Output(
                    display_name="recipe",
                    tooltip=f"What was done, as JSON. Use it with '{WRITTEN}' to do it again.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, image, degradation: str, severity: float, seed: int, recipe: str = "", depth=None
    ) -> io.NodeOutput:
        require_numbers(severity=severity, seed=seed)
        if degradation == WRITTEN:
            if not recipe.strip():
                raise ValueError(
                    f"'{WRITTEN}' needs a recipe, but the recipe input is empty. "
                    "Connect the recipe output of another Synthesize Degradation node."
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
