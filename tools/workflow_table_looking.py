"""The workflows for analysis: what is wrong with a picture, how good a result is, how samplers compare."""

from __future__ import annotations

from dataclasses import replace

from .workflow_pieces import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    TEXT_WIDTH,
    Column,
    Node,
    Workflow,
    apply,
    beside,
    decode,
    found,
    load,
    sampler,
    save,
    seen,
)


def _encode(image: str = "photo.IMAGE") -> Node:
    return Node(
        "prior", "AIOR_EncodePrior", {"restorer": "compact.restorer", "vae": "compact.vae", "image": image}
    )


def _report() -> Node:
    return Node("report", "AIOR_PriorReport", {"prior": "prior.prior"}, width=TEXT_WIDTH)


def _what_is_wrong() -> Workflow:
    note = (
        "# What is wrong with my picture?\n\n"
        "Nothing is repaired here: the model only looks, which takes a second or two. Pick a "
        "picture, press Run.\n\n"
        "- **Degradation Report** says it in words, worst first. *Severity*: how bad it is, 100 % "
        "being as bad as the model knows. "
        "*Certainty*: how sure it is that the damage is there at all; from 50 % on it counts as found.\n"
        "- **The chart** shows the same: the length of a bar is the severity, its brightness the certainty.\n"
        "- **The heat maps** show where: noise, blur, low resolution, rain, snow, haze, low light, "
        "JPEG, in this order. Grey is "
        "none, violet little, red some, yellow much. Click one to enlarge it.\n"
        "- **The masks** are the same maps as MASK, for *Set Latent Noise Mask* or "
        "*ImageCompositeMasked*: repair only where it rains. "
        "One of them is taken out with *Convert Mask to Image*, *Get Image from Batch*, *Convert "
        "Image to Mask*.\n\n"
        "Maps are coarse, eight pixels to the cell, and surest for noise, JPEG and darkness.\n\n"
        "To repair the picture, open `restore`; to leave a damage in, `restore_keep_grain`."
    )
    return Workflow(
        "what_is_wrong",
        note,
        (
            load(),
            Column("2 Look at it", BLUE, (_encode(), _report())),
            Column(
                "3 How much",
                AMBER,
                (
                    Node(
                        "chart",
                        "PreviewImage",
                        {"images": "report.plot"},
                        title="Severity of each damage",
                        width=560,
                        more=60,
                    ),
                ),
            ),
            Column(
                "4 Where",
                GREY,
                (
                    Node(
                        "maps",
                        "PreviewImage",
                        {"images": "report.maps"},
                        title="Heat maps, one per damage",
                        width=720,
                        more=230,
                    ),
                ),
            ),
            Column(
                "4 Where",
                GREY,
                (
                    Node(
                        "masks", "MaskPreview", {"mask": "report.masks"}, title="The same as masks", width=420
                    ),
                ),
            ),
        ),
        520,
    )


def _measure(name: str, title: str, image: str) -> tuple[Node, Node]:
    return (
        Node(name, "AIOR_Measure", {"reference": "photo.IMAGE", "image": image}, title=title, width=380),
        Node(
            f"{name}_errors",
            "PreviewImage",
            {"images": f"{name}.error map"},
            title="Where the errors are",
            width=380,
        ),
    )


