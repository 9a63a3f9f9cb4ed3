"""Words that are kept for readers of every language."""

from django.conf import settings
from django.utils import translation


def in_each_language(words):
    """{language: text} of words that are translated when they are read."""
    return {language: _in(language, words) for language, _name in settings.LANGUAGES}


def in_readers_language(texts, otherwise):
    return texts.get(translation.get_language(), otherwise)


def _in(language, words):
    with translation.override(language):
        return str(words)
