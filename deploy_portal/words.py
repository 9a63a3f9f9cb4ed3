"""Words for readers of every language."""

from django.conf import settings
from django.utils import translation
from django.utils.functional import lazy
from django.utils.translation import gettext as _


def in_each_language(words):
    """{language: text} of words that are translated when they are read."""
    return {language: _in(language, words) for language, _name in settings.LANGUAGES}


def in_readers_language(texts, otherwise):
    return texts.get(translation.get_language(), otherwise)


def between_sentences():
    """A space where the language has one between sentences: a full stop in Chinese brings its own."""
    return "" if (translation.get_language() or "").startswith("zh") else " "


def enumerated(names):
    """Names one after the other, as the language lists them."""
    return _(", ").join(map(str, names))


def _joined(sentences):
    return between_sentences().join(map(str, sentences))


# One text of several sentences, joined when it is read.
in_sentences = lazy(_joined, str)


def _in(language, words):
    with translation.override(language):
        return str(words)
