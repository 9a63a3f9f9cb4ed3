"""The admin for ops: people here, what is released in `jobs.admin` and `releases.admin`; and what those two share."""

import re
from collections import defaultdict
from urllib.parse import urlencode

import axes.admin
import django_otp.plugins.otp_static.admin
import django_otp.plugins.otp_totp.admin  # noqa: F401
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.apps import apps
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.widgets import AutocompleteSelect
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm, SetUnusablePasswordMixin, UserChangeForm
from django.contrib.auth.models import Group
from django.contrib.auth.views import redirect_to_login
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import DataError, IntegrityError, NotSupportedError, connection, transaction
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import translation
from django.utils.html import format_html, format_html_join
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop, ngettext
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice

from deploy_portal.based_on import BasedOnForm
from deploy_portal.models import User
from deploy_portal.templatetags.portal import inert
from deploy_portal.validators import printable_line
from deploy_portal.views.login import log_out
from deploy_portal.words import enumerated

ID = re.compile("[0-9]{1,18}")
MAY = {"add": _("can add"), "change": _("can change"), "delete": _("can delete"), "view": _("can view")}
# Staff who could give these to somebody could make themselves ops.
GIVEN_BY_OPS = ["is_superuser", "is_staff", "user_permissions"]


def log_in(request, extra_context=None):
    """The portal has one login page; who is logged in and still comes here may not see the admin."""
    if not request.user.is_authenticated:
        return redirect_to_login(request.GET.get("next") or reverse("admin:index"))
    if not admin.site.has_permission(request):
        raise PermissionDenied(_("The admin is for ops."))
    return redirect("admin:index")


def change_password(request, extra_context=None):
    """The portal has one page for this too: it counts wrong passwords and tells it as an event."""
    return redirect("change_password")


admin.site.site_title = "Deploy Portal"
admin.site.index_title = _("Admin")
admin.site.login = log_in
admin.site.logout = log_out
admin.site.password_change = change_password
apps.get_app_config("axes").verbose_name = _("Failed logins")
# axes has no Chinese: its own words are marked here for the portal's catalogue.
gettext_noop("access attempt"), gettext_noop("access attempts"), gettext_noop("Locked Out")
gettext_noop("IP Address"), gettext_noop("Attempt Time"), gettext_noop("Failed Logins")
AccessAttempt.__str__ = lambda attempt: f"{inert(attempt.username or '')} · {attempt.ip_address}"
# Importing their admin modules has registered these: groups are not used, attempts get a page of their own below,
# and the secret of a second factor is its person's alone.
admin.site.unregister([Group, AccessAttempt, AccessFailureLog, AccessLog, StaticDevice, TOTPDevice])


def link(url, text):
    return format_html('<a href="{}">{}</a>', url, text)


def link_to_list(model, text, **lookups):
    """A link to the rows of `model` that match `lookups`."""
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return link(f"{url}?{urlencode(lookups)}", text)


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
        return super().get_search_results(request, queryset, search_term.replace("\0", ""))

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
        names = [named(row) for row in queryset]
        with transaction.atomic():
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


class Autocomplete(AutocompleteSelect):
    """Django's own looks a posted value up as it is, and breaks on one that is no id."""

    def optgroups(self, name, value, attr=None):
        return super().optgroups(name, [pk for pk in value if ID.fullmatch(str(pk))], attr)


class WithAutocomplete:
    """For an admin that has `autocomplete_fields`."""

    def formfield_for_foreignkey(self, db_field, request, **kwargs):
        if db_field.name in self.autocomplete_fields:
            kwargs["widget"] = Autocomplete(db_field, self.admin_site)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)


class UserForm(BasedOnForm, UserChangeForm):
    """A person, by a name that looks like what it is."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # Staff who may only look get a form without fields.
        for name in self.fields.keys() & {"first_name", "last_name"}:
            self.fields[name].validators.append(printable_line)
        if "user_permissions" in self.fields:
            permissions = self.fields["user_permissions"]
            permissions.queryset = permissions.queryset.filter(content_type__in=_shown_here())
            permissions.label_from_instance = _permission_in_words


def _shown_here():
    """The content types of what has a page here, or rows on one: a permission on anything else would do nothing."""
    pages = [admin.site.get_model_admin(model) for model in apps.get_models() if admin.site.is_registered(model)]
    models = {page.model for page in pages} | {inline.model for page in pages for inline in page.inlines}
    return ContentType.objects.get_for_models(*models).values()


def _permission_in_words(permission):
    """In the reader's language; the name that Django keeps of it is in English."""
    may = MAY.get(permission.codename.partition("_")[0])
    return f"{permission.content_type} | {may}" if may else str(permission)


