"""Rows by columns: the database writes each as one JSON list, so that ten thousand rows cost Python next to nothing."""

import json

from django.db.models import Aggregate, TextField

# More than there are: within a slice, the order of a queryset holds for what is aggregated, too.
ALL = 2**31


class JsonList(Aggregate):
    """The values of all rows, as the text of a JSON list."""

    function = "JSON_GROUP_ARRAY"
    output_field = TextField()
    empty_result_set_value = "[]"

    def as_postgresql(self, compiler, connection, **extra):
        return self.as_sql(compiler, connection, template="COALESCE(JSON_AGG(%(expressions)s)::text, '[]')", **extra)


class Columns:
    """The rows of a queryset, in its order: `texts` has each column as JSON, an index by its name as a list."""

    def __init__(self, texts):
        self.texts, self._lists = texts, {}

    @classmethod
    def of(cls, queryset, *names):
        rows = queryset[:ALL] if queryset.ordered else queryset
        # An alias that is also a column's name would hide the column.
        texts = rows.aggregate(**{f"{name}_list": JsonList(name) for name in names})
        return cls(dict(zip(names, texts.values(), strict=True)))

    @classmethod
    def of_rows(cls, rows, *names):
        """The columns of rows that are tuples."""
        columns = zip(*rows, strict=True) if rows else ([] for _ in names)
        return cls({name: json.dumps(column) for name, column in zip(names, columns, strict=True)})

    def __getitem__(self, name):
        if name not in self._lists:
            self._lists[name] = json.loads(self.texts[name])
        return self._lists[name]

    def rows(self, *names):
        return zip(*(self[name] for name in names), strict=True)
