import pytest
from django.core.exceptions import ValidationError

from jobs.validators import printable_line, printable_text, release_version


@pytest.mark.parametrize("version", ["2.14.3", "1", "v2", "2024.05.01-rc.1+build~7", "a" * 64, "7_0"])
def test_a_version_is_taken(version):
    assert release_version(version) is None


@pytest.mark.parametrize(
    "version",
    [
        "",
        "../../x",
        "-rf",
        ".hidden",
        "{{7*7}}",
        "a;b",
        "a b",
        "a\n",
        "a/b",
        "$HOME",
        "版本",
        "1.0\u202e",
        "a" * 65,
        "٣",
    ],
)
def test_a_version_that_could_mean_something_else_is_refused(version):
    with pytest.raises(ValidationError):
        release_version(version)


@pytest.mark.parametrize(
    "text", ["Hot fix", "修复支付", "Ship it 🚀", "👩‍💻", "<script>alert(1)</script>", "", "naïve Ω"]
)
def test_a_line_of_any_language_is_taken(text):
    assert printable_line(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "a\nb",
        "a\tb",
        "a\0b",
        "\x1b[31m",
        "a\x7fb",
        "a\x85b",
        "a\u202eb",
        "a\u2066b",
        "a\ufeffb",
        "a\u2028b",
        "\ud800",
        "\ue000",
    ],
)
def test_a_line_with_hidden_characters_is_refused(text):
    with pytest.raises(ValidationError):
        printable_line(text)


@pytest.mark.parametrize(
    "text", ["\u3164", "\u2800 \u2800", "\u115f\u1160", "\uffa0", "\u200d", "\u200c\u200d", "\u034f", "\ufe0f"]
)
def test_a_text_of_which_nothing_is_seen_is_refused(text):
    for validate in (printable_line, printable_text):
        with pytest.raises(ValidationError):
            validate(text)


@pytest.mark.parametrize("text", ["a\u3164", "점\u115f", "⠓⠊\u2800", "…", "❤️"])
def test_blanks_among_what_is_seen_are_taken(text):
    assert printable_line(text) is None


def test_a_text_may_have_several_lines():
    assert printable_text("one\r\ntwo\n\tthree") is None


@pytest.mark.parametrize("text", ["one\n\x1b[2Jtwo", "one\u202etwo", "nul\0"])
def test_a_text_with_hidden_characters_is_refused(text):
    with pytest.raises(ValidationError):
        printable_text(text)
