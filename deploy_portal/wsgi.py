import gc
import os

import django
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deploy_portal.settings")


class Request(WSGIRequest):
    """Its Content-Type counts as none where it cannot be read: the error would come before any page can tell of it."""

    def __init__(self, environ):
        try:
            super().__init__(environ)
        except (LookupError, TypeError, ValueError):
            environ["CONTENT_TYPE"] = ""
            super().__init__(environ)


class Handler(WSGIHandler):
    request_class = Request


django.setup(set_prefix=False)
application = Handler()
# What is loaded by now stays loaded: no collection, in the middle of some request, has to go through it again.
gc.freeze()
