"""What the admin pages of all apps are made of."""

import re
from collections import defaultdict
from urllib.parse import urlencode

from django.apps import apps
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.exceptions import BadRequest
from django.db import DataError, IntegrityError, NotSupportedError, connection, transaction
from django.urls import reverse
from django.utils import translation
from django.utils.html import format_html, format_html_join
from django.utils.text import smart_split
from django.utils.translation import gettext_lazy as _

from deploy_portal.templatetags.portal import inert

ID = re.compile("[0-9]{1,18}")
# Each is a condition on every field, and SQLite takes no thousand of them.
SEARCH_WORDS = 20


def link(url, text):
    return format_html('<a href="{}">{}</a>', url, text)


def link_to_list(model, text, **lookups):
    """A link to the rows of `model` that match `lookups`."""
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    query = {name: ",".join(value) if isinstance(value, list) else value for name, value in lookups.items()}
    return link(f"{url}?{urlencode(query)}", text)


def status(value, word):
    """A state as every page of the portal shows it: icon and word."""
    return format_html('<span class="status {}">{}</span>', value, word)


def pairs(values):
    """Names and values, from a JSON object or as pairs, one pair a line."""
    rows = values.items() if isinstance(values, dict) else values
    return format_html_join("", '<div class="pair"><span>{}</span> {}</div>', [(k, _in_a_line(v)) for k, v in rows])


def _in_a_line(value):
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_a_line(what)}" for name, what in value.items())
    return ", ".join(map(_in_a_line, value)) if isinstance(value, list) else inert(value)


class ReadOnly:
    """Shows rows and changes none: not by form, action or direct POST, and not for superusers."""

    def has_add_permission(self, request, obj=None):
        return False

    def has_change_permission(self, request, obj=None):
        return False

    def has_delete_permission(self, request, obj=None):
        return False


class CarefulAdmin(admin.ModelAdmin):
    """Answers an address or a form that somebody made up in words, where Django's own breaks."""

    def get_changelist_instance(self, request):
        try:
            return super().get_changelist_instance(request)
        except (DataError, NotSupportedError, OverflowError, ValueError) as error:  # a NUL, the year 99999, contains
            raise IncorrectLookupParameters from error

    def get_search_results(self, request, queryset, search_term):
        words = list(smart_split(search_term.replace("\0", "")))
        if len(words) > SEARCH_WORDS:
            told = _("Only the first %(number)s words were looked for.") % {"number": SEARCH_WORDS}
            self.message_user(request, told, messages.WARNING)
        return super().get_search_results(request, queryset, " ".join(words[:SEARCH_WORDS]))

    def get_object(self, request, object_id, from_field=None):
        """Read once nobody else changes it: of two at the same moment, the second finds what the first has done."""
        row = super().get_object(request, object_id, from_field)
        if row is None or request.method != "POST" or not connection.in_atomic_block:
            return row
        # Where it is to be deleted nothing new may point at it, either.
        is_kept = not request.resolver_match.url_name.endswith("_delete")
        list(type(row).objects.select_for_update(no_key=is_kept).filter(pk=row.pk).values_list("pk"))
        return super().get_object(request, object_id, from_field)

    def changeform_view(self, request, *args, **kwargs):
        try:
            return super().changeform_view(request, *args, **kwargs)
        except IntegrityError:  # two at the same moment: each form was right when it was checked
            late = _("Not saved: somebody saved the same just now. Look for it in this list.")
            self.message_user(request, late, messages.ERROR)
            return self.response_post_save_add(request, None)

    def response_action(self, request, queryset):
        if not all(ID.fullmatch(pk) for pk in request.POST.getlist(ACTION_CHECKBOX_NAME)):
            raise BadRequest(_("These are no rows of this list."))
        return super().response_action(request, queryset)


class UndoesNothing:
    """For an admin whose form is a BasedOnForm: saves what a person changed, and undoes nothing else."""

    based_on_fields = ["based_on"]

    def get_fieldsets(self, request, obj=None):
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or not self.has_change_permission(request, obj):
            return fieldsets
        (title, first), *others = fieldsets
        return [(title, first | {"fields": [*first["fields"], *self.based_on_fields]}), *others]

    def save_model(self, request, obj, form, change):
        # Only what was changed: the rest may be older by now, and would set back a session epoch or an answer.
        fields = {field.name for field in obj._meta.concrete_fields} & set(form.changed_data)
        obj.save(update_fields=fields if change else None)


