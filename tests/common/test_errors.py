"""Parts of error messages: the nearest name, and shortened lists of names."""

import errno

import pytest

from common.errors import did_you_mean, quoted, system_error_message, unwritable_message


@pytest.mark.parametrize(
    ("name", "expected"),
    [("vit_smal", " Did you mean vit_small?"), ("3conv+3bn", " Did you mean 3Conv+3BN?"), ("resnet", "")],
)
def test_did_you_mean_names_the_closest_choice_ignoring_case(name: str, expected: str) -> None:
    assert did_you_mean(name, ("vit_small", "3Conv+3BN")) == expected


def test_did_you_mean_adds_the_prefix_to_the_choice() -> None:
    assert did_you_mean("stam", ["name", "stem"], prefix="model.") == " Did you mean model.stem?"


def test_long_lists_of_names_are_shortened() -> None:
    assert quoted(["a", "b"]) == "'a', 'b'"
    assert quoted(["a", "b", "c", "d"], limit=2) == "'a', 'b' and 2 more"


def test_system_error_message_names_the_file_and_the_reason() -> None:
    message = system_error_message(OSError(errno.EACCES, "Permission denied", "data"))
    assert message == (
        "data: Permission denied. Change its permissions, or choose another folder, and rerun the same command."
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left", "run/.data.json.writing"), "(run/.data.json.writing: No space left)"),
        (
            OSError(errno.EEXIST, "File exists", "run"),
            "(File exists). Everything written before is intact. Move what is",
        ),
        (RuntimeError("Error: I/O error: File too large (os error 27)"), "(os error 27)). Everything written before"),
        (
            RuntimeError("Error: I/O error: File too large (os error 27)"),
            "Raise the limit on the size of files (`ulimit",
        ),
        (
            OSError(errno.EIO, "Input/output error"),
            "(Input/output error). Everything written before is intact. Fix this",
        ),
    ],
)
def test_message_for_what_cannot_be_written_has_the_remedy_of_its_cause(error: Exception, expected: str) -> None:
    message = unwritable_message("out = run:", error)
    assert message.startswith("out = run: cannot be written (") and expected in message
    assert ("ree some space" in message) == (getattr(error, "errno", None) == errno.ENOSPC)
