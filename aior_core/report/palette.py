"""The colours of every chart, map and contact sheet, as RGB in 0..255.

This module imports nothing, so that tools that run without torch can use it too.
"""

BACKGROUND, PANEL, GRID = (24, 26, 30), (36, 39, 45), (66, 74, 86)
"""Of dark sheets: the sheet, the area of a chart on it, and lines in that area."""
MUTED, INK = (140, 146, 156), (236, 238, 242)
"""Text on dark sheets: what matters less, and what matters."""
BLUE, DARK_BLUE, AMBER, GREEN = (82, 160, 232), (48, 78, 108), (222, 160, 74), (106, 190, 120)
"""What is drawn on dark sheets: values, single noisy values, what differs from the usual, and what is
good."""
PAPER, PAPER_INK = (250, 250, 250), (30, 30, 30)
"""Contact sheets in documents are light."""
CATEGORIES = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
    (220, 220, 220),
)
"""Okabe and Ito's palette for categories, with light grey in the place of black: readers with any kind of
colour vision tell these colours apart."""
HEAT = ((0.24, 0.10, 0.45), (0.58, 0.16, 0.50), (0.88, 0.30, 0.28), (0.98, 0.62, 0.12), (1.0, 0.96, 0.52))
"""The scale of heat maps, in 0..1: violet, magenta, red, orange, yellow. It rises in brightness, so that it
reads in grey too."""
