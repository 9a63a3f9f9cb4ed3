"""What a page answers when it does not take a step: why, and the reason that was typed for it."""

from django.contrib import messages
from django.shortcuts import redirect, render


def ask_again(request, job, form, title, button, danger=False):
    """Shows the reason that was typed for a step, and what is wrong with it."""
    if "revision" in form.errors:  # which nobody types
        messages.error(request, form.errors["revision"][0])
        return redirect("job", job.pk)
    context = {"job": job, "form": form, "title": title, "button": button, "danger": danger}
    return render(request, "jobs/step.html", context)


def too_late(request, conflict, reason, page, job=None):
    """Says why a step was not taken, and shows the reason that was typed for it: `page` may not ask for one now."""
    if job:
        job.refresh_from_db()
    context = {"job": job, "conflict": str(conflict), "reason": reason, "page": page}
    return render(request, "jobs/too_late.html", context, status=409)
