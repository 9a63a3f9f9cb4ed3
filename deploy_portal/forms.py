from django import forms
from django.contrib.auth import authenticate
from django.contrib.auth.forms import PasswordChangeForm
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

WRONG_CODE = _(
    "This code is wrong, was used before, or came too soon after a wrong one. Wait for the next one, then try again."
)


class CodeForm(forms.Form):
    """A code of an authenticator app, or a backup code."""

    code = forms.RegexField(
        r"^[0-9A-Za-z -]+$",
        label=_("Code"),
        max_length=40,
        error_messages={"invalid": _("A code has letters, digits and dashes only.")},
        widget=forms.TextInput(attrs={"class": "mono", "autocomplete": "one-time-code", "autofocus": True}),
    )

    def __init__(self, request, *args, user, **kwargs):
        super().__init__(*args, **kwargs)
        self.request, self.user = request, user


class UseCodeForm(CodeForm):
    """Uses a code up. Wrong ones count as wrong passwords do."""

    def clean_code(self):
        code = self.cleaned_data["code"]
        if not authenticate(self.request, username=self.user.get_username(), code=code):
            raise ValidationError(WRONG_CODE)
        return code

    def get_user(self):
        return self.user


class ConfirmForm(CodeForm):
    """Takes a new app into use."""

    def clean_code(self):
        self.backup_codes = self.user.confirm_second_factor(self.cleaned_data["code"])
        if not self.backup_codes:
            raise ValidationError(WRONG_CODE)


class ChangePasswordForm(PasswordChangeForm):
    """Wrong old passwords count as wrong logins do: a session that was left open is no place to guess it."""

    def __init__(self, request, *args, **kwargs):
        super().__init__(request.user, *args, **kwargs)
        self.request = request

    def clean_old_password(self):
        password = self.cleaned_data["old_password"]
        if authenticate(self.request, username=self.user.get_username(), password=password) != self.user:
            raise ValidationError(self.error_messages["password_incorrect"], code="password_incorrect")
        return password
