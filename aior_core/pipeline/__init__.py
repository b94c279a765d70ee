"""The walk in pure torch: encode the prior, fuse it while sampling, decode with detail.

`host`, `training` and the benchmarks call these functions. Nothing here imports ComfyUI or training code.
"""
