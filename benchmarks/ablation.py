"""Ablation: the contributions of DAFF's parts, its modulation by time, the tokens and DAEM, at equal budgets.

    python benchmarks/ablation.py --data FOLDER              the table
    python benchmarks/ablation.py --data FOLDER --steps 100  a quick look

All variants start with the same networks: the autoencoder and the LQ encoder of the weights, which stay
fixed, and the denoiser after --forget steps of unconditional training, so that it does not depend on the DAFF
it was trained with. Each variant gets a newly initialised fusion and trains it together with the denoiser for
--steps steps of the stage `fusion`, on the same crops, damages and noise in the same order. The encoders are
not trained, so --crops damaged crops are encoded once for all variants. The table has the PSNR in dB of the
damaged pictures, and of 4 steps of the sampler with the plain decoder and, in the last row, with DAEM. It is
measured on validation pictures under the damages of the training's own validation.

UniLDiff reports (table 6): none 23.12, static (its RSA) 24.08, single only 25.39, double only 25.84, full
27.14, with tokens 27.36; with DAEM 30.27 (table 7).
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from _command import command_line, run
from _host import ROOT, bundled, room, start_comfy
from _results import as_table, weights_used, write_results
from _tables import stored
from torch import Tensor, nn
from torch.nn import Conv2d

SIDE, SAMPLING_STEPS, SEED = 192, 4, 0


class Added(nn.Module):
    """No fusion: adds the projected condition to the denoiser's first feature at every timestep alike."""

    def __init__(self, daff: nn.Module):
        super().__init__()
        self.embedding = daff.condition_embedding
        width = daff.config.unet_width
        self.project = Conv2d(width, width, 1)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def embed(self, feature: Tensor) -> Tensor:
        return self.embedding(feature)

    def forward(self, h: Tensor, condition: Tensor, timestep: Tensor) -> Tensor:
        return self.project(condition)


class Static(nn.Module):
    """DAFF that always gets timestep 0."""

    def __init__(self, daff: nn.Module):
        super().__init__()
        self.daff = daff

    def embed(self, feature: Tensor) -> Tensor:
        return self.daff.embed(feature)

    def forward(self, h: Tensor, condition: Tensor, timestep: Tensor) -> Tensor:
        return self.daff(h, condition, torch.zeros_like(timestep))


class Untold(nn.Module):
    """Degradation tokens that are always the unknown ones."""

    def __init__(self, tokens: nn.Module):
        super().__init__()
        self.tokens = tokens

    def unknown(self, severities: Tensor) -> Tensor:
        return self.tokens.unknown(severities)

    forward = unknown


@dataclass(frozen=True)
class Variant:
    """A variant of the fusion.

    blocks: numbers of double and single blocks. width: of a token, 0 for that of the weights. wrap: makes the
    fusion from a new DAFF. tokens: whether the denoiser gets the severities.
    """

    name: str
    blocks: tuple[int, int] = (1, 1)
    width: int = 0
    wrap: Callable[[nn.Module], nn.Module] | None = None
    tokens: bool = False


VARIANTS = (
    Variant("no fusion", wrap=Added),
    Variant("single only", (0, 1)),
    Variant("double only", (1, 0)),
    Variant("static (timestep 0)", wrap=Static),
    Variant("full DAFF"),
    # A token stands for four latent pixels of a condition with 64 channels, more than 160 numbers can hold.
    Variant("full DAFF, 256 wide", width=256),
    Variant("full DAFF + tokens", tokens=True),
)


def started(variant: Variant, state: dict[str, Tensor], config):
    """Networks with the weights of `state` and the newly initialised fusion of the variant."""
    networks_room, layers = room("aior_core.training.networks"), room("aior_core.models.layers")
    networks = networks_room.build(config, seed=SEED)
    networks.load_state_dict(networks.state_dict() | state)
    (doubles, singles), width = variant.blocks, variant.width or config.restorer.daff.width
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        daff = room("aior_core.models.daff").DAFF(
            dataclasses.replace(
                config.restorer.daff, double_blocks=doubles, single_blocks=singles, width=width
            )
        )
        layers.initialise(daff, torch.Generator().manual_seed(SEED))
        fusion = variant.wrap(daff) if variant.wrap else daff
    if not variant.tokens:
        networks.prior.tokens = Untold(networks.prior.tokens)
    return dataclasses.replace(networks, daff=fusion.to(memory_format=torch.channels_last))


