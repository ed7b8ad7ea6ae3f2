"""Has a certificate made in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from export.errors import CertificateError
from export.memory import Peak

Report = Callable[[str, int, int], None]  # (stage, steps done, steps in all)

_LOG_CHARS = 600


@dataclass(frozen=True)
class Request:
    """What to measure.

    evaluate: a file of text, None for the one that is included; scratch: a folder for intermediate files; peak: of the
    export so far, to be noted beside the certificate's own; mmproj: the projector file that belongs to a GGUF file;
    strict: whether a missed threshold is an error.
    """

    bundle: Path
    checkpoint: Path
    level: str
    recipe: str
    scratch: Path
    peak: Peak
    mmproj: Path | None = None
    evaluate: Path | None = None
    strict: bool = False


def run(request: Request, report: Report) -> bytes:
    """Measure a bundle; returns the certificate.

    Raises: CertificateError when the process fails (why), or, if strict, when a threshold is missed (by how much).
    """
    out, log = request.scratch / "certificate.json", request.scratch / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(_command(request, out), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                                   env=_environment(), text=True)  # fmt: skip
        try:
            failure = _follow(process, report)
        finally:
            # Its input ends with us, whatever ends us: that is how it knows.
            process.kill()
            process.communicate()
    if failure is not None:
        raise CertificateError(f"the certificate could not be made: {failure}")
    if not out.is_file():
        raise CertificateError(f"the certificate could not be made: {_cause(process.returncode, log)}")
    data = out.read_bytes()
    check(data, recipe=request.recipe, strict=request.strict)
    return data


def check(data: bytes, *, recipe: str, strict: bool) -> None:
    """Raise where a certificate has missed thresholds and none may be. Raises: CertificateError naming them."""
    missed = json.loads(data)["missed"]
    if missed and strict:
        raise CertificateError(f"recipe {recipe}: " + "; ".join(missed))


def _command(request: Request, out: Path) -> list[str]:
    projector = [] if request.mmproj is None else ["--mmproj", str(request.mmproj.absolute())]
    return [
        sys.executable, "-P", "-m", "export.certificate.verify",
        str(request.bundle), str(request.checkpoint.absolute()),
        "--level", request.level, "--recipe", request.recipe, "--out", str(out), "--scratch", str(request.scratch),
        "--export-peak", f"{request.peak.anonymous},{request.peak.resident}", "--owned",
        *projector,
        *(() if request.evaluate is None else ("--evaluate", str(request.evaluate.absolute()))),
    ]  # fmt: skip


def _environment() -> dict[str, str]:
    """Ours, with this very package first on the path: the working directory is not."""
    own = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": own if not inherited else f"{own}{os.pathsep}{inherited}"}


def _follow(process: "subprocess.Popen[str]", report: Report) -> str | None:
    """Pass progress on until the process ends; returns the error it names, if any."""
    failure = None
    for line in process.stdout or ():
        try:
            message = json.loads(line)
        except ValueError:
            continue  # some library's words
        if "error" in message:
            failure = str(message["error"])
        else:
            report(str(message["stage"]), int(message["done"]), int(message["total"]))
    process.wait()
    return failure


def _cause(code: int, log: Path) -> str:
    if code < 0:
        return f"its process was killed by signal {-code}" + (" (out of memory?)" if code == -9 else "")
    return f"its process ended with {code}: {log.read_text(errors='replace')[-_LOG_CHARS:].strip()}"
