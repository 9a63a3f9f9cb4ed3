"""A place that knows a business's machines: one class with one abstract method, named in settings.CONFIG_SOURCES."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from django.conf import settings
from django.utils.module_loading import import_string
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _


class SourceError(Exception):
    """The source gave no complete list. `permanent`: asking again will not help before ops change something."""

    def __init__(self, reason, permanent=False):
        super().__init__(reason)
        self.permanent = permanent


class Source(ABC):
    """`options` is the business's own JSON object; `slug` names the business in templates of addresses and paths."""

    def __init__(self, slug, options):
        self.slug = slug
        self.options = options

    @abstractmethod
    def rows(self) -> Iterable[dict]:
        """Every machine of the business as the source gives it: all of them, or SourceError."""

    @classmethod
    def check(cls, options):
        """A list of what is wrong with `options`, in words for ops; empty when they can work."""
        return []


def load(business):
    """The source of `business`."""
    if business.source not in settings.CONFIG_SOURCES:
        raise SourceError(format_lazy(_("There is no source {name}."), name=business.source), permanent=True)
    return import_string(settings.CONFIG_SOURCES[business.source])(business.slug, business.source_options)


def check(source, options):
    """What is wrong with `options` for the source registered as `source`."""
    return import_string(settings.CONFIG_SOURCES[source]).check(options)
