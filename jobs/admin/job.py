from django.contrib import admin
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from deploy_portal.admin_parts import ReadOnlyAdmin, link_to_list, pairs, status
from jobs.models import Event, Job, Machine


class NumberedAdmin(ReadOnlyAdmin):
    """Of rows that people know by the number of their job, which they write as #12."""

    def get_search_results(self, request, queryset, search_term):
        return super().get_search_results(request, queryset, search_term.replace("#", ""))


@admin.register(Job)
class JobAdmin(NumberedAdmin):
    list_display = ["number", "title", "business", "version", "state", "break_glass", "requester", "created_at"]
    list_display_links = ["number", "title"]
    list_filter = ["business", "status", "break_glass"]
    list_select_related = ["business", "requester"]
    search_fields = [
        *["id__exact", "title", "version", "business__name", "business__slug"],
        *["requester__username", "requester__first_name", "requester__last_name"],
    ]
    date_hierarchy = "created_at"
    fields = [
        *["number", "title", "business", "version", "state", "machine_count", "remark", "revision"],
        *["requester", "created_at", "break_glass", "approvers_needed", "approvals_given", "approved_at", "history"],
    ]

    def view_on_site(self, job):
        return reverse("job", args=[job.pk])

    @admin.display(description=_("number"), ordering="pk")
    def number(self, job):
        return f"#{job.pk}"

    @admin.display(description=_("status"), ordering="status")
    def state(self, job):
        return status(job.status, job.get_status_display())

    @admin.display(description=_("machines"))
    def machine_count(self, job):
        return link_to_list(Machine, job.machines.count(), jobs__id__exact=job.pk)

    @admin.display(description=_("approvals"))
    def approvals_given(self, job):
        """Those of earlier revisions too, which are void."""
        words = {True: _("approved"), False: _("void")}
        return pairs([(approval.by, words[approval.revision == job.revision]) for approval in job.approvals.all()])

    @admin.display(description=_("events"))
    def history(self, job):
        return link_to_list(Event, job.events.count(), job__id__exact=job.pk)
