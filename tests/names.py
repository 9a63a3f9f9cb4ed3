"""What a screen reader calls the links and buttons of a page."""

from html.parser import HTMLParser

VOID = {"input", "br", "meta", "link", "hr", "img", "source", "wbr", "col"}


class Names(HTMLParser):
    """`found` has (name, where it leads or what it sends) of each link and button of a page."""

    def __init__(self, text):
        super().__init__()
        self._open, self._texts, self._named = [], {}, []
        self._form = ""
        self.feed(text)
        self.found = [(self._name(attrs, words), leads) for attrs, words, leads in self._named]

    def _name(self, attrs, words):
        parts = [self._texts[one] for one in attrs.get("aria-labelledby", "").split()]
        text = attrs.get("aria-label") or " ".join("".join(part) for part in parts) or "".join(words)
        return " ".join(text.split())

    def handle_starttag(self, tag, attrs):
        attrs = {name: value or "" for name, value in attrs}
        if tag in VOID:
            return
        words = []
        if "id" in attrs:
            self._texts[attrs["id"]] = words
        if tag == "form":
            self._form = attrs.get("action", "")
        if tag == "a" and "href" in attrs:
            self._named.append((attrs, words, attrs["href"]))
        elif tag == "button":
            self._named.append((attrs, words, (self._form, attrs.get("value"))))
        self._open.append((tag, words))

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        for _tag, words in self._open:
            words.append(data)
