"""The workflow for a video: restores its frames as one batch, without flicker, and keeps sound and speed."""

from __future__ import annotations

from .workflow_pieces import AMBER, BLUE, GREEN, PURPLE, Column, Node, Workflow, decode, found, sampler

SMOOTH = 4


def _video() -> Workflow:
    note = (
        "# The frames of a video\n\n"
        "Choose a video, press Run. Sound and speed stay as they are.\n\n"
        "Against flicker:\n\n"
        f"- *smooth* of **Encode Degradation Prior** is {SMOOTH}: what is judged of a whole frame "
        f"is averaged over {SMOOTH} frames on either "
        "side. Set it to 0 where scenes change within the piece.\n"
        "- *noise* of **DAFF Sampler** is *same for all*: what the sampler invents stands still.\n\n"
        "(Both are advanced inputs: click *Show advanced inputs* on the node.)\n\n"
        "**Memory**: all frames are held at once, about 60 MB for each frame of a million pixels, "
        "beside 1 to 2 GB for the model at work. Ten "
        "seconds of 640x480 at 25 frames a second take about 6 GB, one second of 1920x1080 about 5 "
        "GB. On a processor a frame takes seconds; "
        "a GPU is the better place.\n\n"
        "**Longer videos**: cut out pieces with *Trim Video*, between *Load Video* and *Get Video "
        "Components*, and run the graph for each.\n\n"
        "Every frame is repaired for itself; nothing is borrowed from its neighbours but the "
        "estimate. Rain that covers a spot in one frame "
        "only is not looked up in the next."
    )
    settings = {
        "restorer": "compact.restorer",
        "vae": "compact.vae",
        "image": "frames.images",
        "smooth": SMOOTH,
    }
    return Workflow(
        "restore_video",
        note,
        (
            Column(
                "1 Video and model",
                GREEN,
                (
                    Node("video", "LoadVideo", {"file": "your_video.mp4"}, title="The damaged video"),
                    Node(
                        "frames",
                        "GetVideoComponents",
                        {"video": "video.VIDEO"},
                        title="Its frames, sound and speed",
                    ),
                    Node("compact", "AIOR_LoadCompact"),
                ),
            ),
            Column(
                "2 What is wrong with it",
                BLUE,
                (
                    Node("prior", "AIOR_EncodePrior", settings, title="Encode Degradation Prior, smooth"),
                    found(title="What was found, frame by frame"),
                ),
            ),
            Column("3 Sample, one noise for all", PURPLE, (sampler(noise="same for all"),)),
            Column(
                "4 Decode, put together",
                AMBER,
                (
                    decode("sampler.latent"),
                    Node(
                        "made",
                        "CreateVideo",
                        {"images": "decode.image", "audio": "frames.audio", "fps": "frames.fps"},
                        title="Frames to video",
                    ),
                    Node(
                        "save",
                        "SaveVideo",
                        {"video": "made.VIDEO", "filename_prefix": "video/AIOR"},
                        title="The restored video",
                        width=360,
                    ),
                ),
            ),
        ),
        480,
    )


WORKFLOWS = (_video(),)
