"""The formats of media that are known by name: those supported, those that are not, and their magic bytes."""

from dataclasses import dataclass

KINDS = ("image", "video", "audio", "pdf")

# What is supported, as refusals say it.
FORMATS = {
    "image": "JPEG, PNG, WebP, GIF or BMP",
    "video": "MP4, MOV, MKV, WebM, AVI or GIF",
    "audio": "WAV, FLAC, OGG (Opus, Vorbis), MP3 or AIFF; M4A, AAC, WebM and Speex with the extra `av`",
    "pdf": "a PDF",
}

# What to do with what is not, by the kind that is wanted.
ADVICE = {
    "image": "save it as JPEG or PNG",
    "video": "ffmpeg -i FILE out.mp4",
    "audio": "ffmpeg -i FILE out.wav",
    "pdf": "save it as PDF",
}


@dataclass(frozen=True)
class Format:
    """A format of files.

    name: as refusals say it. kinds: what it may be sent as, the usual first; none for what is no media at all.
    is_supported: whether a decoder here reads it as every one of its kinds. advice: what to do where it is not
    supported, ADVICE's words unless given. described: the name with its article.
    """

    name: str
    kinds: tuple[str, ...] = ()
    is_supported: bool = False
    advice: str = ""

    def refusal(self, kind: str | None = None) -> str:
        """Return what is said of one that is not supported, and what to do; kind: of KINDS, its usual one if None."""
        wanted = kind if kind in self.kinds else (self.kinds or ("pdf",))[0]
        return f"{self.name} is not supported: {self.advice or ADVICE[str(wanted)]}"

    @property
    def described(self) -> str:
        noun = {"image": " image", "video": " video", "audio": " audio file", "pdf": ""}[(self.kinds or ("pdf",))[0]]
        article = "an" if self.name[0] in "AIEOU" or self.name[:2] in ("M4", "MP", "MO", "MK", "RF") else "a"
        return f"{article} {self.name}{noun}"


def named(name: str) -> Format:
    """Return a format by its name. Raises: KeyError."""
    return _BY_NAME[name]


_IMAGE, _VIDEO, _AUDIO, _BOTH = ("image",), ("video",), ("audio",), ("video", "audio")
_UNPACK = "unpack it, and send the files in it"
_PRINT = "save or print it as PDF"
_AS_TEXT = "put it into the message as text"
_AS_PNG = "save it as PNG"

_SUPPORTED = (
    *(Format(name, _IMAGE, True) for name in ("JPEG", "PNG", "WebP", "BMP")),
    Format("GIF", ("image", "video"), True),
    *(Format(name, _BOTH, True) for name in ("MP4", "MOV", "3GP", "Matroska", "WebM", "AVI")),
    Format("M4A", ("audio", "video"), True),
    *(Format(name, _AUDIO, True) for name in ("WAV", "RF64", "AIFF", "FLAC", "OGG", "MP3", "MP2", "AAC", "Ogg FLAC")),
    Format("Ogg Speex", _AUDIO, True),
    Format("PDF", ("pdf",), True),
)

