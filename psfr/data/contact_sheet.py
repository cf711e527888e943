"""Contact sheets: images of one size in a grid, with column titles and captions."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CAPTION_SIZE, CAPTION_HEIGHT = 13, 20
TEXT, BACKGROUND, MUTED = (20, 20, 20), (255, 255, 255), (110, 110, 110)


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
    *,
    gap: int = 0,
    margin: int = 0,
    scale: int = 1,
    title_size: int = 20,
) -> np.ndarray:
    """Arrange images in a grid.

    Args:
        rows: the images of each row, uint8 RGB (H, W, 3), all of one size and as many in each row.
        titles: one for each column, centered above it.
        captions: one for each image, below it.
        gap: pixels between images.
        margin: pixels around the grid; a row of titles takes the place of the margin at the top.
        scale: whole number by which images are enlarged, by repeating pixels.
        title_size: font size of the titles in pixels.

    Returns:
        The sheet, uint8 RGB.
    """
    height, width = (scale * side for side in rows[0][0].shape[:2])
    top = title_height(title_size) if titles else margin
    caption_height = CAPTION_HEIGHT if captions else 0
    sheet_width = 2 * margin + len(rows[0]) * (width + gap) - gap
    sheet_height = top + len(rows) * (height + caption_height + gap) - gap + margin

    sheet = Image.new("RGB", (sheet_width, sheet_height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        center = margin + column * (width + gap) + width // 2
        draw.text((center, top // 2), title, TEXT, ImageFont.load_default(title_size), anchor="mm")
    for i, row in enumerate(rows):
        y = top + i * (height + caption_height + gap)
        for j, image in enumerate(row):
            x = margin + j * (width + gap)
            sheet.paste(Image.fromarray(image.repeat(scale, axis=0).repeat(scale, axis=1)), (x, y))
            if captions:
                position = (x, y + height + CAPTION_HEIGHT // 2)
                draw.text(position, captions[i][j], MUTED, ImageFont.load_default(CAPTION_SIZE), anchor="lm")
    return np.asarray(sheet)


def title_height(title_size: int) -> int:
    """Return the height in pixels of the row of titles."""
    return round(1.7 * title_size)
