"""A place that knows a business's machines: one class with one abstract method, named in settings.CONFIG_SOURCES."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable

from django.conf import settings
from django.utils.module_loading import import_string
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from deploy_portal.words import in_sentences


class SourceError(Exception):
    """The source gave no complete list. `permanent`: asking again will not help before ops change something."""

    def __init__(self, reason, permanent=False):
        super().__init__(reason)
        self.reason = reason  # translated when it is read
        self.permanent = permanent


KINDS = {str: _("text"), int: _("a number"), bool: _("true or false"), dict: _("an object"), list: _("a list")}


class Source(ABC):
    """`options` is the business's own JSON object; `slug` names the business in templates of addresses and paths."""

    OPTIONS = {}  # the name of each option, and its type

    def __init__(self, slug, options):
        # The options may be older than the settings they were checked with.
        if problems := self.check(options):
            raise SourceError(in_sentences(problems), permanent=True)
        self.slug = slug
        self.options = options

    @abstractmethod
    def rows(self) -> Iterable[dict]:
        """Every machine of the business as the source gives it: all of them, or SourceError."""

    @classmethod
    def check(cls, options):
        """A list of what is wrong with `options`, in words for ops; empty when they can work."""
        if not isinstance(options, dict):
            return [_("The options must be a JSON object.")]
        if not _is_storable(options):
            return [_("The options hold a character that cannot be stored: NUL, or half of one.")]
        problems = [
            format_lazy(_("There is no option “{name}”."), name=name) for name in options if name not in cls.OPTIONS
        ]
        # bool is an int, and true is no page size
        mistyped = [name for name, kind in cls.OPTIONS.items() if name in options and type(options[name]) is not kind]
        if mistyped:
            reason = _("“{name}” must be {kind}.")
            return problems + [format_lazy(reason, name=name, kind=KINDS[cls.OPTIONS[name]]) for name in mistyped]
        return problems + cls.problems(options)

    @classmethod
    def problems(cls, options):
        """What else is wrong with `options`, once each is of its type."""
        return []

    def filled(self, value):
        """`value` with {business} in its texts, however deep, replaced by the business's short name."""
        if isinstance(value, str):
            return value.replace("{business}", self.slug)
        if isinstance(value, dict):
            return {key: self.filled(inner) for key, inner in value.items()}
        return [self.filled(inner) for inner in value] if isinstance(value, list) else value


def _is_storable(options):
    """Whether PostgreSQL takes `options`, and UTF-8 their texts."""
    text = json.dumps(options, ensure_ascii=False)
    return "\\u0000" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def load(business):
    """The source of `business`."""
    if business.source not in settings.CONFIG_SOURCES:
        raise SourceError(format_lazy(_("There is no source {name}."), name=business.source), permanent=True)
    return import_string(settings.CONFIG_SOURCES[business.source])(business.slug, business.source_options)


def check(source, options):
    """What is wrong with `options` for the source registered as `source`."""
    return import_string(settings.CONFIG_SOURCES[source]).check(options)