class ReadOnlyAdmin(ReadOnly, CarefulAdmin):
    # Counting millions of rows once, for the pages, is enough.
    show_full_result_count = False


class ReadOnlyInline(ReadOnly, admin.TabularInline):
    extra = 0

    def get_readonly_fields(self, request, obj=None):
        return self.fields


class Told:
    """Tells what is done here as an event: who, to which row, which fields; never their values."""

    def tell(self, request, verb, subject, **detail):
        # By its name, since what every page shares does not import `jobs`.
        apps.get_model("jobs.Event").objects.tell(request.user, verb, subject, **detail)

    def log_addition(self, request, obj, message):
        self.tell(request, "added", named(obj), **_told(message))
        return super().log_addition(request, obj, message)

    def log_change(self, request, obj, message):
        if message:
            self.tell(request, "changed", named(obj), **_told(message))
        return super().log_change(request, obj, message)

    # Not in log_deletions, which comes before the deletion: an event comes last, so that nobody waits in a circle.
    def delete_model(self, request, obj):
        self.delete_queryset(request, type(obj).objects.filter(pk=obj.pk))

    def delete_queryset(self, request, queryset):
        with transaction.atomic():
            # Read once nobody else deletes them: of two at the same moment, one tells of each.
            names = [named(row) for row in queryset.select_for_update(of=("self",)).order_by("pk")]
            super().delete_queryset(request, queryset)
            for name in names:
                self.tell(request, "deleted", name)


def named(row):
    """A row as events name it, in the same words for everybody."""
    with translation.override(None):
        return f"{row._meta.verbose_name} {row}"


def _told(message):
    """{"fields": […], "added": […], …} of what Django's admin says that it did to a row and to those shown with it."""
    if not isinstance(message, list):
        return {"did": str(message)}
    told = defaultdict(list)
    for part in message:
        for what, facts in part.items():
            if "object" in facts:
                fields = f" ({', '.join(facts['fields'])})" if "fields" in facts else ""
                told[what].append(f"{facts['name']} {facts['object']}{fields}")
            else:
                told["fields"] += facts.get("fields", [])
    return {what: rows for what, rows in told.items() if rows}


def tell_what_is_left(request, person, business=None):
    """What goes on of a person who may do less now: open jobs that they asked for, runs that they started."""
    # By their names, since what every page shares imports neither app.
    job, run = apps.get_model("jobs.Job"), apps.get_model("releases.Run")
    of_jobs = {"status__in": job.OPEN, "requester__id__exact": person.pk}
    of_runs = {"ended_at__isnull": True, "started_by__id__exact": person.pk}
    if business:
        of_jobs["business__id__exact"] = of_runs["stage__job__business__id__exact"] = business.pk
    jobs, runs = job.objects.filter(**of_jobs).count(), run.objects.filter(**of_runs).count()
    if jobs or runs:
        words = _("Open jobs that {person} asked for: {jobs}. Runs of theirs that go on: {runs}.")
        links = {"jobs": link_to_list(job, jobs, **of_jobs), "runs": link_to_list(run, runs, **of_runs)}
        messages.warning(request, format_html(words, person=person, **links))


class Autocomplete(AutocompleteSelect):
    """Django's own looks a posted value up as it is, and breaks on one that is no id.

    `chosen` is the row that is chosen already, where it was read with others.
    """

    chosen = None

    def optgroups(self, name, value, attr=None):
        if self.chosen and value == [str(self.chosen.pk)]:
            return [(None, [self.create_option(name, self.chosen.pk, str(self.chosen), True, 0)], 0)]
        return super().optgroups(name, [pk for pk in value if ID.fullmatch(str(pk))], attr)


class WithAutocomplete:
    """For an admin that has `autocomplete_fields`."""

    def formfield_for_foreignkey(self, db_field, request, **kwargs):
        if db_field.name in self.autocomplete_fields:
            kwargs["widget"] = Autocomplete(db_field, self.admin_site)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)
