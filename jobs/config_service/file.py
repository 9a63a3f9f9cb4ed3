"""Machines from a JSON or CSV file that ops keep below settings.CONFIG_FILES_DIR."""

import csv
import io

from django.conf import settings
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from jobs.config_service.answers import MAX_BYTES, Allowance, decode, list_at, parse_json
from jobs.config_service.base import Source, SourceError

FIELDS = {"hostname", "address", "port", "user"}


class FileSource(Source):
    """Options: see docs/config-service.md. The file is below settings.CONFIG_FILES_DIR."""

    OPTIONS = {"path": str}

    def rows(self):
        path = inside(self.filled(self.options["path"]))
        data = _read(path)
        return _csv_rows(data) if path.suffix.lower() == ".csv" else _json_rows(data)

    @classmethod
    def problems(cls, options):
        path = options.get("path", "")
        if not path.isprintable() or not path.lower().endswith((".json", ".csv")):
            return [_("“path” must name a .json or .csv file, such as “{business}.csv”.")]
        return place_problems(path)


def inside(name):
    """The real path of `name`, which must be below CONFIG_FILES_DIR after `..` and symbolic links are followed."""
    try:
        folder = settings.CONFIG_FILES_DIR.resolve()
        path = (folder / name).resolve()
    except (OSError, RuntimeError, ValueError):  # RuntimeError: a loop of symbolic links
        raise SourceError(_("The file's path cannot be followed. Correct “path”."), permanent=True) from None
    if not path.is_relative_to(folder):
        raise SourceError(_("The file is outside CONFIG_FILES_DIR. Move it there."), permanent=True)
    return path


def place_problems(name):
    """Why no business's file can be at `name`; what only one of them finds there is refused when it is read."""
    try:
        inside(name.replace("{business}", "business"))
    except SourceError as error:
        return [error.reason]
    return []


def _read(path):
    try:
        if not path.is_file():  # a named pipe would wait for ever
            raise SourceError(format_lazy(_("There is no file {name} in CONFIG_FILES_DIR."), name=path.name))
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = _("The file {name} cannot be read ({error}). Check its permissions.")
        raise SourceError(format_lazy(reason, name=path.name, error=error.strerror)) from None
    return data


def _json_rows(data):
    allowance = Allowance()
    allowance.spend(size=len(data))
    answer = parse_json(data, allowance)
    return list_at(answer, "" if isinstance(answer, list) else "machines")


def _csv_rows(data):
    Allowance().spend(size=len(data), objects=2 * data.count(b"\n"))
    # Cut off in its last cell, a file would still parse, with an address that is shorter than it was.
    if not data.endswith(b"\n"):
        raise SourceError(_("The file does not end with a line break: it may be half written. Write it again."))
    reader = csv.reader(io.StringIO(decode(data), newline=""), strict=True)
    try:
        columns = _columns(next(reader, []))
        return [_csv_row(columns, cells, reader.line_num) for cells in reader if cells]
    except csv.Error:
        reason = _("Line {line} is not CSV: is a quotation mark left open?")
        raise SourceError(format_lazy(reason, line=reader.line_num)) from None


def _columns(header):
    """The names of the columns; `site` and `labels.site` are the same label."""
    names = [name.strip().removeprefix("labels.") for name in header]
    if "hostname" not in names or len(set(names)) < len(names):
        raise SourceError(_("The first line must name the columns, each once: hostname, address, port, user, labels."))
    return names


def _csv_row(columns, cells, line):
    if len(cells) != len(columns):
        reason = _("Line {line} has {found} cells where the first line names {columns}: is the file half written?")
        raise SourceError(format_lazy(reason, line=line, found=len(cells), columns=len(columns)))
    values = {name: cell.strip() for name, cell in zip(columns, cells, strict=True) if cell.strip()}
    row = {name: value for name, value in values.items() if name in FIELDS}
    return {**row, "labels": {name: value for name, value in values.items() if name not in FIELDS}}
