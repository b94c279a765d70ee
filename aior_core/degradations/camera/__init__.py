"""The stages of a camera on tensors, seeded, in linear light.

They are haze and particles, optics, exposure, sensor, development and transport. Every stage has
`draw_X(draw, ...) -> dict`, whose parameters JSON can hold, and a function that applies them to `B 3 H W`.
`photograph` makes looks of the stages.
"""
