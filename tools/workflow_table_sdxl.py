"""The workflows for SDXL: a restorer alone, and with LoRA, ControlNet, inpainting and an upscale model."""

from __future__ import annotations

from .workflow_pieces import AMBER, BLUE, GREEN, GREY, PURPLE, UPSCALER, Column, Node, Workflow, found

CHECKPOINT, RESTORER = "sd_xl_base_1.0.safetensors", "uniLDiff_restorer.safetensors"
LORA, CONTROLNET = "my_lora.safetensors", "controlnet-tile-sdxl.safetensors"
NEEDS = """**Needs** an SDXL checkpoint in `ComfyUI/models/checkpoints` and a restorer of that \
scale in `ComfyUI/models/aior`: one that you trained
(`docs/sdxl.md`), or a UniLDiff or FaithDiff checkpoint, converted or as it is. None comes with the pack.

"""
REFERENCE = """Euler with *ddim_uniform*, 20 steps and CFG 5 are the published settings; other \
samplers and schedulers work too. The words may be empty.
Where positive and negative say the same, CFG costs nothing and does nothing.

"""


def _load(*more: Node) -> Column:
    return Column(
        "1 Photograph, checkpoint, restorer",
        GREEN,
        (
            Node("photo", "LoadImage", {"image": "example.png"}, title="The damaged photograph"),
            Node("sdxl", "CheckpointLoaderSimple", {"ckpt_name": CHECKPOINT}, title="Your SDXL checkpoint"),
            Node("restorer", "AIOR_LoadRestorer", {"file": RESTORER}, title="A restorer for SDXL"),
            *more,
        ),
    )


def _prior(image: str = "photo.IMAGE") -> Column:
    return Column(
        "2 What is wrong with it",
        BLUE,
        (
            Node(
                "prior",
                "AIOR_EncodePrior",
                {"restorer": "restorer.restorer", "vae": "sdxl.VAE", "image": image},
            ),
            found(),
        ),
    )


def _words(*more: Node, title: str = "3 Words, as you like") -> Column:
    return Column(
        title,
        GREEN,
        (
            *more,
            Node(
                "positive",
                "CLIPTextEncode",
                {"clip": "sdxl.CLIP", "text": ""},
                title="What the picture shows",
            ),
            Node(
                "negative",
                "CLIPTextEncode",
                {"clip": "sdxl.CLIP", "text": ""},
                title="What it shall not have",
            ),
        ),
    )


def _sampler(
    model: str = "sdxl.MODEL",
    positive: str = "positive.CONDITIONING",
    negative: str = "negative.CONDITIONING",
    **more: str,
) -> Node:
    return Node(
        "sampler",
        "AIOR_DAFFSampler",
        {
            "model": model,
            "restorer": "restorer.restorer",
            "prior": "prior.prior",
            "positive": positive,
            "negative": negative,
            "steps": 20,
            "cfg": 5.0,
            "sampler_name": "euler",
            "scheduler": "ddim_uniform",
            **more,
        },
    )


def _decode() -> Node:
    return Node(
        "decode",
        "AIOR_DecodeDAEM",
        {
            "samples": "sampler.latent",
            "vae": "sdxl.VAE",
            "restorer": "restorer.restorer",
            "prior": "prior.prior",
        },
    )


def _save(
    images: str = "decode.image", prefix: str = "AIOR_sdxl", title: str = "The restored photograph"
) -> Node:
    return Node("save", "SaveImage", {"images": images, "filename_prefix": prefix}, title=title, width=360)


def _restore() -> Workflow:
    note = (
        "# Restore with SDXL\n\n"
        + NEEDS
        + REFERENCE
        + (
            "A published file may hold a denoiser that was trained with its restorer: *Load AIOR "
            "UNet* gives it, in the place of the checkpoint's MODEL."
        )
    )
    return Workflow(
        "sdxl_restore",
        note,
        (
            _load(),
            _prior(),
            _words(),
            Column("4 Sample", PURPLE, (_sampler(),)),
            Column("5 Decode", AMBER, (_decode(), _save())),
        ),
        270,
    )


