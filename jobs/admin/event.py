from django.contrib import admin
from django.db.models import TextField
from django.db.models.functions import Cast
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from deploy_portal.admin_parts import pairs, status
from deploy_portal.templatetags.portal import inert, status_word
from jobs.admin.job import NumberedAdmin
from jobs.export import csv_response, event_rows
from jobs.models import Event, JobMachine


def _in_two_lines(first, second):
    return format_html("{}<div>{}</div>", first, second) if second else first


@admin.register(Event)
class EventAdmin(NumberedAdmin):
    list_display = ["at", "who", "verb_and_state", "job_and_stage", "short_reason"]
    list_filter = ["verb", "job__business", ("actor", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["job__business", "actor"]
    search_fields = [
        *["job__id__exact", "job__title", "job__version", "actor__username", "verb", "subject", "origin", "reason"],
        "detail_as_text",
    ]
    date_hierarchy = "at"
    fields = [
        *["at", "subject_or_job", "number", "who", "verb", "stage_in_words", "was_in_words", "state", "full_reason"],
        *["origin", "detail_in_lines", "previous", "digest"],
    ]
    actions = ["export"]

    def get_queryset(self, request):
        return super().get_queryset(request).annotate(detail_as_text=Cast("detail", TextField()))

    def get_search_results(self, request, queryset, search_term):
        """By what an event says, and by a host name or an address also those of all jobs with that machine."""
        found, has_duplicates = super().get_search_results(request, queryset, search_term)
        if search_term:
            found |= queryset.filter(job__in=JobMachine.objects.on(search_term.strip()).values("job"))
        return found, has_duplicates

    @admin.display(description=_("of"), ordering="job")
    def subject_or_job(self, event):
        return event.job or inert(event.subject)

    @admin.display(description=_("of"), ordering="job")
    def job_and_stage(self, event):
        return _in_two_lines(self.subject_or_job(event), event.stage_in_words)

    @admin.display(description=_("what"), ordering="verb")
    def verb_and_state(self, event):
        return _in_two_lines(event.get_verb_display(), self.state(event))

    @admin.display(description=_("who"), ordering="actor__username")
    def who(self, event):
        return event.actor or _("the portal")

    @admin.display(description=_("stage"), ordering="stage")
    def stage_in_words(self, event):
        return event.stage_in_words

    @admin.display(description=_("from"))
    def was_in_words(self, event):
        return status_word(event.was)

    @admin.display(description=_("to"), ordering="became")
    def state(self, event):
        return event.became and status(event.became, status_word(event.became))

    @admin.display(description=_("why"), empty_value="")
    def short_reason(self, event):
        return Truncator(inert(event.reason)).chars(80)

    @admin.display(description=_("why"))
    def full_reason(self, event):
        return inert(event.reason)

    @admin.display(description=_("detail"))
    def detail_in_lines(self, event):
        return pairs(event.detail)

    @admin.action(description=_("Export as CSV"), permissions=["view"])
    def export(self, request, queryset):
        facts = {"events": queryset.count(), "filter": request.GET.urlencode()[:2000]}
        Event.objects.tell(request.user, Event.Verb.EXPORTED, "events", **facts)
        return csv_response("events.csv", event_rows(queryset))
