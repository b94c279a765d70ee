"""Loads mutated weight files in a process of its own, which may crash: `load_mutated.py FOLDER FIRST LAST`
writes FOLDER/report.jsonl.

A line `{"begin": N, "what": ...}` before and `{"end": N, "outcome": ..., ...}` after each, so that a crash
has a name.
"""

from __future__ import annotations

import faulthandler
import json
import re
import resource
import shutil
import sys
import time
from pathlib import Path

import conftest  # noqa: F401  the pack and the host become importable
import torch
from aior_pack.aior_core.host.compact_model import load_compact
from aior_pack.aior_core.host.daem_decode import decode_daem
from aior_pack.aior_core.host.prior_encode import encode_prior
from aior_pack.aior_core.host.restorer import load_restorer
from aior_pack.aior_core.host.sampling import sample_daff
from aior_pack.aior_core.host.unet_file import load_unet
from aior_pack.aior_core.weights import describe
from aior_pack.tests.mutated_file import Case, Source, draft
from aior_pack.tests.mutations import mutate
from aior_pack.tests.tiny import TINY, compact_state, picture, restorer_state
from aior_pack.tests.unit.test_published import NARROW, UNET, faithdiff, filled, unildiff
from torch import Tensor

ALLOWED = 2 * 2**30
SECONDS = 120
EXPECTED = (ValueError, FileNotFoundError, RuntimeError)
IMAGE = picture(32, 40)


def sources() -> list[Source]:
    """Small files: the compact model, a restorer, one with preview colours, and both published formats."""
    compact, restorer = stored(compact_state(TINY)), stored(restorer_state(TINY.restorer))
    colors = json.dumps([[0.01 * i, 0.1, -0.1] for i in range(TINY.autoencoder.latent_channels + 1)])
    return [
        Source(
            compact, describe(TINY) | {"set": "a", "shards": "1"}, ("compact", "compact", "restorer", "unet")
        ),
        Source(compact, describe(TINY) | {"latent_rgb": colors}, ("compact",)),
        Source(
            restorer,
            describe(TINY.restorer) | {"training": "none"},
            ("restorer", "restorer", "restorer", "compact"),
        ),
        Source(stored(filled(unildiff(NARROW) | UNET)), {}, ("restorer", "unet")),
        Source(stored(filled(faithdiff(NARROW))), {}, ("restorer", "unet", "compact")),
    ]


def stored(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.half() for key, value in state.items()}


def attempt(case: Case, sound: tuple) -> None:
    """Load the file, and if that goes well, restore a small picture with what was loaded."""
    if case.loader == "unet":
        load_unet(case.path)
        return
    model, vae, restorer = (
        load_compact(case.path) if case.loader == "compact" else (*sound[:2], load_restorer(case.path))
    )
    prior = encode_prior(restorer, vae, IMAGE)
    latent = sample_daff(model, restorer, prior, steps=1, seed=1)
    image = decode_daem(latent, vae, restorer, prior)
    assert image.shape == IMAGE.shape and torch.isfinite(image).all()


def sentence(error: Exception) -> bool:
    """Whether a person can read it: words, an end, no endless list, nothing that moves the cursor."""
    text = str(error)
    return (
        len(text) < 3000
        and text.isprintable()
        and text.endswith(".")
        and len(re.findall(r"[a-z]{2,} [a-z]{2,}", text)) >= 2
    )


def peak() -> int:
    """The most memory since `forget_peak`, in bytes."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def judged(case: Case, sound: tuple) -> str:
    """ "loaded", "refused: ..." or "WRONG: ..."."""
    try:
        attempt(case, sound)
    except EXPECTED as error:
        text = f"{type(error).__name__}: {error}"
        if re.search("can't allocate|not enough memory|MemoryError", text):
            return f"WRONG: asked for memory: {text}"
        return f"refused: {text}" if sentence(error) else f"WRONG: no sentence: {text}"
    except BaseException as error:
        return f"WRONG: {type(error).__name__}: {error}"
    return "loaded"


def main() -> None:
    folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    made = sources()
    place = folder / "file"
    place.mkdir()
    base = place / "sound.safetensors"
    base.write_bytes(draft(made[0].tensors, made[0].metadata).bytes())
    with (
        torch.inference_mode(),
        (folder / "report.jsonl").open("a", encoding="utf-8", errors="replace") as report,
    ):
        sound = load_compact(base)
        # Warm: what the first walk allocates for good is not the mutations'.
        attempt(Case(base, "compact", "sound"), sound)
        used = 1024 * int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1])
        resource.setrlimit(resource.RLIMIT_AS, (used + ALLOWED, used + ALLOWED))
        for number in range(first, last):
            shutil.rmtree(place)
            place.mkdir()
            case = mutate(made, number, place)
            print(
                json.dumps({"begin": number, "what": case.what, "loader": case.loader}),
                file=report,
                flush=True,
            )
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            forget_peak()
            before, started = peak(), time.monotonic()
            outcome = judged(case, sound)
            if (place / "ran").exists():
                outcome = "WRONG: code was run"
            line = {
                "end": number,
                "outcome": outcome,
                "bytes": peak() - before,
                "seconds": round(time.monotonic() - started, 2),
            }
            print(json.dumps(line), file=report, flush=True)
            faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
