"""The pages on which a person looks after their own account."""

from base64 import b32encode

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from deploy_portal import sessions
from deploy_portal.forms import ChangePasswordForm, ConfirmForm, UseCodeForm
from deploy_portal.models import Quota


@login_required
@require_safe
def account(request):
    roles = request.user.membership_set.select_related("business").order_by("business__name", "role")
    return render(request, "account/account.html", {"roles": roles})


@login_required
@require_POST
def sign_out_elsewhere(request):
    with transaction.atomic():
        request.user.end_sessions()
        # Nothing limits how often this is pressed, and no event is ever deleted: one a minute tells it.
        if not Quota.objects.take(f"sign-out of {request.user.pk}", 1):
            request.user.tell(request.user, "signed_out")
    update_session_auth_hash(request, request.user)
    messages.success(request, _("All your other sessions have ended."))
    return redirect("account")


@sensitive_post_parameters()
@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def change_password(request):
    if not request.user.has_usable_password():
        messages.error(request, _("Your password is not kept here. Change it where you log in."))
        return redirect("account")
    form = ChangePasswordForm(request, request.POST or None)
    if form.is_valid():
        with transaction.atomic():
            # Nothing else of the row: ops may just have changed it.
            form.save(commit=False).save(update_fields=["password"])
            request.user.tell(request.user, "changed", fields=["password"])
        update_session_auth_hash(request, request.user)
        messages.success(request, _("Your password is changed. All your other sessions have ended."))
        return redirect("account")
    return render(request, "account/password.html", {"form": form})


@sensitive_post_parameters()
@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def second_factor(request):
    """Sets a second factor up; where there is one, makes new backup codes or removes it."""
    return _keep(request) if request.user.second_factor else _set_up(request)


def _set_up(request):
    form = ConfirmForm(request, request.POST or None, user=request.user)
    if form.is_valid():
        request.session[sessions.SECOND_FACTOR] = True
        update_session_auth_hash(request, request.user)
        return render(request, "account/backup_codes.html", {"codes": form.backup_codes})
    app = request.user.offer_second_factor()
    context = {"form": form, "app": app, "secret": b32encode(app.bin_key).decode()}
    return render(request, "account/second_factor_new.html", context)


def _keep(request):
    form = UseCodeForm(request, request.POST or None, user=request.user)
    if not form.is_valid():
        return render(request, "account/second_factor.html", {"form": form})
    if request.POST.get("step") == "remove":
        request.user.remove_second_factor(request.user)
        request.session[sessions.SECOND_FACTOR] = False
        update_session_auth_hash(request, request.user)
        messages.success(request, _("Your second factor is removed. All your other sessions have ended."))
        return redirect("account")
    return render(request, "account/backup_codes.html", {"codes": request.user.new_backup_codes()})
