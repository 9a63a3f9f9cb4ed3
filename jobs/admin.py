import json

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Count, Exists, OuterRef, Prefetch, Q, TextField
from django.db.models.functions import Cast
from django.urls import reverse
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from deploy_portal.admin_parts import (
    CarefulAdmin,
    ReadOnlyAdmin,
    ReadOnlyInline,
    Told,
    UndoesNothing,
    WithAutocomplete,
    link_to_list,
    named,
    pairs,
    status,
)
from deploy_portal.based_on import BasedOnForm
from deploy_portal.templatetags.portal import inert, status_word
from deploy_portal.words import enumerated
from jobs import freeze_admin  # noqa: F401, which registers its own
from jobs.config_service import SourceError
from jobs.export import csv_response, event_rows
from jobs.models import Business, Event, Job, JobMachine, Listing, Machine, Membership, Sync
from jobs.rights import Right

# Each source may take its whole time limit before it answers, and the page waits for all of them.
SYNCED_AT_ONCE = 5


class Indented(json.JSONEncoder):
    def __init__(self, **options):
        super().__init__(**options | {"indent": 2})


class Storable(json.JSONDecoder):
    """Calls malformed what is JSON, but what no page could show or PostgreSQL store."""

    def decode(self, text):
        try:
            value = super().decode(text)
            json.dumps(value, ensure_ascii=False).encode()
        except (RecursionError, UnicodeEncodeError):
            raise json.JSONDecodeError("nested too deep, or half a character", "", 0) from None
        if "\\u0000" in text:
            raise json.JSONDecodeError("NUL", "", 0)
        return value


class BusinessForm(BasedOnForm):
    source = forms.ChoiceField(label=_("Source of its machines"))
    source_options = forms.JSONField(
        label=_("Options of the source"),
        required=False,
        initial=dict,
        encoder=Indented,
        decoder=Storable,
        widget=forms.Textarea(attrs={"class": "mono", "rows": 10, "spellcheck": "false"}),
        help_text=_(
            'A JSON object: {"url": "https://cmdb.example.com/{business}"} for http_json, {"path": "{business}.json"} '
            "for file. docs/config-service.md explains all options."
        ),
    )

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # Staff who may only look get a form without fields.
        if "source" in self.fields:
            self.fields["source"].choices = [(name, name) for name in settings.CONFIG_SOURCES]


class MembershipFormSet(forms.BaseInlineFormSet):
    def clean(self):
        super().clean()
        # Django's own words for it stand at the id of the row, which is hidden.
        if any("id" in form.errors and not self._should_delete_form(form) for form in self.initial_forms):
            raise ValidationError(_("A membership of this list is gone; open the page again."))


class MembershipInline(WithAutocomplete, admin.TabularInline):
    model = Membership
    form = BasedOnForm
    formset = MembershipFormSet
    autocomplete_fields = ["user"]
    extra = 1

    def get_queryset(self, request):
        # Each row is named by both.
        rows = super().get_queryset(request).select_related("user", "business")
        # As the row that they are shown with, they are read once nobody else changes them.
        return rows.select_for_update(of=("self",), no_key=True) if request.method == "POST" else rows

    def get_fields(self, request, obj=None):
        # To staff who may only look, a field that is hidden would be a column of its own.
        return ["user", "role", *(["based_on"] if self.has_change_permission(request, obj) else [])]


def taken(error):
    """Whether an answer of a config service was taken, as a state."""
    return status("failed", _("Not taken")) if error else status("succeeded", _("Taken"))


