"""The colours of classes, the same in every picture, chart and page.

Okabe and Ito's ('Color Universal Design', 2008), which colour-blind people tell apart too; then the same seven lighter,
then darker. More than 21 classes begin anew, so a colour never stands alone: a name is beside it.
"""

# R, G, B: orange, sky blue, bluish green, yellow, blue, vermilion, reddish purple
OKABE_ITO = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
BACKGROUND = (187, 187, 187)  # a grey


def class_colour(index: int) -> tuple[int, int, int]:
    """(R, G, B) of class number `index`, 1 the first one, as in `imdb.classes`; 0 is the background."""
    if index == 0:
        return BACKGROUND
    round_, place = divmod((index - 1) % (3 * len(OKABE_ITO)), len(OKABE_ITO))
    towards, share = ((0, 0.0), (255, 0.55), (0, 0.4))[round_]
    r, g, b = (round((1 - share) * v + share * towards) for v in OKABE_ITO[place])
    return r, g, b


def hexadecimal(colour: tuple[int, int, int]) -> str:
    """'#rrggbb' of (R, G, B), for pages and charts."""
    return '#{:02x}{:02x}{:02x}'.format(*colour)
