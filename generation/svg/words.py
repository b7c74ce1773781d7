"""The markup words of drawing tokens, with how many numbers follow each.

Source: the grammar in `tokens`.
"""

CONTAINERS = ("svg", "svg-line", "/svg", "g", "g-line", "/g")
KINDS = {"circle": 3, "ellipse": 4, "rect": 4, "rrect": 5}
STYLES = ("root-stroke", "root-evenodd", "stroke", "stroke-width", "evenodd", "nonzero")
COMMANDS = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "Q": 4, "z": 0}
ROUND_ARCS = ("a00", "a01", "a10", "a11")
OVAL_ARCS = ("e00", "e01", "e10", "e11")
