import gc
import os

import django
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http.multipartparser import MultiPartParserError

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deploy_portal.settings")


class Request(WSGIRequest):
    """One that cannot be read in whole is its sender's mistake; Django has errors for it that are a 500."""

    def __init__(self, environ):
        try:
            super().__init__(environ)
        except (LookupError, TypeError, ValueError):  # of its Content-Type; nothing would answer with a page
            environ["CONTENT_TYPE"] = ""
            super().__init__(environ)

    def parse_file_upload(self, META, post_data):
        try:
            return super().parse_file_upload(META, post_data)
        except TypeError as error:
            raise MultiPartParserError("A part of the form has a header that cannot be read.") from error


class Handler(WSGIHandler):
    request_class = Request


django.setup(set_prefix=False)
application = Handler()
# What is loaded by now stays loaded: no collection, in the middle of some request, has to go through it again.
gc.freeze()