class Crops:
    """`count` damaged crops of the stage `fusion`, encoded once, with targets that keep no damage.

    A `loop.Draw`.
    """

    def __init__(self, networks, photographs, count: int):
        fresh = room("aior_core.training.batches").fresh_crops(photographs, None, 0.0, "cpu")
        self.buffer = room("aior_core.training.replay_buffer").LatentBuffer(
            networks, fresh, "cpu", capacity=count, selective=0.0
        )
        side, _ = room("aior_core.training.stages").STAGES["fusion"].crops(0.0, 0)
        generator = torch.Generator().manual_seed(SEED)
        while self.buffer.count < count:
            self.buffer.add(self.buffer.encode(8, side, generator))

    def __call__(self, count: int, side: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        return self.buffer.sampled(count, generator)


def train(networks, stage, photographs, steps: int, draw: Callable | None = None) -> None:
    """Train `steps` steps of a stage, at its own learning rate, on batches of `draw`.

    Leaves EMA weights in `networks`.
    """
    loop = room("aior_core.training.loop")
    with tempfile.TemporaryDirectory() as folder, torch.enable_grad():
        options = loop.Options(Path(folder), minutes=1e6, seed=SEED, ema_decay=0.99)
        loop.train(
            networks,
            stage,
            photographs,
            options,
            say=lambda text: None,
            watch=lambda now: now.step < steps,
            draw=draw,
        )


@torch.no_grad()
def measure(crops: list[Tensor], restore: Callable[[Tensor], Tensor]) -> list[float]:
    """Mean PSNR in dB over `crops` (`1 3 H W`) after `restore`, per damage of `PRESETS`."""
    degradations, psnr = room("aior_core.degradations"), room("aior_core.metrics").psnr
    means = []
    for kind, severity, parameters in room("aior_core.training.validation").PRESETS.values():
        recipes = [
            degradations.preset_recipe(kind, severity, 1000 + index, **parameters)
            for index in range(len(crops))
        ]
        results = [
            restore(degradations.apply_recipe(clean, recipe)).float().clamp(-1, 1)
            for clean, recipe in zip(crops, recipes, strict=True)
        ]
        means.append(
            sum(psnr(result, clean).mean().item() for result, clean in zip(results, crops)) / len(crops)
        )
    return means


def walk(networks, *, detail: bool) -> Callable[[Tensor], Tensor]:
    """A function that restores with 4 steps of the sampler and the plain decoder or, with `detail`, DAEM."""
    restoration = room("aior_core.training.restoration")

    def restore(lq: Tensor) -> Tensor:
        encoded = restoration.encode_prior(networks, lq)
        latent = restoration.sample(networks, encoded, SAMPLING_STEPS, torch.Generator().manual_seed(SEED))
        return restoration.repair(networks, encoded, lq, latent)[0] if detail else networks.vae.decode(latent)

    return restore


def main(argv: list[str] | None = None) -> int:
    parser = command_line(__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        default=[ROOT.parent / "shared" / "data" / "train"],
        help="folders of photographs",
    )
    parser.add_argument("--steps", type=int, default=400, help="training steps per variant")
    parser.add_argument(
        "--forget", type=int, default=200, help="steps of unconditional training before, the same for all"
    )
    parser.add_argument("--crops", type=int, default=1024, help="damaged crops that all of them learn from")
    parser.add_argument("--pictures", type=int, default=4, help="validation pictures")
    parser.add_argument(
        "--weights", type=Path, help="compact weights to begin with (default: the bundled ones)"
    )
    options = parser.parse_args(argv)
    start_comfy("cpu")
    data, weights = room("aior_core.training.data"), room("aior_core.weights")
    state, metadata = weights.load_weights(options.weights or bundled())
    state = {key: value.float() for key, value in state.items()}
    config = weights.config_from(state, metadata)
    photographs = data.load(data.find_pictures(options.data, validation=False))
    held_out = data.find_pictures(options.data, validation=True)
    if not held_out:
        raise SystemExit(
            "ablation: no validation pictures; --data needs a MANIFEST.csv with a column `split`"
        )
    crops = [
        data.centre_crop(p, SIDE)
        for p in data.load(held_out[:: max(1, len(held_out) // options.pictures)]).pictures[
            : options.pictures
        ]
    ]
    common = room("aior_core.training.networks").build(config, seed=SEED)
    common.load_state_dict(state)
    stages = room("aior_core.training.stages").STAGES
    train(common, stages["prior"], photographs, options.forget)
    encoded = Crops(common, photographs, options.crops)
    state = {key: value for key, value in common.state_dict().items() if not key.startswith("daff.")}
    rows = [["damaged", *measure(crops, lambda lq: lq)]]
    for variant in VARIANTS:
        networks = started(variant, state, config)
        train(
            networks,
            stages["fusion"],
            photographs,
            options.steps,
            encoded,
        )
        rows.append([variant.name, *measure(crops, walk(networks, detail=False))])
        print(f"{variant.name}: {sum(rows[-1][1:]) / len(rows[-1][1:]):.2f} dB", flush=True)
    rows.append([f"{VARIANTS[-1].name} + DAEM", *measure(crops, walk(networks, detail=True))])
    cells = [
        [name, f"{sum(values) / len(values):.2f}", *(f"{value:.2f}" for value in values)]
        for name, *values in rows
    ]
    damages = list(room("aior_core.training.validation").PRESETS)
    print(
        f"\n{options.steps} steps each on {options.crops} crops, {len(crops)} pictures, "
        f"{SAMPLING_STEPS} sampling steps\n"
    )
    results = {
        "benchmark": "ablation",
        "steps": options.steps,
        "crops": options.crops,
        "pictures": len(crops),
        "weights": weights_used(options.weights),
        "table": as_table(["variant", "mean", *damages], cells),
    }
    print(stored(results))
    if options.json:
        write_results(options.json, results)
    return 0


if __name__ == "__main__":
    run(main)
