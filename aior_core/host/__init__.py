"""The only room that imports ComfyUI: models, sampling, decoding and folders on the host's rails."""
