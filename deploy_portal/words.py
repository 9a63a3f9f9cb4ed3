"""Words for readers of every language."""

from django.conf import settings
from django.utils import translation
from django.utils.functional import lazy
from django.utils.translation import gettext_noop, ngettext_lazy, pgettext

# Django's own Chinese lacks these, and has the words of dates for the last two ("1 月" is January): marked for the
# portal's catalogue.
ngettext_lazy(
    "This password is too short. It must contain at least %d character.",
    "This password is too short. It must contain at least %d characters.",
)
gettext_noop("After you’ve created a user, you’ll be able to edit more user options.")
gettext_noop("Error:"), gettext_noop("Model name"), gettext_noop("Add link"), gettext_noop("Change or view list link")
ngettext_lazy("%(num)d month", "%(num)d months", "num"), ngettext_lazy("%(num)d day", "%(num)d days", "num")


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
    # By a context of its own: without one it would also stand between the units of Django's timesince.
    return pgettext("names", ", ").join(map(str, names))


def _joined(sentences):
    return between_sentences().join(map(str, sentences))


# One text of several sentences, joined when it is read.
in_sentences = lazy(_joined, str)


def _in(language, words):
    with translation.override(language):
        return str(words)