class PasswordForm(AdminPasswordChangeForm):
    """A password that ops set; like every other it ends the sessions that were begun with the one before."""

    # Django's own is in English for everybody: it was put together before there was a reader.
    usable_password_help_text = format_lazy(
        '{}<ul id="id_unusable_warning" class="messagelist"><li class="warning">{}</li></ul>',
        SetUnusablePasswordMixin.usable_password_help_text,
        _("If disabled, the current password for this user will be lost."),
    )

    def save(self, commit=True):
        user = super().save(commit=False)
        if commit:
            # Nothing else of the row: it may just have been made inactive, or its sessions ended.
            user.save(update_fields=["password"])
        return user


@admin.register(User)
class UserAdmin(Told, UndoesNothing, CarefulAdmin, DjangoUserAdmin):
    form = UserForm
    change_password_form = PasswordForm
    list_display = ["username", "first_name", "last_name", "email", "is_active", "is_superuser", "last_login"]
    list_filter = ["is_active", "is_superuser", "is_staff"]
    fieldsets = [
        (None, {"fields": ["username", "password"]}),
        (_("Personal info"), {"fields": ["first_name", "last_name", "email"]}),
        (
            _("Permissions"),
            {
                "fields": ["is_active", "is_superuser", "is_staff"],
                "description": _("Ops have both the superuser and the staff status. Roles are given per business."),
            },
        ),
        (
            _("What staff who are not ops may do here"),
            {"classes": ["collapse"], "fields": ["user_permissions"]},
        ),
        (_("Important dates"), {"fields": ["last_login", "date_joined"]}),
    ]
    readonly_fields = ["last_login", "date_joined"]
    filter_horizontal = ["user_permissions"]
    actions = ["end_sessions", "reset_second_factor"]

    def get_queryset(self, request):
        """Staff who are not ops reach nobody who may enter the admin: whose password they set, they would be."""
        people = super().get_queryset(request)
        return people if request.user.is_ops else people.filter(is_superuser=False, is_staff=False)

    def get_readonly_fields(self, request, obj=None):
        return self.readonly_fields if request.user.is_ops else [*self.readonly_fields, *GIVEN_BY_OPS]

    def has_delete_permission(self, request, obj=None):
        """History names people, so they are made inactive instead."""
        return False

    @transaction.atomic
    def user_change_password(self, request, *args, **kwargs):
        """In one transaction with its event, which Django leaves out for this page alone."""
        return super().user_change_password(request, *args, **kwargs)

    def save_model(self, request, obj, form, change):
        super().save_model(request, obj, form, change)
        # For good: without this a cookie from before would be logged in again once the person is active again.
        if change and "is_active" in form.changed_data and not obj.is_active:
            obj.end_sessions()

    @admin.action(description=_("End all sessions"), permissions=["change"])
    def end_sessions(self, request, queryset):
        people = list(queryset)
        with transaction.atomic():
            for user in people:
                user.end_sessions()
            for user in people:
                self.tell(request, "signed_out", named(user))
        done = ngettext("All sessions of %(n)d person ended.", "All sessions of %(n)d people ended.", len(people))
        self.message_user(request, done % {"n": len(people)})

    @admin.action(description=_("Reset the second factor, and end all sessions"), permissions=["change"])
    def reset_second_factor(self, request, queryset):
        people = [user for user in queryset if user.second_factor]
        for user in people:
            user.remove_second_factor(request.user)
        done = ngettext("%(n)d second factor was reset.", "%(n)d second factors were reset.", len(people))
        self.message_user(request, done % {"n": len(people)})


@admin.register(AccessAttempt)
class AccessAttemptAdmin(Told, ReadOnlyAdmin):
    """Who has failed to log in; enough failures lock a name at an address, which ops can undo."""

    list_display = ["name", "ip_address", "attempt_time", "failures_since_start", "is_locked"]
    list_filter = [axes.admin.IsLockedOutFilter]
    search_fields = ["username", "ip_address"]
    fields = ["name", "ip_address", "attempt_time", "failures_since_start", "browser", "path"]
    actions = ["unlock"]

    @admin.display(description=_("Username"), ordering="username")
    def name(self, attempt):
        return inert(attempt.username or "")

    @admin.display(description=_("User Agent"))
    def browser(self, attempt):
        return inert(attempt.user_agent)

    @admin.display(description=_("Path"))
    def path(self, attempt):
        return inert(attempt.path_info)

    @admin.display(description=_("locked"), boolean=True)
    def is_locked(self, attempt):
        return attempt.failures_since_start >= settings.AXES_FAILURE_LIMIT

    def has_unlock_permission(self, request):
        return request.user.has_perm("axes.delete_accessattempt")

    @admin.action(description=_("Unlock: forget these failed logins"), permissions=["unlock"])
    def unlock(self, request, queryset):
        with transaction.atomic():
            attempts = list(queryset)
            queryset.delete()
            for attempt in attempts:
                self.tell(request, "unlocked", f"{attempt.username} from {attempt.ip_address}")
        names = sorted({inert(attempt.username) for attempt in attempts})
        self.message_user(request, _("May try again: %(names)s") % {"names": enumerated(names[:10])})
