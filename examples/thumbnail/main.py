"""Makes images smaller: POST an image, get a thumbnail of it.

    ?width=320 &height=320    the box that it must fit into, 1 to 2048 pixels each; the sides keep their ratio
    &format=webp              jpeg, png or webp; else that of the image
    &quality=80               1 to 95, for jpeg and webp

Request style: the function sees the whole HTTP request and answers with one of its own making.
"""

import warnings
from io import BytesIO

from PIL import Image, ImageOps, UnidentifiedImageError
from tailcut import Request, Response

SIDE_PIXELS_DEFAULT = 320
SIDE_PIXELS_MAX = 2048
QUALITY_DEFAULT = 80
QUALITY_MAX = 95
MEDIA_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}

# A small file can claim to be a huge image. Pillow warns above this and refuses above twice this; we refuse at once.
Image.MAX_IMAGE_PIXELS = 40_000_000
warnings.simplefilter("error", Image.DecompressionBombWarning)


class _Refused(Exception):  # noqa: N818 - what happened, not a bug
    """An answer other than 200, with the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def handler(request: Request) -> Response:
    try:
        if request.method != "POST":
            raise _Refused(405, f"the method is {request.method}; POST an image")
        box = (_number(request, "width"), _number(request, "height"))
        quality = _number(request, "quality", QUALITY_DEFAULT, QUALITY_MAX)
        image = _open(request.body)
        kind = _format(request, image)
        return Response(_thumbnail(image, box, kind, quality), headers={"content-type": MEDIA_TYPES[kind]})
    except _Refused as refusal:
        return Response(f"{refusal}\n", status=refusal.status, headers={"content-type": "text/plain; charset=utf-8"})


def _thumbnail(image: Image.Image, box: tuple[int, int], kind: str, quality: int) -> bytes:
    try:
        # Cameras store a sideways image and say so in EXIF, which the thumbnail does not keep.
        upright = ImageOps.exif_transpose(image)
        upright.thumbnail(box)
        if kind == "jpeg":
            upright = upright.convert("RGB")
        out = BytesIO()
        upright.save(out, format=kind, quality=quality)
    except (OSError, ValueError, SyntaxError) as error:
        raise _Refused(422, f"the image is damaged: {error}") from error
    return out.getvalue()


def _open(body: bytes) -> Image.Image:
    if not body:
        raise _Refused(422, "the body is empty; send an image")
    try:
        return Image.open(BytesIO(body), formats=[name.upper() for name in (*MEDIA_TYPES, "gif")])
    except UnidentifiedImageError:
        raise _Refused(415, "the body is not a JPEG, PNG, WebP or GIF image") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise _Refused(422, f"the image has more than {Image.MAX_IMAGE_PIXELS:,} pixels") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise _Refused(422, f"the image is damaged: {error}") from error


def _format(request: Request, image: Image.Image) -> str:
    own = (image.format or "").lower()
    kind = request.query.get("format") or (own if own in MEDIA_TYPES else "png")
    if kind not in MEDIA_TYPES:
        raise _Refused(415, f"the format is {kind!r}; there are: {', '.join(MEDIA_TYPES)}")
    return kind


def _number(request: Request, name: str, default: int = SIDE_PIXELS_DEFAULT, most: int = SIDE_PIXELS_MAX) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= most):
        raise _Refused(422, f"{name} is {text!r}; 1 to {most} are allowed")
    return int(text)