@admin.register(Business)
class BusinessAdmin(Told, UndoesNothing, CarefulAdmin):
    form = BusinessForm
    inlines = [MembershipInline]
    list_display = ["name", "slug", "source", "live_machines", "last_answer", "synced_at"]
    search_fields = ["name", "slug"]
    actions = ["ask_now"]
    last_answer_fields = ["live_machines", "asked_at", "synced_at", "why_not_taken", "refused_rows"]
    readonly_fields = ["approvers", *last_answer_fields]
    fieldsets = [
        (None, {"fields": ["name", "slug", "soak_minutes", "ssh_key"]}),
        (_("Approval"), {"fields": ["approvers_needed", "approvers"]}),
        (_("Config service"), {"fields": ["source", "source_options"]}),
        (_("Its last answer"), {"fields": last_answer_fields}),
    ]

    def get_fieldsets(self, request, obj=None):
        return super().get_fieldsets(request, obj) if obj else self.fieldsets[:3]

    def get_readonly_fields(self, request, obj=None):
        # The short name stands in what was released, so it stays once there are jobs.
        has_jobs = obj and obj.jobs.exists()
        return [*self.readonly_fields, "slug"] if has_jobs else self.readonly_fields

    def get_prepopulated_fields(self, request, obj=None):
        return {} if obj else {"slug": ["name"]}

    def get_queryset(self, request):
        live = Count("listings", filter=Q(listings__gone_at=None))
        return super().get_queryset(request).annotate(live=live)

    def has_delete_permission(self, request, obj=None):
        """Only what was made by mistake goes: a business without machines and jobs, and not several at once."""
        is_unused = obj and not obj.listings.exists() and not obj.jobs.exists()
        return bool(is_unused) and super().has_delete_permission(request, obj)

    def get_deleted_objects(self, objs, request):
        """The answers, none of which gave a machine, go along; a task or a freeze is in the way, and named as such."""
        rows, counts, lacking, in_the_way = super().get_deleted_objects(objs, request)
        return rows, counts, set() if in_the_way else lacking - {Sync._meta.verbose_name}, in_the_way

    def save_related(self, request, form, formsets, change):
        super().save_related(request, form, formsets, change)
        if form.instance.lacks_approvers:
            too_few = _("%(business)s has fewer approvers than a job of it needs. Ops do not count.")
            self.message_user(request, too_few % {"business": form.instance}, messages.WARNING)

    @admin.display(description=_("approvers"))
    def approvers(self, business):
        """How many there are, of how many a job needs."""
        number = business.members_with(Right.APPROVE).count() if business.pk else 0
        words = _("%(n)d; a job needs %(needed)d") % {"n": number, "needed": business.approvers_needed}
        return status("failed" if number < business.approvers_needed else "succeeded", words)

    @admin.display(description=_("live machines"), ordering="live")
    def live_machines(self, business):
        return link_to_list(Machine, business.live, businesses__id__exact=business.pk, listed="live")

    @admin.display(description=_("last answer"))
    def last_answer(self, business):
        return taken(business.sync_error) if business.asked_at else status("waiting", _("Never asked"))

    @admin.display(description=_("why the last answer was not taken"))
    def why_not_taken(self, business):
        return business.why_not_taken or self.get_empty_value_display()

    @admin.action(description=_("Ask the config service now"), permissions=["change"])
    def ask_now(self, request, queryset):
        businesses = list(queryset[: SYNCED_AT_ONCE + 1])
        if len(businesses) > SYNCED_AT_ONCE:
            too_many = _("Choose up to %(n)d businesses: each may take its time. sync_machines asks for all.")
            self.message_user(request, too_many % {"n": SYNCED_AT_ONCE}, messages.ERROR)
            return
        for business in businesses:
            self._ask(request, business)

    def _ask(self, request, business):
        self.tell(request, Event.Verb.ASKED_AGAIN, named(business))
        try:
            sync = business.sync_machines()
        except SourceError as error:
            self.message_user(request, f"{business}{_(': ')}{error}", messages.ERROR)
            return
        self.message_user(request, _("%(business)s: %(news)s.") % {"business": business, "news": sync.in_words})


