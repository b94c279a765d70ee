"""The workflows for the bundled model as tables of nodes. `make_workflows.py` writes their files."""

from __future__ import annotations

from .workflow_pieces import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    TEXT_WIDTH,
    UPSCALER,
    WALK,
    Column,
    Node,
    Workflow,
    apply,
    beside,
    decode,
    load,
    prior,
    sampler,
    save,
    seen,
)


def _restore() -> Workflow:
    note = (
        "# Restore a photograph\n\n"
        + WALK.format(sample="DAFF Sampler")
        + (
            "Pick a picture, press Run. Noise, blur, low resolution, rain, snow, haze, low light "
            "and JPEG damage, alone or mixed, need no "
            "setting.\n\n"
            "- **steps**: 1 is closest to the truth on average, 4 sharper, 20 for texture.\n"
            "- **fidelity**: 0 lets the sampler invent texture, 1 holds it back.\n"
            "- **seed**: another one, another plausible result.\n"
            "- Large pictures are cut into tiles where memory demands it; *tile* (an advanced "
            "input of three nodes) sets their size.\n\n"
            "`python3 aior.py restore` runs this file."
        )
    )
    return Workflow(
        "restore",
        note,
        (
            load(),
            prior(),
            Column("3 Sample", PURPLE, (sampler(),)),
            Column("4 Decode", AMBER, (decode("sampler.latent"), save())),
        ),
        430,
    )


def _ksampler() -> Workflow:
    note = (
        "# The stock KSampler\n\n"
        + WALK.format(sample="Apply DAFF + KSampler")
        + (
            "*Apply DAFF* gives a MODEL and two conditionings that carry the prior: connect all "
            "three. Any sampler, scheduler, guider or "
            "model patch that takes a MODEL works. With the settings here the result equals the "
            "*DAFF Sampler*'s.\n\n"
            "The latent of *Encode Degradation Prior* has the right size. The sampler adds noise "
            "to it: at denoise 1 nothing of it is left; "
            "below 1 the result stays closer to the damaged picture."
        )
    )
    return Workflow(
        "restore_ksampler",
        note,
        (
            load(),
            prior(),
            Column(
                "3 Apply DAFF, sample",
                PURPLE,
                (
                    apply(),
                    Node(
                        "sampler",
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
                        },
                    ),
                ),
            ),
            Column("4 Decode", AMBER, (decode("sampler.LATENT"), save())),
        ),
        350,
    )


def _custom_sampler() -> Workflow:
    note = (
        "# SamplerCustomAdvanced and CFGGuider\n\n"
        + WALK.format(sample="Apply DAFF + SamplerCustomAdvanced")
        + (
            "Noise, guider, sampler and sigmas as nodes of their own, for schedules and guiders "
            "that KSampler does not have. The model is a "
            "rectified flow: its sigmas go from 1 to 0.\n\n"
            "*cfg* above 1 pushes the result away from what the model makes without knowing the damages."
        )
    )
    return Workflow(
        "restore_custom_sampler",
        note,
        (
            load(),
            prior(),
            Column("3 Apply DAFF", PURPLE, (apply(), Node("noise", "RandomNoise", {"noise_seed": 0}))),
            Column(
                "4 Sample",
                PURPLE,
                (
                    Node(
                        "guider",
                        "CFGGuider",
                        {
                            "model": "daff.model",
                            "positive": "daff.positive",
                            "negative": "daff.negative",
                            "cfg": 1.0,
                        },
                    ),
                    Node("kind", "KSamplerSelect", {"sampler_name": "euler"}),
                    Node(
                        "sigmas",
                        "BasicScheduler",
                        {"model": "daff.model", "scheduler": "simple", "steps": 4, "denoise": 1.0},
                    ),
                    Node(
                        "sampler",
                        "SamplerCustomAdvanced",
                        {
                            "noise": "noise.NOISE",
                            "guider": "guider.GUIDER",
                            "sampler": "kind.SAMPLER",
                            "sigmas": "sigmas.SIGMAS",
                            "latent_image": "prior.latent",
                        },
                    ),
                ),
            ),
            Column("5 Decode", AMBER, (decode("sampler.output"), save())),
        ),
        370,
    )


