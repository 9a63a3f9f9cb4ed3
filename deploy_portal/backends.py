"""What logins need besides Django's own. A code goes by `authenticate`, so that wrong tries count for axes."""

from deploy_portal.models import User


class SecondFactorBackend:
    """The second step of a login: a code of whom the first step has let through, whose backend the session keeps."""

    def authenticate(self, request, username, code):
        user = User.objects.filter(username=username, is_active=True).first()
        return user if user and user.use_code(code) else None


class OnlyActive:
    """Before the backend of a library that leaves this to others: who was made inactive is out at once."""

    def get_user(self, user_id):
        user = super().get_user(user_id)
        return user if user and user.is_active else None
