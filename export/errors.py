"""Everything the exporter raises on purpose.

ExportError
├── CheckpointError     a file, header, tensor or value of the checkpoint is wrong
├── ConfigError         config.json or preprocessor_config.json is wrong
├── UnsupportedError    the checkpoint is sound, but this version does not implement it
├── TokenizerError      the tokenizer files are wrong or missing
├── RecipeError         a recipe is wrong or missing
├── TextsError          a file of texts for calibration or evaluation is wrong or cannot be used
├── CalibrationError    calibration data cannot be used
├── GraphError          a graph cannot be written
├── OutputError         the destination exists or cannot be written
├── CertificateError    the bundle misses a threshold or could not be measured
└── ReportError         what a report would show cannot be read
"""


class ExportError(Exception):
    """The root: catch this to catch all of them."""


class CheckpointError(ExportError):
    """A file, header, tensor or value of the checkpoint is wrong; the message names it."""


class ConfigError(ExportError):
    """A key of config.json or preprocessor_config.json is wrong or missing; the message names it."""


class UnsupportedError(ExportError):
    """The checkpoint asks for something that this version does not implement; the message names it."""


class TokenizerError(ExportError):
    """The tokenizer files are wrong or missing; the message names file and reason."""


class RecipeError(ExportError):
    """A recipe is wrong or missing; the message names file and key."""


class TextsError(ExportError):
    """A file of texts for calibration or evaluation is wrong or cannot be used; the message names file and line."""


class CalibrationError(ExportError):
    """Calibration data cannot be used; the message says why."""


class GraphError(ExportError):
    """A graph cannot be written; the message names the tensor or node."""


class OutputError(ExportError):
    """The destination exists or cannot be written; the message names the path."""


class CertificateError(ExportError):
    """The bundle misses a threshold or could not be measured; the message says by how much."""


class ReportError(ExportError):
    """What a report would show cannot be read; the message names file and key."""