def _lora() -> Workflow:
    note = (
        "# SDXL with a LoRA\n\n"
        + NEEDS
        + "A LoRA changes the denoiser under DAFF: put it between the checkpoint and the sampler, "
        "as always.\n\n" + REFERENCE
    )
    lora = Node(
        "lora",
        "LoraLoaderModelOnly",
        {"model": "sdxl.MODEL", "lora_name": LORA, "strength_model": 0.6},
        title="Your LoRA",
    )
    return Workflow(
        "sdxl_lora",
        note,
        (
            _load(),
            _prior(),
            _words(lora, title="3 LoRA and words"),
            Column("4 Sample", PURPLE, (_sampler("lora.MODEL"),)),
            Column("5 Decode", AMBER, (_decode(), _save(prefix="AIOR_sdxl_lora"))),
        ),
        270,
    )


def _controlnet() -> Workflow:
    note = (
        "# SDXL with a ControlNet\n\n"
        + NEEDS
        + (
            "The ControlNet hints with the damaged picture (a tile ControlNet is made for that). "
            "It goes with *Apply DAFF* and with the *DAFF Sampler*, "
            "in tiles too.\n\n"
        )
        + REFERENCE
    )
    return Workflow(
        "sdxl_controlnet",
        note,
        (
            _load(Node("net", "ControlNetLoader", {"control_net_name": CONTROLNET}, title="Your ControlNet")),
            _prior(),
            _words(),
            Column(
                "4 Hint",
                PURPLE,
                (
                    Node(
                        "hint",
                        "ControlNetApplyAdvanced",
                        {
                            "positive": "positive.CONDITIONING",
                            "negative": "negative.CONDITIONING",
                            "control_net": "net.CONTROL_NET",
                            "image": "photo.IMAGE",
                            "strength": 0.5,
                            "start_percent": 0.0,
                            "end_percent": 1.0,
                        },
                    ),
                ),
            ),
            Column("5 Sample", PURPLE, (_sampler(positive="hint.positive", negative="hint.negative"),)),
            Column("6 Decode", AMBER, (_decode(), _save(prefix="AIOR_sdxl_controlnet"))),
        ),
        270,
    )


def _inpaint() -> Workflow:
    note = (
        "# SDXL: repair only a masked area\n\n"
        + NEEDS
        + (
            "Right-click the loaded picture, *Open in Mask Editor*, paint over what is damaged, "
            "save. Outside of it every pixel keeps its value.\n\n"
        )
        + REFERENCE
    )
    return Workflow(
        "sdxl_masked",
        note,
        (
            _load(),
            _prior(),
            _words(),
            Column(
                "4 Sample under the mask",
                PURPLE,
                (
                    Node("mask", "SetLatentNoiseMask", {"samples": "prior.latent", "mask": "photo.MASK"}),
                    _sampler(latent="mask.LATENT"),
                ),
            ),
            Column("5 Decode", AMBER, (_decode(), _save(prefix="AIOR_sdxl_masked"))),
        ),
        270,
    )


def _upscale() -> Workflow:
    note = (
        "# SDXL: enlarge, then restore in tiles\n\n"
        + NEEDS
        + (
            "An upscale model enlarges the photograph, and the restorer repairs what it made of "
            "it, in tiles of 1024 pixels that are sampled together, so "
            "that no seam shows. *tile* is an advanced input of three nodes.\n\n"
            f"**Needs an upscale model too**, in `ComfyUI/models/upscale_models`, such as `{UPSCALER}`.\n\n"
        )
        + REFERENCE
    )
    prior = Column(
        "3 What is wrong with it",
        BLUE,
        (
            Node(
                "prior",
                "AIOR_EncodePrior",
                {"restorer": "restorer.restorer", "vae": "sdxl.VAE", "image": "enlarged.IMAGE", "tile": 1024},
            ),
            found(),
        ),
    )
    decode = _decode()
    return Workflow(
        "sdxl_upscale",
        note,
        (
            _load(),
            Column(
                "2 Enlarge",
                GREY,
                (
                    Node(
                        "upscaler", "UpscaleModelLoader", {"model_name": UPSCALER}, title="Your upscale model"
                    ),
                    Node(
                        "enlarged",
                        "ImageUpscaleWithModel",
                        {"upscale_model": "upscaler.UPSCALE_MODEL", "image": "photo.IMAGE"},
                    ),
                ),
            ),
            prior,
            _words(title="4 Words, as you like"),
            Column("5 Sample in tiles", PURPLE, (_sampler(tile=1024),)),
            Column(
                "6 Decode",
                AMBER,
                (
                    Node(decode.name, decode.type, {**decode.inputs, "tile": 1024}),
                    _save(prefix="AIOR_sdxl_upscaled"),
                ),
            ),
        ),
        330,
    )


WORKFLOWS = (_restore(), _lora(), _controlnet(), _inpaint(), _upscale())
