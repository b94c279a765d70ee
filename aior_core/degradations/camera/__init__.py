"""A camera on tensors: scene, optics, exposure, sensor, development and transport, seeded, in linear light.

Every stage has ``draw_X(draw, ...) -> dict`` (parameters that JSON can hold) and ``apply_X(picture, params,
seed)`` (``B 3 H W`` to the same shape). `shot` runs a picture through all of them.
"""