_REFUSED = (
    *(Format(name, _IMAGE, advice="save it as JPEG") for name in ("HEIC", "HEIF")),
    *(Format(name, _IMAGE) for name in ("AVIF", "JPEG XL", "JPEG 2000", "JPEG XR", "JPEG-LS", "BPG", "FLIF", "QOI")),
    *(Format(name, _IMAGE) for name in ("TIFF", "BigTIFF", "DICOM", "FITS", "OpenEXR", "Radiance HDR", "DDS", "DPX")),
    *(
        Format(name, _IMAGE, advice=_AS_PNG)
        for name in ("SVG", "ICO", "CUR", "ICNS", "WMF", "EMF", "MNG", "JNG", "PNM")
    ),
    *(Format(name, _IMAGE, advice=_AS_PNG) for name in ("PCX", "SGI image", "XPM", "XBM", "Sun raster", "ANI")),
    *(Format(name, _IMAGE, advice=_AS_PNG) for name in ("Photoshop (PSD)", "GIMP (XCF)", "Krita", "OpenRaster", "IFF")),
    *(
        Format(f"camera raw ({name})", _IMAGE, advice="export it as JPEG")
        for name in ("CR2", "CR3", "CRW", "NEF", "ARW", "DNG", "PEF", "SRW", "ORF", "RW2", "RAF", "X3F", "MRW")
    ),
    *(Format(name, _AUDIO) for name in ("Wave64", "AU", "CAF", "AMR", "AMR-WB", "SILK", "MP+")),
    *(Format(name, _AUDIO) for name in ("APE", "WavPack", "DSD (DSF)", "DSD (DFF)", "TTA", "OptimFROG", "TAK")),
    *(Format(name, _AUDIO) for name in ("Shorten", "AC-3", "DTS", "ADIF", "LATM", "VOC", "NIST Sphere", "8SVX", "QOA")),
    *(Format(name, _AUDIO) for name in ("Ogg CELT", "Ogg PCM", "RealAudio")),
    Format("Audible (AAX)", _AUDIO, advice="it is encrypted; record it as WAV"),
    *(
        Format(name, _AUDIO, advice="it holds notes, not audio: render it to WAV")
        for name in ("MIDI", "a tracker module")
    ),
    *(Format(name, _BOTH) for name in ("MPEG-TS", "MPEG-PS", "FLV", "WMV or WMA (ASF)", "RealMedia", "MXF", "OGM")),
    *(Format(name, _BOTH) for name in ("Ogg Theora", "Ogg Dirac", "Ogg Daala", "NUT")),
    *(Format(name, _VIDEO) for name in ("MPEG video", "raw H.264 or HEVC", "IVF", "YUV4MPEG2", "DV", "Bink", "Flash")),
    *(Format(name, ("pdf",), advice=_PRINT) for name in ("DOCX", "XLSX", "PPTX", "ODT", "ODS", "ODP", "Word", "EPUB")),
    *(Format(name, ("pdf",), advice=_PRINT) for name in ("an old Office file (OLE)", "RTF", "HTML", "MHTML", "XPS")),
    *(Format(name, ("pdf",), advice=_PRINT) for name in ("iWork", "MOBI", "CHM", "DjVu")),
    *(Format(name, ("pdf",), advice="turn it into a PDF (ps2pdf FILE)") for name in ("PostScript", "EPS")),
    *(Format(name, advice=_UNPACK) for name in ("ZIP", "GZIP", "7z", "RAR", "BZIP2", "XZ", "Zstandard", "LZ4", "TAR")),
    *(
        Format(name, advice="send the media that it names")
        for name in ("an M3U playlist", "a playlist", "a DASH manifest", "a cue sheet", "a shortcut")
    ),
    *(Format(name, advice=_AS_TEXT) for name in ("text", "XML", "JSON", "subtitles")),
    Format("base64 text", advice="it was encoded twice: encode the file once"),
    Format("a Git LFS pointer", advice="fetch the file that it stands for (git lfs pull)"),
    *(
        Format(name, advice="send an image, a video, audio or a PDF")
        for name in ("a program", "SQLite", "NumPy", "GGUF", "Parquet", "HDF5", "a font", "an ISO image")
    ),
)

_BY_NAME = {form.name: form for form in (*_SUPPORTED, *_REFUSED)}

RIFF_TYPES = {
    b"WAVE": "WAV",
    b"AVI ": "AVI",
    b"AVIX": "AVI",
    b"WEBP": "WebP",
    b"RMID": "MIDI",
    b"ACON": "ANI",
}

# The first box of QuickTime files that name no brand.
UNTAGGED = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")

# Brands of ISO 14496-12: what is not here is a video like any other.
BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC"),
    **dict.fromkeys((b"mif1", b"msf1"), "HEIF"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"jp2 ", b"jpx ", b"jpm ", b"mjp2"), "JPEG 2000"),
    **dict.fromkeys((b"M4A ", b"M4B ", b"M4P "), "M4A"),
    **dict.fromkeys((b"aax ", b"aaxc"), "Audible (AAX)"),
    **dict.fromkeys((b"3gp4", b"3gp5", b"3gp6", b"3gp7", b"3ge6", b"3ge7", b"3gg6", b"3g2a", b"3g2b", b"3g2c"), "3GP"),
    b"jxl ": "JPEG XL",
    b"crx ": "camera raw (CR3)",
    b"qt  ": "MOV",
}

# Who made the camera: what begins with this, and has its pixels in a directory of their own, is raw.
TIFF_MAKES = (
    (b"NIKON", "camera raw (NEF)"),
    (b"SONY", "camera raw (ARW)"),
    (b"PENTAX", "camera raw (PEF)"),
    (b"RICOH", "camera raw (PEF)"),
    (b"SAMSUNG", "camera raw (SRW)"),
)

