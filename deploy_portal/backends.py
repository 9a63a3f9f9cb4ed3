"""What `authenticate` asks besides Django's own, so that wrong tries count for axes wherever they are made."""

from deploy_portal.models import User


class SecondFactorBackend:
    """The second step of a login: a code of whom the first step has let through, whose backend the session keeps."""

    def authenticate(self, request, username, code):
        user = User.objects.filter(username=username, is_active=True).first()
        return user if user and user.use_code(code) else None