def _damage_and_measure() -> Workflow:
    note = (
        "# Damage, restore, measure\n\n"
        "How good is the repair? That can only be measured where the undamaged picture is known. "
        "So take a **clean** photograph, damage "
        "it on purpose, repair it, and compare both with the original.\n\n"
        "- **Synthesize Degradation**: choose the damage and how bad it is. The same seed gives "
        "the same damage; its *recipe* says exactly what "
        "was done.\n"
        "- **Measure Restoration**, twice: the damaged picture against the clean one, then the "
        "repaired one. *PSNR* in dB: more is better, "
        "1 dB can be seen when flipping between the two. *SSIM*: 1 is equal.\n"
        "- **Error maps**: black is right, then red, yellow and white; eight times exaggerated.\n"
        "- At the right the damaged picture stands beside the repaired one; the repaired one alone "
        "is saved.\n\n"
        "A damage that leaves little to gain, such as blur with the present weights, shows as a "
        "small difference of the two tables."
    )
    clean = Node("photo", "LoadImage", {"image": "example.png"}, title="A clean photograph")
    return Workflow(
        "damage_and_measure",
        note,
        (
            Column("1 Photograph and model", GREEN, (clean, Node("compact", "AIOR_LoadCompact"))),
            Column(
                "2 Damage it",
                GREY,
                (
                    Node(
                        "damaged",
                        "AIOR_Degrade",
                        {"image": "photo.IMAGE", "degradation": "rain", "severity": 0.6},
                        width=340,
                    ),
                    Node(
                        "recipe", "PreviewAny", {"source": "damaged.recipe"}, title="What was done", width=340
                    ),
                ),
            ),
            Column("3 Look at it", BLUE, (_encode("damaged.image"), found())),
            Column("4 Restore it", PURPLE, (sampler(),)),
            Column("4 Restore it", PURPLE, (decode("sampler.latent"), save(prefix="AIOR_measured"))),
            Column("5 Before", GREY, _measure("before", "Damaged, against the original", "damaged.image")),
            Column("6 After", AMBER, _measure("after", "Restored, against the original", "decode.image")),
            Column(
                "7 See",
                GREEN,
                (
                    beside("both", "damaged.image", "decode.image", "right", "Damaged beside restored"),
                    seen("both.IMAGE", "Damaged and restored"),
                ),
            ),
        ),
        390,
    )


def _compare_samplers() -> Workflow:
    ways = (
        ("first", "A: 1 step", {"steps": 1}),
        ("second", "B: 4 steps, the default", {"steps": 4}),
        ("third", "C: 20 steps", {"steps": 20}),
        (
            "fourth",
            "D: DPM++ 2M, 8 steps, beta",
            {"steps": 8, "sampler_name": "dpmpp_2m", "scheduler": "beta"},
        ),
    )
    note = (
        "# Compare samplers and steps\n\n"
        "One look at the picture, one *Apply DAFF*, and four samplers on it. *Encode Degradation "
        "Prior* runs once for all of them, and when one "
        "sampler is changed only that one runs again.\n\n"
        "The saved picture shows them side by side:\n\n"
        "| | |\n|---|---|\n| A: 1 step | B: 4 steps |\n| C: 20 steps | D: another sampler |\n\n"
        "- Fewer steps are closer to the truth on average, more steps bring more texture. With the "
        "present weights the difference is small.\n"
        "- Change the settings as you like: *steps*, *sampler_name*, *scheduler*. The same *seed* "
        "everywhere makes the comparison fair.\n"
        "- *cfg* stays at 1 with the compact model: more costs twice the time.\n"
        "- A fifth: copy a sampler with its decoder (Ctrl C, Ctrl Shift V keeps the links)."
    )
    samplers = tuple(
        Node(
            name,
            "KSampler",
            {
                "model": "daff.model",
                "positive": "daff.positive",
                "negative": "daff.negative",
                "latent_image": "prior.latent",
                "seed": 0,
                "steps": 4,
                "cfg": 1.0,
                "sampler_name": "euler",
                "scheduler": "simple",
                "denoise": 1.0,
                **settings,
            },
            title=title,
        )
        for name, title, settings in ways
    )
    decoders = tuple(
        replace(decode(f"{name}.LATENT"), name=f"{name}_picture", title=f"Decode {title[0]}")
        for name, title, _ in ways
    )
    return Workflow(
        "compare_samplers",
        note,
        (
            load(),
            Column("2 Look, apply DAFF", BLUE, (_encode(), apply(), found())),
            Column("3 Sample in four ways", PURPLE, samplers[:2]),
            Column("3 Sample in four ways", PURPLE, samplers[2:]),
            Column("4 Decode each", AMBER, decoders),
            Column(
                "5 Side by side",
                GREY,
                (
                    beside("upper", "first_picture.image", "second_picture.image", "right", "A beside B"),
                    beside("lower", "third_picture.image", "fourth_picture.image", "right", "C beside D"),
                    beside("sheet", "upper.IMAGE", "lower.IMAGE", "down", "A B over C D"),
                ),
            ),
            Column(
                "6 See",
                GREEN,
                (replace(save("sheet.IMAGE", "AIOR_samplers", "A B over C D"), width=720, more=330),),
            ),
        ),
        460,
    )


WORKFLOWS = (_what_is_wrong(), _damage_and_measure(), _compare_samplers())
