from django.urls.converters import StringConverter

from releases.models import Kind


class KindConverter(StringConverter):
    """A release stage in an address."""

    regex = "|".join(Kind.values)
