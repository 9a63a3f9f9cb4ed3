"""The admin for ops: people and failed logins here, what is released in `jobs.admin` and `releases.admin`."""

import axes.admin
import django_otp.plugins.otp_static.admin
import django_otp.plugins.otp_totp.admin  # noqa: F401
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm, SetUnusablePasswordMixin, UserChangeForm
from django.contrib.auth.models import Group
from django.contrib.auth.views import redirect_to_login
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop, ngettext
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice

from deploy_portal.admin_parts import CarefulAdmin, ReadOnlyAdmin, Told, UndoesNothing, named, tell_what_is_left
from deploy_portal.based_on import BasedOnForm
from deploy_portal.models import User
from deploy_portal.templatetags.portal import inert
from deploy_portal.validators import printable_line
from deploy_portal.views.login import log_out
from deploy_portal.words import enumerated

MAY = {"add": _("can add"), "change": _("can change"), "delete": _("can delete"), "view": _("can view")}
# What makes somebody ops who may enter the admin.
OPS = {"is_active": True, "is_superuser": True, "is_staff": True}
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

    def clean(self):
        super().clean()
        taken = [name for name in OPS if name in self.changed_data and not self.cleaned_data.get(name)]
        others = User.objects.filter(**OPS).exclude(pk=self.instance.pk)
        if taken and all(getattr(self.instance, name) for name in OPS) and not others.exists():
            self.add_error(taken[0], _("There would be no ops left: make somebody else ops first."))


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

    def get_object(self, request, object_id, from_field=None):
        """Ops are changed by one at a time: two who take it from each other would leave nobody."""
        if request.method == "POST" and connection.in_atomic_block:
            list(User.objects.select_for_update(no_key=True).filter(**OPS).order_by("pk").values_list("pk"))
        return super().get_object(request, object_id, from_field)

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
            tell_what_is_left(request, obj)

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
            attempts = list(queryset.select_for_update().order_by("pk"))
            queryset.delete()
            for attempt in attempts:
                self.tell(request, "unlocked", f"{attempt.username} from {attempt.ip_address}")
        names = sorted({inert(attempt.username) for attempt in attempts})
        self.message_user(request, _("May try again: %(names)s") % {"names": enumerated(names[:10])})