# Names of members near the beginning of a ZIP file.
ZIP_MEMBERS = (
    (b"mimetypeapplication/epub+zip", "EPUB"),
    (b"mimetypeapplication/vnd.oasis.opendocument.text", "ODT"),
    (b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "ODS"),
    (b"mimetypeapplication/vnd.oasis.opendocument.presentation", "ODP"),
    (b"mimetypeapplication/x-krita", "Krita"),
    (b"mimetypeimage/openraster", "OpenRaster"),
    (b"word/", "DOCX"),
    (b"xl/", "XLSX"),
    (b"ppt/", "PPTX"),
    (b"FixedDocSeq", "XPS"),
    (b"Index/Document.iwa", "iWork"),
)

# Where the bytes are, the bytes, and whose they are; the first that fits counts.
MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff\xf7", "JPEG-LS"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (0, b"\x8aMNG\r\n\x1a\n", "MNG"),
    (0, b"\x8bJNG\r\n\x1a\n", "JNG"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"II\xbc", "JPEG XR"),
    (0, b"BPG\xfb", "BPG"),
    (0, b"FLIF", "FLIF"),
    (0, b"qoif", "QOI"),
    (0, b"II+\0", "BigTIFF"),
    (0, b"MM\0+", "BigTIFF"),
    (0, b"IIRO", "camera raw (ORF)"),
    (0, b"IIRS", "camera raw (ORF)"),
    (0, b"MMOR", "camera raw (ORF)"),
    (0, b"IIU\0", "camera raw (RW2)"),
    (0, b"FUJIFILMCCD-RAW", "camera raw (RAF)"),
    (0, b"FOVb", "camera raw (X3F)"),
    (0, b"\0MRM", "camera raw (MRW)"),
    (6, b"HEAPCCDR", "camera raw (CRW)"),
    (0, b"8BPS", "Photoshop (PSD)"),
    (0, b"gimp xcf", "GIMP (XCF)"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"#?RGBE", "Radiance HDR"),
    (0, b"DDS ", "DDS"),
    (0, b"SDPX", "DPX"),
    (0, b"XPDS", "DPX"),
    (0, b"icns", "ICNS"),
    (0, b"\xd7\xcd\xc6\x9a", "WMF"),
    (40, b" EMF", "EMF"),
    (128, b"DICM", "DICOM"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"\x0a\x05\x01\x08", "PCX"),
    (0, b"\x01\xda\x00\x01", "SGI image"),
    (0, b"\x01\xda\x01\x01", "SGI image"),
    (0, b"\x59\xa6\x6a\x95", "Sun raster"),
    *((0, b"P%d%c" % (number, space), "PNM") for number in range(1, 8) for space in b" \n\r\t"),
    (0, b"PF\n", "PNM"),
    (0, b"Pf\n", "PNM"),
    (8, b"ILBM", "IFF"),
    (8, b"AIFF", "AIFF"),
    (8, b"AIFC", "AIFF"),
    (8, b"8SVX", "8SVX"),
    (0, b"riff\x2e\x91\xcf\x11", "Wave64"),
    (0, b".snd", "AU"),
    (0, b"caff", "CAF"),
    (0, b"#!AMR-WB", "AMR-WB"),
    (0, b"#!AMR", "AMR"),
    (0, b"#!SILK_V3", "SILK"),
    (1, b"#!SILK_V3", "SILK"),
    (0, b"fLaC", "FLAC"),
    (0, b"MAC ", "APE"),
    (0, b"wvpk", "WavPack"),
    (0, b"DSD ", "DSD (DSF)"),
    (0, b"FRM8", "DSD (DFF)"),
    (0, b"TTA1", "TTA"),
    (0, b"TTA2", "TTA"),
    (0, b"OFR ", "OptimFROG"),
    (0, b"tBaK", "TAK"),
    (0, b"ajkg", "Shorten"),
    (0, b"MPCK", "MP+"),
    (0, b"MP+", "MP+"),
    (0, b"qoaf", "QOA"),
    (0, b"\x0b\x77", "AC-3"),
    (0, b"\x7f\xfe\x80\x01", "DTS"),
    (0, b"ADIF", "ADIF"),
    (0, b"Creative Voice File", "VOC"),
    (0, b"NIST_1A", "NIST Sphere"),
    (0, b"MThd", "MIDI"),
    (0, b"Extended Module: ", "a tracker module"),
    (0, b"IMPM", "a tracker module"),
    (44, b"SCRM", "a tracker module"),
    (1080, b"M.K.", "a tracker module"),
    (0, b".ra\xfd", "RealAudio"),
    (0, b".RMF", "RealMedia"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMV or WMA (ASF)"),
    (0, b"FLV\x01", "FLV"),
    (0, b"\x00\x00\x01\xba", "MPEG-PS"),
    (0, b"\x00\x00\x01\xb3", "MPEG video"),
    *((0, b"\0\0\0\1%c" % unit, "raw H.264 or HEVC") for unit in (0x09, 0x27, 0x40, 0x42, 0x44, 0x46, 0x67)),
    *((0, b"\0\0\1%c" % unit, "raw H.264 or HEVC") for unit in (0x09, 0x27, 0x40, 0x42, 0x44, 0x46, 0x67)),
    (0, b"DKIF", "IVF"),
    (0, b"YUV4MPEG2", "YUV4MPEG2"),
    (0, b"nut/multimedia", "NUT"),
    (0, b"\x1f\x07\x00", "DV"),
    (0, b"BIKi", "Bink"),
    (0, b"KB2", "Bink"),
    (0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "MXF"),
    *((0, b"%cWS" % packing, "Flash") for packing in b"FCZ"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file (OLE)"),
    (0, b"{\\rtf", "RTF"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS"),
    (0, b"%!PS", "PostScript"),
    (0, b"AT&TFORM", "DjVu"),
    (60, b"BOOKMOBI", "MOBI"),
    (0, b"ITSF", "CHM"),
    (0, b"\x1f\x8b", "GZIP"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"Rar!\x1a\x07", "RAR"),
    (0, b"BZh", "BZIP2"),
    (0, b"\xfd7zXZ\0", "XZ"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard"),
    (0, b"\x04\x22\x4d\x18", "LZ4"),
    (257, b"ustar", "TAR"),
    (32769, b"CD001", "an ISO image"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"\xcf\xfa\xed\xfe", "a program"),
    (0, b"\xca\xfe\xba\xbe", "a program"),
    (0, b"\0asm", "a program"),
    (0, b"SQLite format 3\0", "SQLite"),
    (0, b"\x93NUMPY", "NumPy"),
    (0, b"GGUF", "GGUF"),
    (0, b"PAR1", "Parquet"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5"),
    (0, b"wOFF", "a font"),
    (0, b"wOF2", "a font"),
    (0, b"OTTO", "a font"),
    (0, b"\0\1\0\0\0", "a font"),
)

# How text begins, in lower case, what it has further on, and what it is; the first that fits counts.
MARKUP: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("<svg", "<?xml", "<!--", "<!doctype svg"), "<svg", "SVG"),
    (("<?xml", "<mpd"), "<mpd", "a DASH manifest"),
    (("<!doctype html", "<html", "<head", "<body", "<?xml", "<!--"), "<html", "HTML"),
    (("<!doctype html", "<head", "<body"), "<", "HTML"),
    (("<smil", "<asx"), "<", "a playlist"),
    (("<?xml", "<!--", "<"), ">", "XML"),
    (("#extm3u",), "#extm3u", "an M3U playlist"),
    (("[playlist]",), "[playlist]", "a playlist"),
    (("[internetshortcut]", "[desktop entry]"), "[", "a shortcut"),
    (("webvtt", "1\n00:", "1\r\n00:"), "", "subtitles"),
    (("#!amr-wb",), "", "AMR-WB"),
    (("#!amr",), "", "AMR"),
    (("{\\rtf",), "{\\rtf", "RTF"),
    (("{", "["), '"', "JSON"),
    (("%!ps-adobe",), " epsf", "EPS"),
    (("%!ps",), "%!ps", "PostScript"),
    (("/* xpm */",), "static", "XPM"),
    (("#define",), "_width", "XBM"),
    (("p1 ", "p1\n", "p1\r", "p2 ", "p2\n", "p2\r", "p3 ", "p3\n", "p3\r"), "", "PNM"),
    (("mime-version:", "from: <saved by"), "", "MHTML"),
    (("version https:",), "git-lfs", "a Git LFS pointer"),
    (("data:",), ";base64,", "base64 text"),
)
