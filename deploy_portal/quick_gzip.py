"""Pages with a long list in them, compressed on their way."""

import gzip
import secrets
from functools import wraps
from io import BytesIO

from django.utils.cache import patch_vary_headers

# A third of the time of Django's level for a list of ten thousand machines, for a tenth more bytes.
LEVEL = 1


def quick_gzip(view):
    """What Django's `gzip_page` does to what `view` answers, at another level."""

    @wraps(view)
    def compressed_view(request, *args, **kwargs):
        response = view(request, *args, **kwargs)
        patch_vary_headers(response, ["Accept-Encoding"])
        if response.content and "gzip" in request.headers.get("Accept-Encoding", ""):
            response.content = _compressed(response.content)
            response.headers["Content-Encoding"] = "gzip"
        return response

    return compressed_view


def _compressed(content):
    compressed = BytesIO()
    # A name of random length, as Django has it: how long a page is must not tell what is secret in it (BREACH).
    with gzip.GzipFile("a" * secrets.randbelow(100), "wb", LEVEL, compressed, mtime=0) as file:
        file.write(content)
    return compressed.getvalue()
