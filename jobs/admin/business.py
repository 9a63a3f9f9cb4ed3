import json

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Count, Q
from django.utils.translation import gettext_lazy as _

from deploy_portal.admin_parts import CarefulAdmin, Told, UndoesNothing, link_to_list, named, status, tell_what_is_left
from deploy_portal.based_on import BasedOnForm
from deploy_portal.models import User
from jobs.admin.membership import MembershipInline
from jobs.admin.sync import taken
from jobs.config_service import SourceError
from jobs.models import Business, Event, Machine, Sync
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
        return bool(obj) and obj.is_unused and super().has_delete_permission(request, obj)

    def get_deleted_objects(self, objs, request):
        """The answers, none of which gave a machine, go along; a task or a freeze is in the way, and named as such."""
        rows, counts, lacking, in_the_way = super().get_deleted_objects(objs, request)
        return rows, counts, set() if in_the_way else lacking - {Sync._meta.verbose_name}, in_the_way

    def save_related(self, request, form, formsets, change):
        super().save_related(request, form, formsets, change)
        gone = [membership.user_id for formset in formsets for membership in formset.deleted_objects]
        changed = [row for formset in formsets for row in formset.initial_forms if row.has_changed()]
        # One that somebody else has deleted meanwhile names nobody.
        for person in User.objects.filter(pk__in=[*gone, *(row.initial.get("user") for row in changed)]):
            tell_what_is_left(request, person, form.instance)
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
