"""File formats of images: those that are read, and those that are recognized to be named in messages."""

from functools import cache

SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif",
    ".heic", ".heif", ".hif",
)  # fmt: skip
# The only decoders that Pillow may use, beside that of HEIF: it has thirty more, and runs Ghostscript on PostScript
# files of any suffix.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")

# Suffixes of pictures that are not read. Other files of an album (notes, films, sidecar files) are no pictures.
UNREAD_SUFFIXES = {
    ".3fr", ".ai", ".arw", ".avifs", ".bpg", ".cr2", ".cr3", ".crw", ".cur", ".dcm", ".dcr", ".dds", ".dib", ".djvu",
    ".dng", ".emf", ".eps", ".erf", ".exr", ".fff", ".fits", ".hdr", ".heics", ".heifs", ".icns", ".ico", ".iiq",
    ".j2c", ".j2k", ".jng", ".jp2", ".jpf", ".jpx", ".jxl", ".jxr", ".kdc", ".mef", ".mng", ".mos", ".mrw",
    ".nef", ".nrw", ".orf", ".pbm", ".pcx", ".pdf", ".pef", ".pgm", ".pict", ".pnm", ".ppm", ".ps", ".psb",
    ".psd", ".qoi", ".raf", ".ras", ".raw", ".rw2", ".rwl", ".sgi", ".sr2", ".srf", ".srw", ".svg", ".tga",
    ".wdp", ".wmf", ".x3f", ".xbm", ".xcf", ".xpm",
}  # fmt: skip

_SIGNATURES = {
    b"8BPS": "a Photoshop document",
    b"\xff\x0a": "a JPEG XL image",
    b"\0\0\0\x0cJXL ": "a JPEG XL image",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    b"\xff\x4f\xff\x51": "a JPEG 2000 image",
    b"%PDF": "a PDF document",
    b"%!PS": "a PostScript document",
    b"\xc5\xd0\xd3\xc6": "a PostScript document",
    b"FUJIFILMCCD-RAW": "the raw data of a camera",
    b"IIRO": "the raw data of a camera",
    b"IIRS": "the raw data of a camera",
    b"MMOR": "the raw data of a camera",
    b"IIU\0": "the raw data of a camera",
    b"\0MRM": "the raw data of a camera",
    b"FOVb": "the raw data of a camera",
    b"\0\0\1\0": "an icon",
    b"v/1\x01": "an OpenEXR image",
    b"#?RADIANCE": "a Radiance image",
    b"DDS ": "a DirectDraw image",
    b"gimp xcf": "a GIMP image",
    b"BPG\xfb": "a BPG image",
    b"SIMPLE  =": "a FITS image",
    b"qoif": "a QOI image",
    b"II\xbc\x01": "a JPEG XR image",
    b"<svg": "an SVG drawing",
    b"\x1aE\xdf\xa3": "a film",
} | {b"P%d%c" % (number, space): "a Netpbm image" for number in range(1, 8) for space in b" \n\t\r"}
# By major brand of files of the ISO base media format.
_BRANDS = {b"crx ": "the raw data of a camera", b"qt  ": "a film", b"isom": "a film", b"mp41": "a film"}
_BRANDS |= {b"mp42": "a film", b"M4V ": "a film", b"3gp4": "a film"}
_UNDECODED = "that is damaged or of a kind that the decoder lacks"
_BRANDS |= dict.fromkeys((b"avif", b"avis"), f"an AVIF image {_UNDECODED}")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"heif")
_BRANDS |= dict.fromkeys(_HEIF_BRANDS, f"an HEIF image {_UNDECODED}")


def recognize(start: bytes) -> str | None:
    """Return what a file is, with its article, by its first 32 bytes, if it is of a format that is not read.

    AVIF and HEIF count if their pictures are of a kind that the decoder does not know.
    """
    if start[4:8] == b"ftyp":
        return _BRANDS.get(start[8:12])
    return next((name for signature, name in _SIGNATURES.items() if start.startswith(signature)), None)


def decoders(start: bytes) -> tuple[str, ...]:
    """Return Pillow's decoders for a file by its first 32 bytes; that of HEIF is loaded if it is needed."""
    if start[4:8] == b"ftyp" and not start[8:12].startswith(b"avi"):
        _register_heif()
        return ("HEIF", "AVIF")
    return FORMATS


@cache
def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)
