"""Errors that are the user's to mend, and verdicts on data that cannot be used.

`GatoError` ends a command with a message and exit code 1 (2 for usage); its text says
the rule, what was found, where, and what to do next. `QuarantineError` condemns one
episode or document: it is caught where that item is handled, becomes a row of
`quarantine.jsonl`, and never ends a job.
"""

import enum


class GatoError(Exception):
    """A failure with a message for the user instead of a traceback."""

    exit_code = 1


class UsageError(GatoError):
    """The command line or the build config is wrong; nothing was started."""

    exit_code = 2


class Reason(enum.StrEnum):
    """Why an episode or document was quarantined."""

    ACTION_OUT_OF_RANGE = "action_out_of_range"
    CORRUPT_EPISODE = "corrupt_episode"
    CORRUPT_FILE = "corrupt_file"
    CORRUPT_IMAGE = "corrupt_image"
    CORRUPT_RECORD = "corrupt_record"
    DISCRETE_OUT_OF_RANGE = "discrete_out_of_range"
    EMPTY = "empty"
    IMAGE_TOO_LARGE = "image_too_large"
    MISSING_FIELD = "missing_field"
    MISSING_IMAGE = "missing_image"
    MISSING_SUCCESS = "missing_success"
    NONFINITE = "nonfinite"
    NOT_UTF8 = "not_utf8"
    SPEC_MISMATCH = "spec_mismatch"
    TOO_LONG = "too_long"
    UNSAFE_PATH = "unsafe_path"
    UNSUPPORTED = "unsupported"
    WRONG_DTYPE = "wrong_dtype"
    WRONG_SHAPE = "wrong_shape"


class QuarantineError(ValueError):
    """One episode or document cannot be used.

    Attributes:
        reason: Why; a key of the manifest's `quarantined`.
        detail: The rule, what was found and where inside the item.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type, tuple[Reason, str]]:
        return type(self), (self.reason, self.detail)
