from releases.models import Kind


class KindConverter:
    """A release stage in an address."""

    regex = "|".join(Kind.values)

    def to_python(self, value):
        return value

    def to_url(self, value):
        return str(value)
