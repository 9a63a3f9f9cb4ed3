"""What may stand for a row's id in an address: `1`, never `01`, nor a number that no database holds."""

from django.urls.converters import IntConverter


class PkConverter(IntConverter):
    regex = "[1-9][0-9]{0,17}"
