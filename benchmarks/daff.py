"""Time that the exact speed-ups of DAFF save, one by one and together, and how far their results are from
plain DAFF.

    python benchmarks/daff.py                         the official widths, 32x32 latents (256x256 pixels)
    python benchmarks/daff.py --latent 64 --repeats 1

The weights are random and have UniLDiff's shapes; the time does not depend on their values. "plain" does at
every step what the published code does: it computes all queries of the double block, embeds the condition,
and computes both halves of CFG. Each row changes one of these, the last row all. The second table shows what
keeping the condition's tokens in the CONDITIONING for the whole run would save (docs/sdxl.md).
"""

from __future__ import annotations

import functools

import torch
from _command import command_line, run
from _host import room, start_comfy, timed
from _results import as_table, write_results
from _tables import stored
from torch import Tensor


class Forms:
    """DAFF at the official widths on one picture, with or without each speed-up."""

    def __init__(self, latent: int, device: str, dtype: torch.dtype):
        config = room("aior_core.models.config").DAFFConfig(
            mode="official",
            unet_width=320,
            condition_width=512,
            width=1024,
            heads=16,
            mlp_ratio=4.0,
            patch=1,
            condition_norm="group",
        )
        with torch.device(device):
            self.daff = room("aior_core.models.daff").DAFF(config).to(dtype).requires_grad_(False)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.daff.parameters():
            fan = parameter[0].numel() if parameter.ndim > 1 else 50
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan**0.5)
        self.h = torch.randn(1, 320, latent, latent, generator=generator).to(device, dtype)
        self.feature = torch.randn(1, 512, latent, latent, generator=generator).to(device, dtype)
        self.kept = self.daff.embed(self.feature)
        self.timestep = torch.tensor([951], device=device)
        self.double = self.daff.information_transformer_layers.double_blocks[0]

    def step(self, *, all_queries: bool, embed_again: bool, halves: int) -> Tensor:
        """DAFF's part of one sampling step; returns `halves 320 h w`."""
        condition = self.daff.embed(self.feature) if embed_again else self.kept
        forward = type(self.double).forward
        if all_queries:
            self.double.forward = lambda *args, update_latent: forward(self.double, *args, update_latent=True)
        try:
            out = self.daff(
                self.h.expand(halves, -1, -1, -1),
                condition.expand(halves, -1, -1, -1),
                self.timestep.expand(halves),
            )
        finally:
            self.double.__dict__.pop("forward", None)
        return out.expand(2, -1, -1, -1)

    def condition_tokens(self, halves: int, *, kept: bool) -> Tensor:
        """Tokens `halves N 1024` of the condition from what the host hands over at a step, the halves of CFG
        joined: the condition, or its tokens made before the run."""
        fusion = self.daff.information_transformer_layers
        if kept:
            return self.daff._tokens(torch.cat([self.kept_tokens] * halves)).contiguous()
        return fusion.cond_in(self.daff._tokens(torch.cat([self.kept] * halves)))

    @functools.cached_property
    def kept_tokens(self) -> Tensor:
        height, width = self.kept.shape[2:]
        return self.condition_tokens(1, kept=False).transpose(1, 2).unflatten(2, (height, width)).contiguous()


PLAIN = {"all_queries": True, "embed_again": True, "halves": 2}
ROWS = {
    "plain": {},
    "queries of the condition alone": {"all_queries": False},
    "condition embedded once": {"embed_again": False},
    "equal halves of CFG once": {"halves": 1},
    "all three": {"all_queries": False, "embed_again": False, "halves": 1},
}


@torch.inference_mode()
def main(argv: list[str] | None = None) -> int:
    parser = command_line(__doc__)
    parser.add_argument(
        "--latent", type=int, default=32, help="side of the latent, an eighth of the picture's"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--half", action="store_true", help="fp16, as on a GPU")
    options = parser.parse_args(argv)
    start_comfy("cpu" if options.device == "cpu" else "auto")
    forms = Forms(options.latent, options.device, torch.float16 if options.half else torch.float32)

    def measured(form: dict) -> tuple[float, Tensor]:
        forms.step(**form)  # to warm up
        return timed(lambda: forms.step(**form), options.repeats)

    plain_seconds, plain = measured(PLAIN)
    print(
        f"DAFF, {sum(p.numel() for p in forms.daff.parameters()) / 1e6:.1f} M parameters, "
        f"{options.latent}x{options.latent} latents, one step\n"
    )
    forms_rows, token_rows = [], []
    for name, changes in ROWS.items():
        seconds, result = (plain_seconds, plain) if not changes else measured({**PLAIN, **changes})
        difference = ((result - plain).abs().max() / plain.abs().max()).item()
        forms_rows.append([name, f"{seconds:.3f}", f"{seconds / plain_seconds:.0%}", f"{difference:.1e}"])
    for halves, whole in ((2, plain_seconds), (1, seconds)):
        expected = forms.condition_tokens(halves, kept=False)
        for kept, name in ((False, "made at every step"), (True, "kept for the run")):
            action = functools.partial(forms.condition_tokens, halves, kept=kept)
            action()
            took, result = timed(action, 10 * options.repeats)
            difference = ((result - expected).abs().max() / expected.abs().max()).item()
            cells = [str(halves), f"{took:.4f}", f"{took / whole:.2%}", f"{difference:.1e}"]
            token_rows.append([name, *cells])
    largest = "largest difference, relative"
    results = {
        "benchmark": "daff",
        "device": options.device,
        "latent": options.latent,
        "half": options.half,
        "table": as_table(["form", "seconds", "of plain", largest], forms_rows),
        "tokens": as_table(
            ["the condition's tokens", "halves", "seconds", "of the whole step", largest], token_rows
        ),
    }
    print(f"{stored(results)}\n\n{stored(results, 'tokens')}")
    if options.json:
        write_results(options.json, results)
    return 0


if __name__ == "__main__":
    run(main)
