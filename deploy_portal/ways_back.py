"""Where a person goes on from an address that is only posted to."""

from urllib.parse import unquote, urlsplit

from django.urls import Resolver404, resolve, reverse
from django.utils.http import escape_leading_slashes

# Steps that are only posted, and the page that has the button for each
BUTTON_ON = {
    "approve_job": "job",
    "withdraw_job": "job",
    "send_back_job": "job",
    "skip_stage": "stage",
    "pause_run": "job",
    "resume_run": "job",
    "resolve_machine_run": "machine_run",
    "resume_world": "stop_world",
    "acknowledge": "home",
    "logout": "home",
    "sign_out_elsewhere": "account",
}
# What of an address such a page has in its own; the others have all of it.
NAMED_BY = {"job": ["job_id"], "home": []}


def resolved(address):
    """What is found at `address`, which may be of any shape that a browser takes; None where there is nothing."""
    try:
        return resolve(unquote(urlsplit(address).path)) if address else None
    except (Resolver404, ValueError):  # ValueError: an address such as //[
        return None


def page_with_button(address):
    """The page that has the button for the step at `address`; `address` itself when it is no such step."""
    found = resolved(address)
    if not found or found.url_name not in BUTTON_ON:
        return address
    page = BUTTON_ON[found.url_name]
    return reverse(page, kwargs={name: found.kwargs[name] for name in NAMED_BY.get(page, found.kwargs)})


def way_back(request):
    """Where a page that says why nothing was done leads: here once more, or to the button for what was sent here."""
    here = escape_leading_slashes(request.get_full_path())  # as //host/ it would lead to that host
    page = page_with_button(request.path)
    return here if page == request.path else page
