import logging
import textwrap
import traceback

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http.multipartparser import MultiPartParserError

from deploy_portal.templatetags.portal import inert

# What a person may not, or what they send, makes these: no fault of the code's, and as often as somebody likes.
REFUSALS = (BadRequest, MultiPartParserError, PermissionDenied, SuspiciousOperation)


class InertFormatter(logging.Formatter):
    """One record is one line, whatever somebody put into it; a traceback stands beneath it, marked as such.

    Of a refusal its words alone do: the way to it through the code would only fill the log.
    """

    def formatMessage(self, record):
        record.message = inert(record.message).replace("\n", "⏎")
        return super().formatMessage(record)

    def formatException(self, exc_info):
        if isinstance(exc_info[1], REFUSALS):
            words = "".join(traceback.format_exception_only(exc_info[1])).strip()
        else:
            words = super().formatException(exc_info)
        return textwrap.indent(inert(words), "    | ", lambda line: True)
