"""PDFs that tests make: with text in columns, pictures, odd sizes, passwords, and whole documents by hand."""

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

U8 = npt.NDArray[np.uint8]
ParsedAnswer = tuple[float, float, str]  # x and y from the upper left corner, in points, and a text

A4 = (595, 842)


def made_pdf(
    *pages: Sequence[ParsedAnswer], size: tuple[int, int] = A4, password: str | None = None, font_pt: int = 10
) -> bytes:
    """A PDF whose pages say things at places. password: what it takes to open it."""
    buffer = io.BytesIO()
    encrypt = None if password is None else StandardEncryption(password, ownerPassword="owner")
    canvas = Canvas(buffer, pagesize=size, encrypt=encrypt, invariant=1)
    for said in pages:
        canvas.setFont("Helvetica", font_pt)
        for x, y, text in said:
            canvas.drawString(x, size[1] - y, text)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def scan(*images: U8) -> bytes:
    """A PDF of pictures alone, each as large as its page."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=1)
    for rgb in images:
        height, width = rgb.shape[:2]
        canvas.setPageSize((width, height))
        canvas.drawImage(ImageReader(Image.fromarray(rgb)), 0, 0, width, height)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def by_hand(*objects: str, trailer: str = "/Root 1 0 R") -> bytes:
    """A PDF of objects written out, numbered from 1."""
    data, places = b"%PDF-1.7\n", []
    for number, text in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n{text}\nendobj\n".encode("latin-1")
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< /Size {len(objects) + 1} {trailer} >>\n"
    return data + f"{end}startxref\n{len(data)}\n%%EOF\n".encode("latin-1")


def page_of(entries: str) -> bytes:
    """A PDF of one page with these entries."""
    kids = "<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
    return by_hand("<< /Type /Catalog /Pages 2 0 R >>", kids, f"<< /Type /Page /Parent 2 0 R {entries} >>")