def _upscale() -> Workflow:
    note = (
        "# Restore, then upscale\n\n"
        "Restoration gives a clean picture of the same size; an upscale model then enlarges it. "
        "Upscalers take noise and JPEG blocks for "
        "texture and enlarge them too, so restoring first is the better order.\n\n"
        "**Needs an upscale model of your own** in `ComfyUI/models/upscale_models`: any file that "
        "*Load Upscale Model* takes, such as "
        f"`{UPSCALER}`, a 4x-UltraSharp, SwinIR, HAT or DAT file. Choose it in *Load Upscale Model*."
    )
    return Workflow(
        "restore_upscale",
        note,
        (
            load(),
            prior(),
            Column("3 Sample", PURPLE, (sampler(),)),
            Column("4 Decode", AMBER, (decode("sampler.latent"),)),
            Column(
                "5 Upscale",
                GREY,
                (
                    Node(
                        "upscaler", "UpscaleModelLoader", {"model_name": UPSCALER}, title="Your upscale model"
                    ),
                    Node(
                        "upscale",
                        "ImageUpscaleWithModel",
                        {"upscale_model": "upscaler.UPSCALE_MODEL", "image": "decode.image"},
                    ),
                    save("upscale.IMAGE", "AIOR_upscaled", "Restored and enlarged"),
                ),
            ),
        ),
        230,
    )


def _masked() -> Workflow:
    note = (
        "# Repair only a masked area\n\n"
        "Right-click the loaded picture, *Open in Mask Editor*, paint over what is damaged, save.\n\n"
        "*Set Latent Noise Mask* puts the mask on the latent. The sampler works only there, and "
        "*DAEM Decode* gives every pixel outside "
        "the mask back as it came in; the mask's inner border is blended.\n\n"
        "A mask by degradation: connect *masks* of *Degradation Report* (one per damage) instead "
        "of the painted one.\n\n"
        "This repairs what is there under the mask. It does not invent what is missing: for "
        "objects to remove, use an inpainting model."
    )
    return Workflow(
        "restore_masked",
        note,
        (
            load(),
            prior(),
            Column(
                "3 Sample under the mask",
                PURPLE,
                (
                    Node("mask", "SetLatentNoiseMask", {"samples": "prior.latent", "mask": "photo.MASK"}),
                    sampler(latent="mask.LATENT"),
                ),
            ),
            Column("4 Decode", AMBER, (decode("sampler.latent"), save(prefix="AIOR_masked"))),
        ),
        270,
    )


def _batch() -> Workflow:
    note = (
        "# A folder of photographs\n\n"
        "Put the pictures into a folder inside ComfyUI's `input` folder and choose it in *Load "
        "Image (from Folder)*. The graph runs for "
        "each of them, whatever its size; the model is loaded once.\n\n"
        "Frames of one size can also go through the model as one batch: join them with *Batch Images*.\n\n"
        "On the command line, `python3 aior.py restore FOLDER` does the same, and continues where it stopped."
    )
    photos = Column(
        "1 Photographs and model",
        GREEN,
        (
            Node(
                "photos",
                "LoadImageDataSetFromFolder",
                {"folder": "photographs"},
                title="A folder inside ComfyUI's input folder",
            ),
            Node("compact", "AIOR_LoadCompact"),
        ),
    )
    return Workflow(
        "restore_batch",
        note,
        (
            photos,
            prior("photos.images"),
            Column("3 Sample", PURPLE, (sampler(),)),
            Column(
                "4 Decode",
                AMBER,
                (decode("sampler.latent"), save(prefix="AIOR_batch", title="The restored photographs")),
            ),
        ),
        240,
    )


