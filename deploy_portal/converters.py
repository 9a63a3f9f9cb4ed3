"""What may stand for a row's id in an address: `1`, never `01`, nor a number that no database holds."""


class PkConverter:
    regex = "[1-9][0-9]{0,17}"

    def to_python(self, value):
        return int(value)

    def to_url(self, value):
        return str(value)
