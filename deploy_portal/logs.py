import logging
import textwrap

from django.core.exceptions import SuspiciousOperation

from deploy_portal.templatetags.portal import inert


class InertFormatter(logging.Formatter):
    """One record is one line, whatever somebody put into it; a traceback stands beneath it, marked as such."""

    def formatMessage(self, record):
        record.message = inert(record.message).replace("\n", "⏎")
        return super().formatMessage(record)

    def formatException(self, exc_info):
        if issubclass(exc_info[0], SuspiciousOperation):  # as whoever scans for hosts makes by the thousand
            return ""
        return textwrap.indent(inert(super().formatException(exc_info)), "    | ", lambda line: True)