def _keep_grain() -> Workflow:
    note = (
        "# Keep the grain\n\n"
        "Rain, snow, haze and the rest are removed; noise, which is what film grain is, stays.\n\n"
        "*Steer Degradations* has a weight per damage: 1 removes it, 0 leaves it in. Here *noise* "
        "is at 0. Its prior goes to the sampler "
        "**and** to the decoder.\n\n"
        "*Degradation Report* says what was found, and what is to be left in.\n\n"
        "To leave the fog in and remove the noise, set *haze* to 0 and *noise* to 1. A damage that "
        "was not found cannot be steered."
    )
    return Workflow(
        "restore_keep_grain",
        note,
        (
            load(),
            prior(),
            Column(
                "3 What to leave in",
                BLUE,
                (
                    Node("steer", "AIOR_SteerPrior", {"prior": "prior.prior", "noise": 0.0}),
                    Node("steered", "AIOR_PriorReport", {"prior": "steer.prior"}, width=TEXT_WIDTH),
                ),
            ),
            Column("4 Sample", PURPLE, (sampler(prior="steer.prior"),)),
            Column(
                "5 Decode",
                AMBER,
                (
                    decode("sampler.latent", "steer.prior"),
                    save(prefix="AIOR_grain", title="Restored, with its grain"),
                ),
            ),
            Column(
                "6 See",
                GREEN,
                (
                    beside("both", "photo.IMAGE", "decode.image", "right", "Before beside after"),
                    seen("both.IMAGE", "Before and after"),
                ),
            ),
        ),
        240,
    )


def _finetune() -> Workflow:
    note = (
        "# Train on your own damage\n\n"
        "For damage that the model does not know: film scans, a bad sensor, an old codec.\n\n"
        "**Pairs** teach most: a folder in ComfyUI's `input` folder with `lq/` (damaged) and `gt/` "
        "(clean), the two pictures of a pair "
        "under one name and exactly over each other. 20 pairs and 5 minutes show something, more "
        "of both is better.\n\n"
        "**Clean pictures alone** work too: the damages that are switched on (show advanced "
        "inputs) are made on them.\n\n"
        "- Load a damaged picture: it is repaired in the previews while the training runs, and at the end.\n"
        "- *Cancel* keeps what was learnt; the same settings with more **minutes** go on.\n"
        "- The file goes to `output/restorers`. *Load AIOR Restorer* loads it, in place of the "
        "restorer of *Load AIOR Compact*."
    )
    mine = "train.restorer"
    return Workflow(
        "finetune",
        note,
        (
            load(),
            Column(
                "2 Train",
                PURPLE,
                (
                    Node(
                        "train",
                        "AIOR_TrainRestorer",
                        {
                            "model": "compact.model",
                            "vae": "compact.vae",
                            "restorer": "compact.restorer",
                            "damaged": "photo.IMAGE",
                            "folder": "my_pairs",
                        },
                        width=TEXT_WIDTH,
                    ),
                    Node(
                        "keep",
                        "AIOR_SaveRestorer",
                        {"restorer": mine, "filename_prefix": "restorers/mine"},
                        width=TEXT_WIDTH,
                    ),
                ),
            ),
            Column(
                "3 How it went",
                GREY,
                (Node("plot", "PreviewImage", {"images": "train.loss_plot"}, title="Loss"),),
            ),
            prior(restorer=mine, title="4 What is wrong with the photograph"),
            Column("5 Restore it", PURPLE, (sampler(restorer=mine),)),
            Column("6 Decode", AMBER, (decode("sampler.latent", restorer=mine), save(prefix="AIOR_trained"))),
        ),
        370,
    )


WORKFLOWS = (
    _restore(),
    _ksampler(),
    _custom_sampler(),
    _upscale(),
    _masked(),
    _batch(),
    _keep_grain(),
    _finetune(),
)
