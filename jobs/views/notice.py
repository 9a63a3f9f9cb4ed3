from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from jobs.access import get_job
from jobs.models import Notice


@login_required
@require_POST
def acknowledge(request, notice_id):
    notice = get_object_or_404(Notice.objects.filter(to=request.user).select_related("job", "to"), pk=notice_id)
    get_job(request.user, notice.job_id)
    notice.acknowledge()
    messages.success(request, _("Acknowledged."))
    slug = request.GET.get("business")  # that was looked at there
    return redirect(reverse("home", query={"business": slug} if slug else None))
