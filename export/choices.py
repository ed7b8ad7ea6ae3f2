"""What whoever exports chooses, and the defaults: known to the command line before anything heavy is imported."""

from typing import Final, Literal

CertificateLevel = Literal["off", "quick", "full"]

RECIPE: Final = "int8"
CARRY: Final = "carry"  # for quantized GGUF files
SEARCHED_RECIPE: Final = "int4-mixed"  # what a search begins with
CERTIFICATE_LEVEL: Final[CertificateLevel] = "quick"
