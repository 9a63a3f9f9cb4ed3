"""Reading the forms of a page as a browser would: where they are posted, and what is in their fields."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

from django.urls import resolve

UNSENT = {"reset", "button", "image", "file"}


@dataclass
class Form:
    """`fields` are the names and values that would be sent; `names` are those of all fields, unchecked ones too."""

    page: str
    action: str
    method: str
    fields: list = field(default_factory=list)
    names: list = field(default_factory=list)

    @property
    def url_name(self):
        return resolve(urlsplit(self.action).path).url_name

    def filled(self, values):
        """What is sent when these fields, by name, have these values instead of their own."""
        return [(name, value) for name, value in self.fields if name not in values] + list(values.items())


class Page(HTMLParser):
    """The `links` and `forms` of a page at `path`."""

    def __init__(self, path, text):
        super().__init__()
        self.path, self.links, self.forms = path, [], []
        self._form = self._select = self._textarea = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = {name: value or "" for name, value in attrs}
        if tag == "a" and attrs.get("href", "").startswith(("/", "?")):
            self.links.append(urljoin(self.path, attrs["href"]).partition("#")[0])
        elif tag == "form":
            action = urljoin(self.path, attrs.get("action") or self.path)
            self._form = Form(self.path, action, attrs.get("method", "get").lower())
            self.forms.append(self._form)
        elif self._form and tag == "option":
            if "selected" in attrs and self._select:
                self._form.fields.append((self._select, attrs.get("value", "")))
        elif self._form and tag in ("input", "select", "textarea", "button") and attrs.get("type") not in UNSENT:
            self._meet(tag, attrs.get("name"), attrs)

    def _meet(self, tag, name, attrs):
        if name and name not in self._form.names:
            self._form.names.append(name)
        is_box = attrs.get("type") in ("checkbox", "radio")
        if tag == "select":
            self._select = name
        elif tag == "textarea":
            self._textarea = name
        elif name and ("checked" in attrs or not is_box):
            self._form.fields.append((name, attrs.get("value", "on" if is_box else "")))

    def handle_endtag(self, tag):
        if tag == "form":
            self._form = None
        elif tag == "textarea":
            self._textarea = None

    def handle_data(self, data):
        if self._form and self._textarea:
            self._form.fields.append((self._textarea, data.removeprefix("\n")))


def based_on(client, path):
    """The hidden fields by which the change form at `path` knows what it began from, its own and those of its rows."""
    [form] = [form for form in Page(path, client.get(path).text).forms if "_save" in form.names]
    return {name: value for name, value in form.fields if name.endswith("based_on")}
