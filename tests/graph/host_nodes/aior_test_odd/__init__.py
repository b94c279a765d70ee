"""Nodes that only the graph tests' server has: what no node should send, and some do."""

import torch


def smooth(height, width, channels=3, batch=1):
    """A seeded picture `B H W C`, 0..1."""
    generator = torch.Generator().manual_seed(height + width)
    coarse = torch.rand(batch, channels, 4, 4, generator=generator)
    return (
        torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
        .movedim(1, -1)
        .contiguous()
    )


def spoilt(picture, value):
    picture[0, 0, 0, 0] = value
    return picture


IMAGES = {
    "grey": lambda h, w: smooth(h, w, 1),
    "grey and alpha": lambda h, w: smooth(h, w, 2),
    "rgba": lambda h, w: smooth(h, w, 4),
    "five channels": lambda h, w: smooth(h, w, 5),
    "no batch": lambda h, w: smooth(h, w)[0],
    "video": lambda h, w: smooth(h, w)[None],
    "empty batch": lambda h, w: smooth(h, w)[:0],
    "no width": lambda h, w: smooth(h, w)[:, :, :0],
    "no channels": lambda h, w: smooth(h, w)[..., :0],
    "half": lambda h, w: smooth(h, w).half(),
    "bfloat16": lambda h, w: smooth(h, w).bfloat16(),
    "double": lambda h, w: smooth(h, w).double(),
    "bytes": lambda h, w: smooth(h, w).mul(255).byte(),
    "bool": lambda h, w: smooth(h, w) > 0.5,
    "strided": lambda h, w: smooth(w, h).transpose(1, 2).flip(1),
    "expanded": lambda h, w: smooth(h, w).expand(2, -1, -1, -1),
    "beyond": lambda h, w: smooth(h, w) * 8 - 3,
    "huge": lambda h, w: smooth(h, w) * 1e30,
    "nan": lambda h, w: spoilt(smooth(h, w), float("nan")),
    "inf": lambda h, w: spoilt(smooth(h, w), float("inf")),
    "none": lambda h, w: None,
    "text": lambda h, w: "a picture",
    "list": lambda h, w: [smooth(h, w)],
}


class OddImage:
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "make", "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "kind": (list(IMAGES),),
                "height": ("INT", {"default": 32}),
                "width": ("INT", {"default": 40}),
            }
        }

    def make(self, kind, height, width):
        return (IMAGES[kind](height, width),)


class ImageList:
    """Pictures of several sizes as a list, not a batch: each passes the following nodes by itself."""

    RETURN_TYPES, OUTPUT_IS_LIST, FUNCTION, CATEGORY = ("IMAGE",), (True,), "make", "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"count": ("INT", {"default": 3, "min": 0})}}

    def make(self, count):
        return ([smooth(32 + 8 * i, 40 + 3 * i) for i in range(count)],)


LATENTS = {
    "empty batch": lambda x: {"samples": x[:0]},
    "one side": lambda x: {"samples": x[0, 0, 0]},
    "video": lambda x: {"samples": x[:, :, None]},
    "nan": lambda x: {"samples": x * float("nan")},
    "bytes": lambda x: {"samples": x.byte()},
    "double": lambda x: {"samples": x.double()},
    "no samples": lambda x: {"pixels": x},
    "text": lambda x: {"samples": "a latent"},
    "none": lambda x: None,
    "wrong mask": lambda x: {"samples": x, "noise_mask": torch.ones(3, 5)},
    "wrong index": lambda x: {"samples": x, "batch_index": [10**6]},
}


class OddLatent:
    RETURN_TYPES, FUNCTION, CATEGORY = ("LATENT",), "make", "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"kind": (list(LATENTS),), "latent": ("LATENT",)}}

    def make(self, kind, latent):
        return (LATENTS[kind](latent["samples"].clone()),)


THINGS = {
    "text": str,
    "none": lambda _: None,
    "nan": lambda _: float("nan"),
    "list": list,
    "dict": lambda text: {text: text},
    "number": float,
    "whole": int,
}


class Anything:
    """A socket of type *, which the host connects to every input and checks no value of."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("*",), "make", "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"kind": (list(THINGS),), "text": ("STRING", {"default": ""})}}

    def make(self, kind, text):
        return (THINGS[kind](text),)


NODE_CLASS_MAPPINGS = {
    "AIORTest_OddImage": OddImage,
    "AIORTest_ImageList": ImageList,
    "AIORTest_OddLatent": OddLatent,
    "AIORTest_Anything": Anything,
}