@admin.register(Sync)
class SyncAdmin(ReadOnlyAdmin):
    """What the config services answered: each answer that changed something, had rows refused, or was not taken."""

    COUNTS = ["listed", "added_count", "gone_count", "moved_count", "refused_count"]
    list_display = ["at", "business", "outcome", *COUNTS]
    list_filter = ["business"]
    list_select_related = ["business"]
    date_hierarchy = "at"
    fields = ["at", "business", "outcome", "why_not_taken", "origin", *COUNTS, "changes"]

    @admin.display(description=_("Outcome"))
    def outcome(self, sync):
        return taken(sync.error)

    @admin.display(description=_("why it was not taken"))
    def why_not_taken(self, sync):
        return sync.why_not_taken or self.get_empty_value_display()

    @admin.display(description=_("changes"))
    def changes(self, sync):
        """The first names of each kind, one a line."""
        moved = [(one["hostname"], f"{one['was']} → {one['now']}") for one in sync.moved]
        refused = [(f"{row} {name}", why) for row, name, why in sync.refused_in_words]
        kinds = [(_("new"), [(name, "") for name in sync.added]), (_("gone"), [(name, "") for name in sync.gone])]
        kinds += [(_("moved"), moved), (_("refused"), refused)]
        return pairs([(f"{kind} {name}", words) for kind, rows in kinds for name, words in rows])


@admin.register(Membership)
class MembershipAdmin(Told, UndoesNothing, WithAutocomplete, CarefulAdmin):
    """What the inline of a business shows, the other way round: everything that one person may do."""

    form = BasedOnForm
    fields = ["user", "business", "role"]
    list_display = ["user", "business", "role"]
    list_display_links = ["user", "role"]
    list_filter = ["business", "role"]
    list_select_related = ["user", "business"]
    search_fields = ["user__username", "user__first_name", "user__last_name", "business__name"]
    autocomplete_fields = ["user", "business"]
    ordering = ["user__username", "business__name", "role"]


class ListedFilter(admin.SimpleListFilter):
    """Whether the config service gives the machine now; in the business that is filtered by, else in any."""

    title = _("status")
    parameter_name = "listed"

    def lookups(self, request, model_admin):
        return [("live", _("Live")), ("gone", _("Gone"))]

    def queryset(self, request, queryset):
        live = Listing.objects.live().filter(machine=OuterRef("pk"))
        if business := request.GET.get("businesses__id__exact"):
            live = live.filter(business=business)
        wanted = {"live": Exists(live), "gone": ~Exists(live)}.get(self.value())
        return queryset if wanted is None else queryset.filter(wanted)


class ListingInline(ReadOnlyInline):
    model = Listing
    verbose_name_plural = _("in the config service")
    fields = ["business", "first_seen_at", "last_seen_at", "gone_at"]

    def get_queryset(self, request):
        return super().get_queryset(request).select_related("business", "machine").order_by("business__name")


@admin.register(Machine)
class MachineAdmin(ReadOnlyAdmin):
    """The config service rules machines: the admin shows them."""

    inlines = [ListingInline]
    list_display = ["hostname", "address", "port", "site", "listed_in"]
    # The filter by business comes first: it refuses a malformed id.
    list_filter = ["businesses", ListedFilter, "site"]
    search_fields = ["hostname", "address"]
    fields = ["hostname", "address", "port", "user", "site", "labels_in_lines"]

    def get_queryset(self, request):
        live = Listing.objects.live().select_related("business").order_by("business__name")
        return super().get_queryset(request).prefetch_related(Prefetch("listings", live, to_attr="live_listings"))

    @admin.display(description=_("live in"))
    def listed_in(self, machine):
        names = enumerated(listing.business.name for listing in machine.live_listings)
        return names or status("gone", _("Gone"))

    @admin.display(description=_("labels"))
    def labels_in_lines(self, machine):
        return pairs(machine.labels)


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
    search_fields = ["id__exact", "title", "version", "requester__username"]
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


@admin.register(Event)
class EventAdmin(NumberedAdmin):
    list_display = ["at", "subject_or_job", "who", "verb", "stage_in_words", "state", "short_reason"]
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

    @admin.display(description=_("why"))
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
