"""The bytes of a picture to an RGB image, within bounds. Knows no model."""

from __future__ import annotations

from io import BytesIO

from PIL import Image, ImageOps

from encoders.errors import AfterclickError

MAX_PIXELS = 50_000_000
"""150 MB in memory; chosen by us: no camera of a shop makes more."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""The decoders that may run, of the some thirty that Pillow has."""
_ENOUGH = 1_024
"""Pixels of a side; no CLIP reads more. A JPEG of more is decoded to half or a quarter of its size."""


class PictureUnreadable(AfterclickError):
    """Bytes that are no picture, or one that is too large."""


def picture(content: bytes) -> Image.Image:
    """Decode a picture: upright, the first frame, on white where it is transparent.

    Raises
    ------
    PictureUnreadable
    """
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise PictureUnreadable(
                    f"got a picture of {opened.width} x {opened.height} pixels, expected at most {MAX_PIXELS:,}; send "
                    "a smaller one"
                )
            opened.draft("RGB", (_ENOUGH, _ENOUGH))
            upright = ImageOps.exif_transpose(opened)
            if not upright.has_transparency_data:
                return upright.convert("RGB")
            layers = upright.convert("RGBA")
            white = Image.new("RGBA", layers.size, "white")
            return Image.alpha_composite(white, layers).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # what Pillow's decoders raise
        raise PictureUnreadable(f"got no picture ({error}), expected {', '.join(FORMATS)}; correct the file") from error
